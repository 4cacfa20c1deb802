"""Verification of the sites: each adapter, the bias before it and the residual sums behind it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from compacter_core.adapter import Adapter, Array, DType, SiteParameters
from compacter_core.errors import CompacterError
from compacter_core.format.sketch import bias_name, sketch_bias, sketch_indices
from compacter_core.layout import Part
from compacter_core.vocabulary import NormStyle
from compacter_exporters.checks import (
    Check,
    Numbers,
    check_bias_first,
    check_column,
    check_dissolved,
    check_folded,
    check_plain,
    check_sum,
    failed,
)
from compacter_exporters.dissolving import DissolvedLinear
from compacter_exporters.forms import Form
from compacter_exporters.fused.bounds import fused_sum_error
from compacter_exporters.located import LocatedSite, Sum, locate
from compacter_exporters.norms import Norm
from compacter_exporters.sites import FoundSite


@dataclass(frozen=True, slots=True, eq=False)
class SiteVerifier:
    """The sites of a grafted graph.

    Args:
        adapter: the adapter.
        located: the sites that are there.
        problems: what is wrong with those that are not.
    """

    adapter: Adapter
    located: Mapping[str, LocatedSite]
    problems: Mapping[str, str]

    @classmethod
    def of(
        cls, found: Mapping[str, FoundSite], adapter: Adapter, norms: Sequence[Norm], norm_style: NormStyle
    ) -> "SiteVerifier":
        """Find each site's adapter in the graph."""
        located: dict[str, LocatedSite] = {}
        problems: dict[str, str] = {}
        for site_id, one in found.items():
            try:
                located[site_id] = locate(one, adapter.config.attach_of(one.site), norms, norm_style)
            except CompacterError as error:
                problems[site_id] = str(error)
        return cls(adapter, located, problems)

    def forms(self) -> dict[str, str]:
        """The form of each site."""
        return {name: _form(site, self.adapter.site(name)).value for name, site in self.located.items()}

    def values(self) -> list[ir.Value]:
        """The values to observe."""
        wanted: list[ir.Value] = []
        for site in self.located.values():
            wanted += [site.x, site.skip, site.output]
            for one in site.sums:
                wanted += [one.total, one.residual, one.addend]
        return wanted

    def checks(self, run: Mapping[str, Array]) -> dict[str, Check]:
        """The checks of every site, in the adapter's order."""
        checks = {}
        for site in self.adapter.config.sites:
            located = self.located.get(site.id)
            checks[site.id] = (
                Check(problem=self.problems[site.id]) if located is None else self._check(site.id, located, run)
            )
        return checks

    def sum_checks(self, run: Mapping[str, Array]) -> dict[str, Check]:
        """The checks of every site's residual sums."""
        return {
            site_id: Check.worst(_check_sum(one, run, Numbers.of(located.linear.dtype)) for one in located.sums)
            for site_id, located in self.located.items()
            if located.sums
        }

    def _check(self, site_id: str, located: LocatedSite, run: Mapping[str, Array]) -> Check:
        parameters = self.adapter.site(site_id)
        numbers = Numbers.of(located.linear.dtype)
        x, skip, output = (run[str(value.name)] for value in (located.x, located.skip, located.output))
        bias, rounding = _bias(located, parameters, numbers)
        if isinstance(located.linear, DissolvedLinear):
            check = check_dissolved(parameters, x, located.linear, output, numbers)
        elif located.column is not None:
            check = check_column(parameters, x, bias, output, numbers)
        elif located.is_folded:
            check = check_folded(parameters, x, bias, output, numbers, absorbed=located.absorbed)
        elif located.is_bias_first(parameters):
            check = check_bias_first(parameters, x, output, numbers)
        else:
            check = check_plain(parameters, x, skip, output, numbers)
        if not self._bias_agrees(site_id, bias, rounding, numbers):
            return failed(check, "the bias before the adapter is not the backbone's")
        return check

    def _bias_agrees(self, site_id: str, bias: Array, rounding: Array, numbers: Numbers) -> bool:
        """Whether the backbone's bias at the site is the sketched one, or its replacement, up to rounding."""
        backbone = self.adapter.config.backbone
        modules = None if backbone is None else backbone.modules.get(site_id)
        override = None if modules is None else self.adapter.part(Part.OVERRIDE).get(f"{modules.linear}.bias")
        sketch = self.adapter.sketches.get(bias_name(site_id)) if override is None else sketch_bias(override)
        if sketch is None:
            return True
        expected = sketch.astype(np.float64)
        where = sketch_indices(bias.shape)
        # Both the sketch, which is float32, and the graph hold the bias rounded.
        roundoff = numbers.roundoff + DType.F32.roundoff
        allowed = rounding[where] + roundoff * np.abs(expected) + numbers.storage.smallest_normal
        return bool(np.all(np.abs(bias[where] - expected) <= allowed))


def _form(located: LocatedSite, site: SiteParameters) -> Form:
    if isinstance(located.linear, DissolvedLinear):
        return Form.DISSOLVED
    if not located.is_folded:
        return Form.BIAS_FIRST if located.is_bias_first(site) else Form.PLAIN
    if located.column is not None:
        return Form.COLUMN
    return Form.FOLD if located.absorbed is None else Form.BIAS_LAST


def _check_sum(one: Sum, run: Mapping[str, Array], numbers: Numbers) -> Check:
    residual, addend, total = (run[str(value.name)] for value in (one.residual, one.addend, one.total))
    error = fused_sum_error(residual.astype(np.float64), addend.astype(np.float64), one.fused, numbers)
    return check_sum(residual, addend, total, numbers, error=error)


def _bias(located: LocatedSite, parameters: SiteParameters, numbers: Numbers) -> tuple[Array, Array]:
    """The bias of the sublayer's linear layer in float64, and how far reading it back from a constant may be off."""
    width = located.linear.weight.shape[1]
    if isinstance(located.linear, DissolvedLinear):
        return located.linear.bias_or_zero, located.linear.bias_error
    is_first = located.is_bias_first(parameters)
    if not located.is_folded and not is_first:
        return located.linear.bias_or_zero.astype(np.float64), np.zeros(width)
    constant = located.linear.bias if is_first else located.constant(parameters)
    constant = np.zeros(width) if constant is None else constant.astype(np.float64)
    bu = np.zeros(width) if parameters.up.b is None else parameters.up.b.astype(np.float64) * parameters.scaling
    # The constant c is round(bu + b), so |c - (bu + b)| <= u |bu + b| <= u |c| / (1 - u) < 2 u |c|.
    return constant - bu, 2 * numbers.roundoff * np.abs(constant)
