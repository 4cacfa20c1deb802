"""What a verification found: every comparison with its error and the ratio to its bound."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from compacter_exporters.checks import Check

_Value = TypeVar("_Value")


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


def joined(reports: Mapping[str, VerifyReport]) -> VerifyReport:
    """One report of several graphs, by the graphs' names, with which every name in it begins if there are several."""
    first = next(iter(reports.values()))
    if len(reports) == 1:
        return first

    def together(group: Callable[[VerifyReport], Mapping[str, _Value]]) -> dict[str, _Value]:
        return {f"{graph}: {name}": value for graph, one in reports.items() for name, value in group(one).items()}

    return VerifyReport(
        adapter=first.adapter,
        forms=together(lambda one: one.forms),
        sites=together(lambda one: one.sites),
        sums=together(lambda one: one.sums),
        norms=together(lambda one: one.norms),
        head=together(lambda one: one.head),
        agreement=Check.worst(one.agreement for one in reports.values()),
        inputs=together(lambda one: one.inputs),
        seed=first.seed,
    )
