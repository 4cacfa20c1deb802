"""Does a grafted model compute, at every site, what the reference computes?

Every site is found again by its weight sketch and its adapter by the graph's structure; nothing the graft wrote down is
believed. Then the model runs in ONNX Runtime with the values around each site as further outputs, and each is compared
with the NumPy reference in float64 within its derived bound: adapters, residual sums, norms and the head. A last run of
the model as it is must agree with the instrumented one. Branches of a model are verified one by one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnx_ir as ir

from compacter_core.adapter import Adapter
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.reader import load_adapter
from compacter_core.vocabulary import NormStyle
from compacter_exporters.agreement import AGREEMENT, agreement
from compacter_exporters.calls import inline_calls
from compacter_exporters.checks import Numbers
from compacter_exporters.dissolving import undissolved_linears
from compacter_exporters.folding import fold_factors
from compacter_exporters.fused.apart import observe, take_apart
from compacter_exporters.graph import load_graph
from compacter_exporters.linears import find_linears
from compacter_exporters.linkage.verify import values_named
from compacter_exporters.linkage.verify_open import takes_adapters, verify_open
from compacter_exporters.metadata import refuse_exported
from compacter_exporters.present import Present, present_in, require_all
from compacter_exporters.probe import random_inputs, run_twice
from compacter_exporters.regions import Region, inline, regions_of
from compacter_exporters.verify_head import HeadVerifier
from compacter_exporters.verify_norms import NormVerifier
from compacter_exporters.verify_report import VerifyReport, joined
from compacter_exporters.verify_sites import SiteVerifier

__all__ = ["AGREEMENT", "VerifyReport", "verify", "verify_all"]


@dataclass(frozen=True, slots=True)
class _Run:
    """How a model is run; arguments of `verify`."""

    providers: Sequence[str] | None
    seed: int
    batch: int
    length: int


def verify(
    model: Path,
    adapter: Path | Adapter,
    *,
    seed: int = 0,
    providers: Sequence[str] | None = None,
    batch: int = 2,
    length: int = 8,
) -> VerifyReport:
    """Compare a grafted model with the reference.

    Args:
        model: the .onnx file, or a directory of them that hold the adapter together, as an encoder-decoder's do. A
            model that takes adapters at run time is given this one.
        adapter: the adapter, its file, or a directory of the hub profile.
        seed: of the random inputs.
        providers: execution providers; None for the CPU.
        batch: rows of the random inputs.
        length: tokens per row.

    Raises:
        CompacterError: E005; what reading an adapter raises; E401 or E604 for a model of another backbone; E601 for one
            that was exported with its adapter inside; E701, E704.
    """
    return verify_all(model, [adapter], seed=seed, providers=providers, batch=batch, length=length)


def verify_all(
    model: Path,
    adapters: Sequence[Path | Adapter],
    *,
    seed: int = 0,
    providers: Sequence[str] | None = None,
    batch: int = 2,
    length: int = 8,
) -> VerifyReport:
    """Compare a model with the reference for several adapters; arguments and errors as `verify`.

    Raises:
        CompacterError: E001 for several adapters and a model that has one inside.
    """
    path = Path(model)
    loaded, *others = [one if isinstance(one, Adapter) else load_adapter(one) for one in adapters]
    if takes_adapters(path):
        return verify_open(path, [loaded, *others], seed=seed, providers=providers, batch=batch, length=length)
    if others:
        raise CompacterError(
            ErrorCode.E001, "the model has one adapter inside", value=len(adapters), expected="one --adapter"
        )
    run = _Run(providers, seed, batch, length)
    regions: list[Region] = []
    present: list[Present] = []
    reports: dict[str, VerifyReport] = {}
    for file in sorted(path.glob("*.onnx")) if path.is_dir() else [path]:
        graph = _load(file)
        fold_factors(graph)
        within = regions_of(graph)
        take_apart(graph)
        found = present_in(within, loaded, linears=partial(undissolved_linears, adapter=loaded))
        regions += within
        present += found
        names = {id(one): " ".join(filter(None, (file.stem, one.label))) for one in found}
        reports |= {names[id(one)]: _verify_region(file, one, loaded, run) for one in found}
    require_all(regions, present, loaded)
    return joined(reports)


def _load(file: Path) -> ir.Model:
    """A grafted model, with what a function computes in the place of its calls."""
    model = load_graph(file)
    refuse_exported(model, file)
    inline_calls(model)
    return model


def _verify_region(file: Path, present: Present, whole: Adapter, run: _Run) -> VerifyReport:
    """Compare one graph of a model. A branch is verified in a copy of the model that always takes it."""
    model, real = _load(file), _load(file)
    fold_factors(model)
    chosen = inline(model, present.region.path)
    inline(real, present.region.path)
    # Places are looked up where fused operators are taken apart; what is compared are the values of the model as it is.
    take_apart(model)
    observe(real)
    graph = model.graph
    here = present_in([Region(graph)], whole, linears=partial(undissolved_linears, adapter=whole))[present.call]
    drawn = random_inputs(real.graph, np.random.default_rng(run.seed), batch=run.batch, length=run.length)
    inputs = drawn | chosen
    backbone = here.adapter.config.backbone
    norm_style = NormStyle.POST if backbone is None else backbone.norm_style
    sites = SiteVerifier.of(here.sites, here.adapter, here.norms, norm_style)
    norms = NormVerifier.of(here.adapter, here.norms, sites.located)
    head = HeadVerifier.of(graph, here.adapter)
    wanted = [*sites.values(), *norms.values(), *head.values()]
    names = {str(value.name) for value in wanted}
    plain, probed = run_twice(real, file, inputs, values_named(real.graph, names), run.providers)
    numbers = Numbers.coarsest(linear.dtype for linear in find_linears(graph))
    return VerifyReport(
        adapter=whole.config.name,
        forms=sites.forms(),
        sites=sites.checks(probed),
        sums=sites.sum_checks(probed),
        norms=norms.checks(probed),
        head=head.checks(probed),
        agreement=agreement(plain, probed, numbers),
        inputs={name: array.shape for name, array in inputs.items()},
        seed=run.seed,
    )
