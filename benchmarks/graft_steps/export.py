"""Exporting a model, which a graft saves."""

from pathlib import Path

from benchmarks.graft_steps.clock import Instant, between, now
from compacter_exporters.backbone import export_backbone


def step(source: str, output: str, adapter: str | None = None) -> dict[str, float]:
    """Seconds of the export, of the bare model or with the adapter inside, and of writing it.

    Neither loading the model nor checking the graph counts.
    """
    begun: dict[str, Instant] = {}
    inside = None if adapter is None else Path(adapter)
    export_backbone(source, Path(output), adapter=inside, progress=lambda stage: begun.update({stage: now()}))
    return between(begun["export"], begun["check"])
