"""Grafting, as anybody does it."""

from pathlib import Path

from benchmarks.graft_steps.clock import between, now
from compacter_exporters.forms import Form
from compacter_exporters.graft import graft


def step(backbone: str, adapter: str, output: str, form: str) -> dict[str, float]:
    """Seconds of the graft and the number of sites."""
    start = now()
    report = graft(Path(backbone), Path(adapter), Path(output), form=Form(form))
    return {**between(start, now()), "sites": len(report.forms)}
