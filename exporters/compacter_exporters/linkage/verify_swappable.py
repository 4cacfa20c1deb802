"""Verification of a swappable graph with one adapter given to it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from compacter_core.adapter import Adapter
from compacter_core.linkage.description import read_description
from compacter_core.linkage.swappable import swappable_tensors
from compacter_exporters.agreement import agreement
from compacter_exporters.checks import Numbers
from compacter_exporters.graph import load_graph
from compacter_exporters.linears import find_linears
from compacter_exporters.linkage.static import bind, choose_heads, unfold
from compacter_exporters.linkage.verify import OpenVerifier, values_named
from compacter_exporters.present import present_in, require_all
from compacter_exporters.probe import random_inputs, run_model, run_with
from compacter_exporters.regions import Region
from compacter_exporters.sites import find_stacks
from compacter_exporters.verify_report import VerifyReport


def verify_swappable(
    model: Path,
    adapter: Adapter,
    *,
    seed: int,
    providers: Sequence[str] | None,
    batch: int,
    length: int,
) -> VerifyReport:
    """Compare a swappable graph that is given an adapter with the reference; arguments as `verify`.

    Raises:
        CompacterError: as `verify`, and what giving the adapter to the graph raises.
    """
    real, copy = load_graph(model), load_graph(model)
    description = read_description(real.metadata_props)
    tensors = swappable_tensors(description, adapter)
    bind(copy.graph, tensors)
    choose_heads(copy.graph, tensors)
    early = unfold(copy.graph, find_stacks(find_linears(copy.graph), adapter))
    regions = [Region(copy.graph)]
    present = present_in(regions, adapter)
    require_all(regions, present, adapter)
    verifier = OpenVerifier.of(copy.graph, present[0], early)
    drawn = random_inputs(real.graph, np.random.default_rng(seed), batch=batch, length=length)
    inputs = drawn | tensors
    probed = run_with(real, model.parent, inputs, values_named(real.graph, verifier.names()), providers)
    plain = run_model(model, inputs, [str(output.name) for output in real.graph.outputs], providers)
    numbers = Numbers.of(next(iter(present[0].sites.values())).linear.dtype)
    return VerifyReport(
        adapter=adapter.config.name,
        forms=verifier.forms(),
        sites=verifier.site_checks(probed),
        sums=verifier.sites.sum_checks(probed),
        norms=verifier.norms.checks(probed),
        head=verifier.head.checks(probed),
        agreement=agreement(plain, probed, numbers),
        inputs={name: array.shape for name, array in drawn.items()},
        seed=seed,
    )
