"""The models of these tests, each made once, and the comparison of what they compute."""

from functools import cache
from pathlib import Path
from typing import Any, Final

import transformers
from torch import Tensor

from compacter_core.importers.adapterhub import from_adapterhub, save_adapterhub
from compacter_core.importers.result import ImportedAdapter
from compacter_core.pytorch import attach_adapter, detach
from compacter_core.pytorch.known_backbone import TransformersBackbone, open_backbone
from tests.interop_adapterhub.cases import ADAPTER_MODELS, MODELS, OTHERS, UNPREFIXED
from tests.interop_adapterhub.sources import LABELS, NAME, SHARED_FILE, Source, difference, run

RELATIVE_F32: Final = 2e-5
RELATIVE_F64: Final = RELATIVE_F32 * 2.0**-53 / 2.0**-24
"""The same number of roundoffs."""


class World:
    """Tiny models of AdapterHub and of transformers, in float64.

    Args:
        folder: where their backbones are saved.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.source = cache(self._source)
        self.plain = cache(self._plain)
        self.known = cache(self._known)

    def _source(self, model_class: str) -> Source:
        """A model in AdapterHub's hands."""
        return Source(self._folder / model_class, model_class, (MODELS | OTHERS | ADAPTER_MODELS)[model_class])

    def _plain(self, model_class: str, of: str | None = None) -> Any:
        """The same model without AdapterHub; a class of its own loads the backbone `of` another one."""
        return load_plain(self.source(of or model_class), model_class)

    def _known(self, model_class: str) -> TransformersBackbone:
        """What an importer may know of a model's backbone."""
        return open_backbone(self.source(model_class).backbone)

    def imported(self, model_class: str, directory: Path, options: Any = None) -> ImportedAdapter:
        """The adapter that a model was saved with; the shared tensors that AdapterHub then loses are supplied."""
        loses = model_class in UNPREFIXED and bool(getattr(options, "phm_layer", False))
        shared = directory.parent / SHARED_FILE if loses else None
        return from_adapterhub(directory, backbone=self.known(model_class), shared_parameters=shared)

    def check(self, model_class: str, options: Any, folder: Path, *, name: str = NAME) -> ImportedAdapter:
        """An adapter is saved, imported, and written for AdapterHub again: all three compute the same."""
        theirs, ours = self.source(model_class), self.plain(model_class)
        result = self.imported(model_class, theirs.save(folder, options, name=name), options)
        want = theirs.outputs()
        assert difference(want, outputs_with(ours, result, theirs.inputs)) <= RELATIVE_F64
        # The comparison can fail: without the adapter the outputs are far away.
        assert difference(want, run(ours, theirs.inputs)) > 1e3 * RELATIVE_F64
        save_adapterhub(result.adapter, folder / "back")
        assert difference(want, theirs.loaded(folder / "back", result.adapter.config.name)) <= RELATIVE_F64
        return result


def load_plain(source: Source, model_class: str) -> Any:
    """A model of transformers with the backbone's values, without an adapter."""
    labels = 2 if model_class.endswith("Answering") else LABELS
    model = getattr(transformers, model_class).from_pretrained(source.backbone, num_labels=labels)
    return model.eval().to(source.model.dtype)


def outputs_with(model: Any, result: ImportedAdapter, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a model computes with an imported adapter; it is as before afterwards."""
    attach_adapter(model, result.adapter)
    try:
        return run(model, inputs)
    finally:
        detach(model)
