"""Verification of a graph that takes adapters at run time, whatever its linkage."""

from collections.abc import Sequence
from pathlib import Path

from compacter_core.adapter import Adapter
from compacter_core.linkage.description import read_description
from compacter_core.linkage.kinds import Linkage
from compacter_exporters.graph import load_graph
from compacter_exporters.linkage.verify_bank import verify_bank
from compacter_exporters.linkage.verify_swappable import verify_swappable
from compacter_exporters.verify_report import VerifyReport, joined


def verify_open(
    model: Path,
    adapters: Sequence[Adapter],
    *,
    seed: int = 0,
    providers: Sequence[str] | None = None,
    batch: int = 2,
    length: int = 8,
) -> VerifyReport:
    """Compare an open graph with the reference: one adapter after the other, or all in one batch of a bank.

    Args:
        model: the .onnx file.
        adapters: at least one.
        seed: of the random inputs.
        providers: execution providers; None for the CPU.
        batch: rows of the random inputs; in a bank for each adapter, and as many without one.
        length: tokens per row.

    Raises:
        CompacterError: as `verify`, and what giving the adapters to the graph raises.
    """
    if read_description(load_graph(model).metadata_props).linkage is Linkage.BANK:
        return verify_bank(model, adapters, seed=seed, providers=providers, batch=batch, length=length)
    reports = {
        f"{index} {adapter.config.name}": verify_swappable(
            model, adapter, seed=seed, providers=providers, batch=batch, length=length
        )
        for index, adapter in enumerate(adapters)
    }
    return joined(reports)
