"""Does a grafted model compute, at every site, what the reference computes?

Every site is found again by its weight sketch and its adapter by the graph's structure; nothing the graft wrote down is
believed. Then the model runs in ONNX Runtime with the values around each site as further outputs, and each is compared
with the NumPy reference in float64 within its derived bound: adapters, residual sums, norms and the head. A last run of
the model as it is must agree with the instrumented one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from compacter_core.adapter import Adapter, Array, DType
from compacter_core.format.reader import load_adapter
from compacter_core.vocabulary import NormStyle
from compacter_exporters.checks import Check, Numbers
from compacter_exporters.graph import load_graph
from compacter_exporters.linears import find_linears
from compacter_exporters.norms import find_norms
from compacter_exporters.probe import random_inputs, run_model, run_with
from compacter_exporters.sites import find_sites
from compacter_exporters.verify_head import HeadVerifier
from compacter_exporters.verify_norms import NormVerifier
from compacter_exporters.verify_sites import SiteVerifier

AGREEMENT: Final = 2e-5
"""How far two runs of an fp32 model, differently fused, may be apart, relative to the largest output: what the project
demands of a merged model against PyTorch. Other types in proportion to their roundoff."""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was compared.

    Args:
        adapter: the adapter's name.
        forms: form of each site, as the graph shows it.
        sites: each site's adapter, and the bias it stands behind.
        sums: each site's residual sums, which carry the adapter's output on; at most one rounding, so close to 1.
        norms: each norm of an adapted sublayer and each replaced one, by module name.
        head: each layer of the head.
        agreement: the model as it is against the instrumented one; the ratio is to the limit.
        inputs: shape of each random input.
        seed: they were drawn with.
    """

    adapter: str
    forms: Mapping[str, str]
    sites: Mapping[str, Check]
    sums: Mapping[str, Check]
    norms: Mapping[str, Check]
    head: Mapping[str, Check]
    agreement: Check
    inputs: Mapping[str, tuple[int, ...]]
    seed: int

    @property
    def ok(self) -> bool:
        """Whether every check passes."""
        return all(check.ok for _, check in self.checks())

    def checks(self) -> Iterator[tuple[str, Check]]:
        """Every check with a name that says what was checked."""
        groups = {"site": self.sites, "residual sum": self.sums, "norm": self.norms, "head": self.head}
        for kind, group in groups.items():
            for name, check in group.items():
                yield f"{kind} {name}", check
        yield "plain session", self.agreement

    def failures(self) -> list[str]:
        """The names of the checks that fail."""
        return [name for name, check in self.checks() if not check.ok]

    def as_dict(self) -> dict[str, object]:
        """The report as JSON-compatible fields."""
        return {
            "ok": self.ok,
            "adapter": self.adapter,
            "sites": {name: {"form": self.forms.get(name)} | check.as_dict() for name, check in self.sites.items()},
            "sums": {name: check.as_dict() for name, check in self.sums.items()},
            "norms": {name: check.as_dict() for name, check in self.norms.items()},
            "head": {name: check.as_dict() for name, check in self.head.items()},
            "agreement": self.agreement.as_dict(),
            "inputs": {name: list(shape) for name, shape in self.inputs.items()},
            "seed": self.seed,
            "failures": self.failures(),
        }

    def as_text(self) -> str:
        """The report as a table, one line per check."""
        rows = list(self.checks())
        width = max(len(name) for name, _ in rows)
        lines = [f"{'check':<{width}}  {'max |error|':>11}  {'error/bound':>11}"]
        for name, check in rows:
            verdict = "" if check.ok else f"  FAILED {check.problem or ''}".rstrip()
            lines.append(f"{name:<{width}}  {check.error:>11.2e}  {check.ratio:>11.4f}{verdict}")
        failures = self.failures()
        lines.append(f"{len(rows) - len(failures)} of {len(rows)} checks passed")
        return "\n".join(lines)


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
        model: the .onnx file.
        adapter: the adapter, its file, or a directory of the hub profile.
        seed: of the random inputs.
        providers: execution providers; None for the CPU.
        batch: rows of the random inputs.
        length: tokens per row.

    Raises:
        CompacterError: E005; what reading an adapter raises; E401 or E604 for a model of another backbone; E701, E704.
    """
    loaded = adapter if isinstance(adapter, Adapter) else load_adapter(adapter)
    graph_model = load_graph(Path(model))
    graph = graph_model.graph
    inputs = random_inputs(graph, np.random.default_rng(seed), batch=batch, length=length)
    found = find_sites(find_linears(graph), loaded)
    in_order = find_norms(graph)
    backbone = loaded.config.backbone
    norm_style = NormStyle.POST if backbone is None else backbone.norm_style
    sites = SiteVerifier.of(found, loaded, in_order, norm_style)
    norms = NormVerifier.of(loaded, in_order, sites.located)
    head = HeadVerifier.of(graph, loaded)
    wanted = [*sites.values(), *norms.values(), *head.values()]
    folder = Path(model).parent
    probed = run_with(graph_model, folder, inputs, wanted, providers)
    names = [str(output.name) for output in graph.outputs]
    plain = run_model(Path(model), inputs, names, providers)
    numbers = Numbers.of(next(iter(found.values())).linear.dtype)
    return VerifyReport(
        adapter=loaded.config.name,
        forms=sites.forms(),
        sites=sites.checks(probed),
        sums=sites.sum_checks(probed),
        norms=norms.checks(probed),
        head=head.checks(probed),
        agreement=_agreement(plain, probed, numbers),
        inputs={name: array.shape for name, array in inputs.items()},
        seed=seed,
    )


def _agreement(plain: Mapping[str, Array], probed: Mapping[str, Array], numbers: Numbers) -> Check:
    """The largest difference between the outputs of two runs, relative to the largest output."""
    limit = AGREEMENT * numbers.roundoff / DType.F32.roundoff
    checks = []
    for name, array in plain.items():
        if not np.issubdtype(array.dtype, np.floating):
            continue
        scale = np.abs(array.astype(np.float64)).max(initial=0.0)
        checks.append(Check.of(array, probed[name].astype(np.float64), np.full(array.shape, limit * scale)))
    return Check.worst(checks)
