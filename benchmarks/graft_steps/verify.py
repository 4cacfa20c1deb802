"""Verifying a grafted model."""

from pathlib import Path

from benchmarks.graft_steps.clock import between, now
from compacter_exporters.verify import verify


def step(model: str, adapter: str) -> dict[str, float]:
    """Seconds, how many sites were compared, their largest error over its bound, and failures of any check."""
    start = now()
    report = verify(Path(model), Path(adapter))
    ratio = max(check.ratio for check in report.sites.values())
    found = {"sites": len(report.sites), "error/bound": ratio, "failures": len(report.failures())}
    return {**between(start, now()), **found}
