"""Verification of a swappable graph with one adapter given to it."""

import numpy as np

from compacter_core.adapter import Adapter
from compacter_core.linkage.description import read_description
from compacter_core.linkage.swappable import site_tensors, swappable_tensors
from compacter_exporters.calls import inline_calls
from compacter_exporters.folding import fold_factors
from compacter_exporters.fused.apart import observe, take_apart
from compacter_exporters.graph import load_graph
from compacter_exporters.linkage.static import bind, choose_heads
from compacter_exporters.linkage.verify import OpenVerifier, Probe, values_named
from compacter_exporters.probe import random_inputs, run_twice
from compacter_exporters.regions import inline
from compacter_exporters.verify_report import VerifyReport, joined


def verify_swappable(probe: Probe, adapter: Adapter) -> VerifyReport:
    """Compare one graph of a swappable model that is given an adapter with the reference.

    Raises:
        CompacterError: as `verify`, and what giving the adapter to the graph raises.
    """
    real, copy = load_graph(probe.model), load_graph(probe.model)
    for model in (real, copy):
        inline_calls(model)
    description = read_description(real.metadata_props)
    tensors = swappable_tensors(description, adapter)
    chosen = inline(real, probe.path)
    inline(copy, probe.path)
    take_apart(copy)
    observe(real)
    bind(copy.graph, tensors)
    own = site_tensors(description, adapter)
    fold_factors(copy, [own.get(site.id, {}) for site in description.template.sites])
    choose_heads(copy.graph, tensors)
    verifiers = OpenVerifier.of_calls(copy.graph, adapter)
    drawn = random_inputs(real.graph, np.random.default_rng(probe.seed), batch=probe.batch, length=probe.length)
    inputs = drawn | tensors | chosen
    names = set[str]().union(*(verifier.names() for verifier in verifiers.values()))
    plain, probed = run_twice(real, probe.model, inputs, values_named(real.graph, names), probe.providers)
    shapes = {name: array.shape for name, array in drawn.items()}
    return joined({call: one.report(plain, probed, shapes, probe.seed) for call, one in verifiers.items()})
