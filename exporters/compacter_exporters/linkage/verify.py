"""Does an open graph compute, with an adapter given to it, what the reference computes?

As for a merged graph: sites are found by their sketches and everything else by structure, the graph runs in ONNX
Runtime with the values around each site as further outputs, and each is compared with the reference within its derived
bound.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from compacter_core.adapter import Adapter, Array, DType, SiteParameters
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.sketch import bias_name, is_sketched
from compacter_core.layout import Part
from compacter_core.reference.adapter import forward
from compacter_core.reference.bounds import fold_bound, forward_bound
from compacter_core.reference.rounding import SLACK, Precision, float64_site
from compacter_core.vocabulary import NormStyle
from compacter_exporters.agreement import agreement
from compacter_exporters.checks import Check, Numbers, check_plain, failed
from compacter_exporters.linears import find_linears
from compacter_exporters.linkage.static import BeforeBias, unfold
from compacter_exporters.located import LocatedSite
from compacter_exporters.present import Present, present_in
from compacter_exporters.regions import Region
from compacter_exporters.sites import find_calls
from compacter_exporters.verify_head import HeadVerifier
from compacter_exporters.verify_norms import NormVerifier
from compacter_exporters.verify_report import VerifyReport
from compacter_exporters.verify_sites import SiteVerifier

BEFORE_BIAS = "before_bias"


@dataclass(frozen=True, slots=True)
class Probe:
    """Which graph is run, and on what.

    Args:
        model: the .onnx file.
        path: of the region in it, as in `Region`.
        seed: of the random inputs.
        providers: execution providers; None for the CPU.
        batch: rows; in a bank for each adapter, and as many without one.
        length: tokens per row.
    """

    model: Path
    path: tuple[tuple[int, str], ...]
    seed: int
    providers: Sequence[str] | None
    batch: int
    length: int


@dataclass(frozen=True, slots=True, eq=False)
class OpenVerifier:
    """An adapter in an open graph.

    Args:
        adapter: what of the adapter the graph holds.
        numbers: the coarsest types that a linear of the graph computes in.
        sites: its sites.
        before_bias: those of them whose adapter is added before the bias.
        norms: the norms.
        head: the head.
    """

    adapter: Adapter
    numbers: Numbers
    sites: SiteVerifier
    before_bias: Mapping[str, BeforeBias]
    norms: NormVerifier
    head: HeadVerifier

    @classmethod
    def of_calls(cls, graph: ir.Graph, whole: Adapter) -> dict[str, "OpenVerifier"]:
        """Find everything in a static copy of a graph that holds some stack of the adapter, by a name of each call."""
        early = [unfold(graph, call) for call in find_calls(find_linears(graph), whole)]
        calls = present_in([Region(graph)], whole)
        return {f"call {one.call + 1}": cls._of(graph, one, early[one.call]) for one in calls}

    @classmethod
    def _of(cls, graph: ir.Graph, here: Present, early: Mapping[str, BeforeBias]) -> "OpenVerifier":
        backbone = here.adapter.config.backbone
        norm_style = NormStyle.POST if backbone is None else backbone.norm_style
        sites = SiteVerifier.of(here.sites, here.adapter, here.norms, norm_style)
        norms = NormVerifier.of(here.adapter, here.norms, sites.located)
        numbers = Numbers.coarsest(linear.dtype for linear in find_linears(graph))
        return cls(here.adapter, numbers, sites, early, norms, HeadVerifier.of(graph, here.adapter))

    def names(self) -> set[str]:
        """The values to observe."""
        values = [*self.norms.values(), *self.head.values()]
        for site_id, located in self.sites.located.items():
            early = self.before_bias.get(site_id)
            values.append(located.output)
            values += [located.skip] if early is None else [early.product]
            values += [located.x] if early is None or not early.reads_product else []
            values += [value for one in located.sums for value in (one.total, one.residual, one.addend)]
        return {str(value.name) for value in values}

    def forms(self) -> dict[str, str]:
        """The form of each site."""
        return self.sites.forms() | dict.fromkeys(self.before_bias, BEFORE_BIAS)

    def report(
        self,
        plain: Mapping[str, Array],
        probed: Mapping[str, Array],
        inputs: Mapping[str, tuple[int, ...]],
        seed: int,
    ) -> VerifyReport:
        """What a run shows.

        Args:
            plain: the outputs of the graph as it is.
            probed: outputs and observed values.
            inputs: shapes of what was drawn.
            seed: with which seed.
        """
        return VerifyReport(
            adapter=self.adapter.config.name,
            forms=self.forms(),
            sites=self.site_checks(probed),
            sums=self.sites.sum_checks(probed),
            norms=self.norms.checks(probed),
            head=self.head.checks(probed),
            agreement=agreement(plain, probed, self.numbers),
            inputs=inputs,
            seed=seed,
        )

    def site_checks(self, run: Mapping[str, Array]) -> dict[str, Check]:
        """The checks of every site."""
        checks = {site_id: Check(problem=problem) for site_id, problem in self.sites.problems.items()}
        return checks | {site_id: self._check(site_id, one, run) for site_id, one in self.sites.located.items()}

    def _check(self, site_id: str, located: LocatedSite, run: Mapping[str, Array]) -> Check:
        site, numbers = self.adapter.site(site_id), Numbers.of(located.linear.dtype)
        early, output = self.before_bias.get(site_id), run[str(located.output.name)]
        if early is None:
            x, skip = run[str(located.x.name)], run[str(located.skip.name)]
            b = located.linear.bias_or_zero
            check = check_plain(site, x, skip, output, numbers)
        else:
            x = run[str((early.product if early.reads_product else located.x).name)]
            b = early.bias
            check = check_before_bias(site, x, run[str(early.product.name)], early, output, numbers=numbers)
        return check if self._is_backbone_bias(site_id, b) else failed(check, "the bias is not the backbone's")

    def _is_backbone_bias(self, site_id: str, b: Array) -> bool:
        """Whether a linear's bias is the sketched one, or its replacement."""
        backbone = self.adapter.config.backbone
        modules = None if backbone is None else backbone.modules.get(site_id)
        override = None if modules is None else self.adapter.part(Part.OVERRIDE).get(f"{modules.linear}.bias")
        if override is not None:
            return np.array_equal(override.astype(b.dtype), b)
        sketch = self.adapter.sketches.get(bias_name(site_id))
        return sketch is None or is_sketched(sketch, b)


