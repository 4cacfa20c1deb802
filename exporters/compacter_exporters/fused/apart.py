"""Fused operators, taken apart while a graph is read and changed, and put together again before it is written.

Optimisers fuse the residual sum, a bias before it and the norm behind it into one SkipLayerNormalization, an activation
into a FusedGemm, and so on. A graft looks for linears, sums and norms, whatever they are fused with, and changes what
is between them. So it works on a copy in which the fused operators are the standard ones they stand for. Afterwards
those that are still there in the right order become the fused operator again: a graft into a backbone with n of them
leaves n.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import onnx_ir as ir

from compacter_exporters.fused.biased import BiasedProduct, BiasGelu
from compacter_exporters.fused.differences import Difference
from compacter_exporters.fused.embeddings import expose_sum, hide_sum
from compacter_exporters.fused.gemms import ActivatedGemm
from compacter_exporters.fused.pair_sums import PairSum
from compacter_exporters.fused.parts import FUSED, SUFFIXES, Origin, Rule, replace_uses
from compacter_exporters.fused.skip_norms import SkipNorm
from compacter_exporters.rewire import drop_unused

_RULES: Final[tuple[Rule, ...]] = (SkipNorm(), ActivatedGemm(), BiasedProduct(), BiasGelu(), PairSum(), Difference())


def take_apart(model: ir.Model, rules: Sequence[Rule] = _RULES) -> None:
    """Replace the fused operators of a model, its branches included, by those they stand for.

    Args:
        model: the model.
        rules: of the kinds to replace.
    """
    stems = _Stems(model)
    for graph, node, rule in _fused(model, rules):
        parts = rule.parts(node, stems.of(node))
        graph.insert_before(node, parts.nodes)
        inputs = tuple(node.inputs)
        parts.nodes[-1].meta[FUSED] = Origin(rule, node, inputs)
        for old, new in parts.results.items():
            replace_uses(graph, old, new)
        graph.remove(node, safe=True)
        for value in inputs:
            drop_unused(value)


def observe(model: ir.Model) -> None:
    """Give a model the values that `take_apart` would make, under the same names, and change nothing it computes."""
    stems = _Stems(model)
    for graph, node, rule in _fused(model, _RULES):
        graph.insert_before(node, rule.beside(node, stems.of(node)))


def put_together(model: ir.Model) -> None:
    """Undo `take_apart`, wherever the parts still have the shape that the fused operator takes."""
    for graph in model.graphs():
        for node in list(graph):
            origin = node.meta.pop(FUSED, None)
            if isinstance(origin, Origin):
                origin.rule.together(node, origin)
            hide_sum(node)


class _Stems:
    """Stems of names that the model does not use yet; the same for two copies of a model."""

    def __init__(self, model: ir.Model) -> None:
        self._taken = {value.name for node in model.graph.all_nodes() for value in node.outputs}

    def of(self, node: ir.Node) -> str:
        stem = str(node.outputs[0].name)
        while any(f"{stem}/{suffix}" in self._taken for suffix in SUFFIXES):
            stem += "/apart"
        return stem


def _fused(model: ir.Model, rules: Sequence[Rule]) -> Iterator[tuple[ir.Graph, ir.Node, Rule]]:
    for graph in model.graphs():
        for node in list(graph):
            expose_sum(node)
            for rule in rules:
                if rule.takes(node):
                    yield graph, node, rule
