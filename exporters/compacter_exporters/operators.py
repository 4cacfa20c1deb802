"""How many fused operators a model has: those that do in one node what an exporter writes in several."""

from collections import Counter
from pathlib import Path
from typing import Final

from compacter_exporters.graph import load_graph

CONTRIB: Final = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""

_STANDARD: Final = frozenset(
    {"Attention", "Gelu", "LayerNormalization", "RMSNormalization", "RotaryEmbedding", "SimplifiedLayerNormalization"}
)
"""Operators of the standard domain that exporters and optimisers also spell in several nodes."""


def count_fused(model: Path, *, besides: str | None = None) -> dict[str, int]:
    """The number of fused operators in a model, its branches included, by operator.

    These are ONNX Runtime's own (domain `com.microsoft`, quantised ones included) and those of the standard domain that
    stand for several simpler ones, such as LayerNormalization and Gelu.

    Args:
        model: the .onnx file. Its external data is not read.
        besides: nodes are left out whose first output has a name that begins so, as an adapter's do ("compacter/"):
            they would hide that the backbone lost some.

    Returns:
        Operator type to count, sorted by type; without types that do not occur.

    Raises:
        CompacterError: E005, as `load_graph`.
    """
    counts = Counter(
        node.op_type
        for node in load_graph(model).graph.all_nodes()
        if (node.domain == CONTRIB or (node.domain == "" and node.op_type in _STANDARD))
        and (besides is None or not str(node.outputs[0].name).startswith(besides))
    )
    return dict(sorted(counts.items()))
