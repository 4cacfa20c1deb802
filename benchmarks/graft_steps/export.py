"""Exporting a backbone, which a graft saves."""

from pathlib import Path

from benchmarks.graft_steps.clock import Instant, between, now
from compacter_exporters.backbone import export_backbone


def step(source: str, output: str) -> dict[str, float]:
    """Seconds of the export and of writing it: neither loading the model nor checking the graph counts."""
    begun: dict[str, Instant] = {}
    export_backbone(source, Path(output), progress=lambda stage: begun.update({stage: now()}))
    return between(begun["export"], begun["check"])
