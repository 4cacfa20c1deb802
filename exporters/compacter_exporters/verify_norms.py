"""Verification of the norms: the gains and biases consumed are the adapter's, and the nodes compute N with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from compacter_core.adapter import Adapter, Array
from compacter_core.gains import consumed_overrides
from compacter_core.vocabulary import OverrideKind
from compacter_exporters.checks import Check, Numbers, check_norm, check_rms_norm, failed
from compacter_exporters.fused.bounds import fused_sum_error
from compacter_exporters.fused.skip_norms import fused_sum
from compacter_exporters.graph import Slot
from compacter_exporters.located import LocatedSite
from compacter_exporters.norms import Norm


@dataclass(frozen=True, slots=True, eq=False)
class NormVerifier:
    """The norms of a grafted graph that the adapter replaces or that follow its sites.

    Args:
        adapter: the adapter.
        norms: the norms by module name; a second copy behind a placement that needs one has its own entry.
        problems: what is wrong with the norms as a whole, by a name for it.
        dtype: the type that the sites' linear layers compute in, if any site is there.
    """

    adapter: Adapter
    norms: Mapping[str, tuple[str, Norm]]
    problems: Mapping[str, str]
    dtype: ir.DataType | None

    @classmethod
    def of(cls, adapter: Adapter, norms: Sequence[Norm], sites: Mapping[str, LocatedSite]) -> "NormVerifier":
        """Name the graph's norms by their position, after setting the copies aside that a placement adds."""
        copies = {id(site.norms[1]): site_id for site_id, site in sites.items() if len(site.norms) > 1}
        originals = [norm for norm in norms if id(norm) not in copies]
        names = () if adapter.config.backbone is None else adapter.config.backbone.norms
        replaced = {
            override.name.rpartition(".")[0]
            for override in adapter.config.overrides
            if override.kind is OverrideKind.NORM
        }
        problems: dict[str, str] = {}
        if len(originals) != len(names):
            if replaced:
                problems["all"] = f"{len(originals)} norms in the graph instead of {len(names)}"
            names = tuple(f"number {index}" for index in range(len(originals)))
        name_of = {id(norm): name for norm, name in zip(originals, names, strict=True)}
        wanted: dict[str, tuple[str, Norm]] = {
            name: (name, norm) for norm, name in zip(originals, names, strict=True) if name in replaced
        }
        for site_id, site in sites.items():
            expected = _expected(adapter, site_id)
            module = name_of[id(site.norms[0])] if site.norms else expected
            if site.norms and not problems and expected is not None and module != expected:
                problems[f"of {site_id}"] = f"{module} follows the site instead of {expected}"
            for norm in site.norms:
                key = str(module) if id(norm) not in copies else f"{module} (behind {site_id})"
                wanted[key] = (str(module), norm)
        dtype = next((site.linear.dtype for site in sites.values()), None)
        return cls(adapter, wanted, problems, dtype)

    def values(self) -> list[ir.Value]:
        """The values to observe."""
        return [value for _, norm in self.norms.values() for value in (norm.input, norm.output, *_summands(norm))]

    def checks(self, run: Mapping[str, Array]) -> dict[str, Check]:
        """The checks of every norm."""
        checks = {name: Check(problem=problem) for name, problem in self.problems.items()}
        return checks | {key: self._check(module, norm, run) for key, (module, norm) in self.norms.items()}

    def _check(self, module: str, norm: Norm, run: Mapping[str, Array]) -> Check:
        overrides = consumed_overrides(self.adapter)
        gain, gain_ok = _consumed(norm.gain, overrides.get(f"{module}.weight"))
        bias, bias_ok = (None, True) if norm.bias is None else _consumed(norm.bias, overrides.get(f"{module}.bias"))
        # A model in half precision may normalise in single, but what enters and leaves is stored in half.
        numbers = Numbers.of(self.dtype or norm.gain.constant.dtype)
        x, output = run[str(norm.input.name)], run[str(norm.output.name)]
        error = _input_error(norm, run, numbers)
        if norm.is_centred:
            check = check_norm(x, output, numbers, gain=gain, bias=bias, eps=norm.epsilon, error=error)
        else:
            check = check_rms_norm(x, output, numbers, gain=gain, eps=norm.epsilon, error=error)
        if not gain_ok:
            return failed(check, "the gain is not the adapter's")
        return check if bias_ok else failed(check, "the bias is not the adapter's")


def _summands(norm: Norm) -> list[ir.Value]:
    """Residual and addend, where the sum that the norm reads is within the same fused operator."""
    node = norm.input.producer()
    return (
        [] if node is None or fused_sum(norm.input) is None else [value for value in node.inputs if value is not None]
    )


def _input_error(norm: Norm, run: Mapping[str, Array], numbers: Numbers) -> Array | float:
    """How far what the norm reads may be off from the value observed in its place."""
    summands = [run[str(value.name)].astype(np.float64) for value in _summands(norm)]
    if not summands:
        return 0.0
    rounding = numbers.roundoff * np.abs(run[str(norm.input.name)].astype(np.float64))
    return fused_sum_error(summands[0], summands[1], fused_sum(norm.input), numbers) + 2 * rounding


def _consumed(slot: Slot, override: Array | None) -> tuple[Array, bool]:
    """The constant a norm consumes, flat, and whether it is the override rounded to the graph's type."""
    constant = slot.constant.exact().reshape(-1)
    return constant, override is None or np.array_equal(constant, override.astype(constant.dtype))


def _expected(adapter: Adapter, site_id: str) -> str | None:
    backbone = adapter.config.backbone
    modules = None if backbone is None else backbone.modules.get(site_id)
    return None if modules is None else modules.norm
