"""The last step of an importer: tensors in one data type, checked, with sketches of the backbone."""

from collections.abc import Mapping

import numpy as np

from compacter_core.adapter import Adapter, Array, DType
from compacter_core.config import AdapterConfig
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.tensors import check_values
from compacter_core.importers.result import KnownBackbone


def assemble(
    config: AdapterConfig, tensors: Mapping[str, Array], dtype: DType, backbone: KnownBackbone | None
) -> Adapter:
    """The adapter, in memory of its own; without a backbone it has no sketches.

    Raises:
        CompacterError: E306 for a value that is not finite, E307 for a tensor that is replaced twice, and as
            `KnownBackbone.sketches`.
    """
    arrays = {name: np.array(array, dtype=dtype.memory, order="C") for name, array in tensors.items()}
    check_values(arrays)
    sketches = {} if backbone is None else backbone.sketches(config)
    return Adapter(config=config, tensors=arrays, sketches=sketches, dtype=dtype)


def require_backbone(backbone: KnownBackbone | None, what: str) -> KnownBackbone:
    """The backbone, which this importer cannot do without.

    Raises:
        CompacterError: E001 if there is none.
    """
    if backbone is None:
        raise CompacterError(
            ErrorCode.E001,
            f"{what} says nothing of the backbone's sizes and norms, so the backbone is needed",
            remedy="Give the model that the adapter was trained on (--backbone).",
        )
    return backbone
