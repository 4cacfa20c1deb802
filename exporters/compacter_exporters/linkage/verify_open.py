"""Verification of models that take adapters at run time, whatever their linkage."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from compacter_core.adapter import Adapter
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.linkage.description import describes_itself, read_description
from compacter_core.linkage.kinds import Linkage
from compacter_exporters.calls import inline_calls
from compacter_exporters.folding import fold_factors
from compacter_exporters.fused.apart import take_apart
from compacter_exporters.graph import load_graph
from compacter_exporters.linkage.static import bind
from compacter_exporters.linkage.verify import Probe
from compacter_exporters.linkage.verify_bank import verify_bank
from compacter_exporters.linkage.verify_swappable import verify_swappable
from compacter_exporters.present import Present, present_in, require_all
from compacter_exporters.regions import Region, regions_of
from compacter_exporters.verify_report import VerifyReport, joined


def takes_adapters(model: Path) -> bool:
    """Whether a model, or one in a directory, takes adapters at run time.

    Raises:
        CompacterError: E005 for a file that is no model.
    """
    return any(describes_itself(load_graph(file).metadata_props) for file in _files(model))


def verify_open(
    model: Path,
    adapters: Sequence[Adapter],
    *,
    seed: int = 0,
    providers: Sequence[str] | None = None,
    batch: int = 2,
    length: int = 8,
) -> VerifyReport:
    """Compare an open model with the reference: one adapter after the other, or all in one batch of a bank.

    Args:
        model: the .onnx file, or a directory of them that take the same adapters. Branches are verified one by one.
        adapters: at least one.
        seed: of the random inputs.
        providers: execution providers; None for the CPU.
        batch: rows of the random inputs; in a bank for each adapter, and as many without one.
        length: tokens per row.

    Raises:
        CompacterError: as `verify`, and what giving the adapters to the graph raises; in a directory E601 for a graph
            that holds sites and takes no adapters, and E403 for one that takes others.
    """
    graphs = [graph for file in _files(model) for graph in _graphs_of(file, adapters)]
    for index, adapter in enumerate(adapters):
        require_all(
            [one.region for one in graphs], [one.present[index] for one in graphs if index in one.present], adapter
        )
    fingerprints = {graph.file: graph.fingerprint for graph in graphs if graph.present}
    if len(set(fingerprints.values())) > 1:
        raise CompacterError(
            ErrorCode.E403,
            "the graphs of the directory were opened for different adapters",
            value=", ".join(file.name for file in fingerprints),
            expected="one fingerprint",
            remedy="Open the backbone's directory again as a whole.",
        )
    reports: dict[str, VerifyReport] = {}
    for graph in graphs:
        if graph.present:
            probe = Probe(graph.file, graph.region.path, seed, providers, batch, length)
            reports |= _reports(graph, probe, adapters, model.is_dir())
    return joined(reports)


@dataclass(frozen=True, slots=True, eq=False)
class _Graph:
    """A graph of the model.

    Args:
        file: its model.
        region: the graph.
        present: what of each adapter is in it, by the adapter's position; its first call, where there are several.
        linkage: of its model.
        fingerprint: of its model.
    """

    file: Path
    region: Region
    present: dict[int, Present] = field(default_factory=dict)
    linkage: Linkage = Linkage.MERGED
    fingerprint: str = ""


def _files(model: Path) -> list[Path]:
    return sorted(model.glob("*.onnx")) if model.is_dir() else [model]


def _graphs_of(file: Path, adapters: Sequence[Adapter]) -> Iterator[_Graph]:
    loaded = load_graph(file)
    inline_calls(loaded)
    bind(loaded.graph, {})
    fold_factors(loaded)
    regions = regions_of(loaded)
    take_apart(loaded)
    for region in regions:
        found = {
            index: one
            for index, adapter in enumerate(adapters)
            for one in present_in([region], adapter, norms=lambda _: [])[:1]  # in a bank they are no constants
        }
        if not found:
            yield _Graph(file, region)
            continue
        description = read_description(loaded.metadata_props)
        yield _Graph(file, region, found, description.linkage, description.fingerprint)


def _reports(graph: _Graph, probe: Probe, adapters: Sequence[Adapter], named: bool) -> dict[str, VerifyReport]:
    """The reports of one graph, by a name that tells it from others."""
    here = {index: adapters[index] for index in graph.present}
    name = " ".join(filter(None, (graph.file.stem if named else "", graph.region.label)))
    if graph.linkage is Linkage.BANK:
        return {name: verify_bank(probe, list(here.values()))}
    return {
        f"{name} {index} {adapter.config.name}".strip(): verify_swappable(probe, adapter)
        for index, adapter in here.items()
    }