def check_before_bias(
    site: SiteParameters, x: Array, m: Array, early: BeforeBias, output: Array, *, numbers: Numbers
) -> Check:
    """Check that output = h + delta(x), h = m + b, where the graph sums (m + delta) + b (LNK-4).

    Against the sum of h and delta in one rounding, the graph rounds the intermediate m + delta = y - b once more: with
    E the bound without it,

        E + (1 + u_s)(u_s (|y - b| + E) + eta).

    In (m + act(..) Wu') + (b + bu') the intermediate is y - b - bu' (LNK-21). bu' and its sum with b are rounded once
    each, and E counts two roundings of o = act(..) Wu + bu, which is smaller than act(..) Wu by up to |bu|: together
    at most G_4 (|b| + |bu'|), and one more underflow.

    Args:
        site: the adapter.
        x: what it reads; m itself where it reads the product, whose missing b its down-projection's bias carries.
        m: the linear's product.
        early: the bias, and what is read.
        output: o of the graph.
        numbers: types of the graph.
    """
    site, x, m, b = float64_site(site), x.astype(np.float64), m.astype(np.float64), early.bias.astype(np.float64)
    storage, accumulate = numbers.storage, numbers.accumulate
    h = m + b
    if early.reads_product:
        y = forward(site, h, h)
        bound = fold_bound(site, m, b, storage=storage, accumulate=accumulate, input_error=numbers.unseen(m))
    else:
        y = forward(site, x, h)
        bound = forward_bound(
            site,
            x,
            h,
            storage=storage,
            accumulate=accumulate,
            input_error=numbers.unseen(x),
            skip_error=numbers.unseen(m) + DType.F64.roundoff * np.abs(h),
        )
    u = numbers.roundoff
    bu = site.up.b * site.scaling if early.takes_up_bias and site.up.b is not None else np.zeros_like(b)
    more = (1 + u) * (u * (np.abs(y - b - bu) + bound) + storage.smallest_normal)
    if early.takes_up_bias:
        growth = Precision.of(storage, accumulate).growth(4)
        more += (1 + u) * (growth * (np.abs(b) + np.abs(bu)) + storage.smallest_normal)
    return Check.of(output, y, bound + SLACK * more)


def values_named(graph: ir.Graph, names: set[str]) -> list[ir.Value]:
    """The values of a graph with these names.

    Raises:
        CompacterError: E606 if one is not there.
    """
    by_name = {str(value.name): value for node in graph for value in node.outputs}
    # Constants too: DeBERTa norms its table of relative positions.
    by_name |= {str(value.name): value for value in graph.inputs} | dict(graph.initializers)
    missing = names - by_name.keys()
    if missing:
        raise CompacterError(ErrorCode.E606, "values of the open graph are missing", value=sorted(missing))
    return [by_name[name] for name in sorted(names)]
