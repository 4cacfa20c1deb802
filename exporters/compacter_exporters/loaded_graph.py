"""An exported graph, read, with what of an adapter is in it."""

from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from compacter_core.adapter import Adapter
from compacter_core.errors import CompacterError, ErrorCode
from compacter_exporters.fused.apart import take_apart
from compacter_exporters.graph import load_graph
from compacter_exporters.metadata import is_grafted
from compacter_exporters.present import Present, present_in, require_all
from compacter_exporters.regions import Region, regions_of


@dataclass(frozen=True, slots=True, eq=False)
class LoadedGraph:
    """A graph file, and what of an adapter is in it."""

    path: Path
    model: ir.Model
    regions: list[Region]
    present: list[Present]


def load_backbone(path: Path) -> ir.Model:
    """An exported model that carries no adapter, its fused operators taken apart until it is saved.

    Raises:
        CompacterError: E005, as `load_graph`; E605.
    """
    model = load_graph(path)
    if is_grafted(model):
        raise CompacterError(
            ErrorCode.E605,
            "the model carries an adapter already",
            value=str(path),
            expected="an exported backbone",
            remedy="Graft into the backbone's own export.",
        )
    take_apart(model)
    return model


def load_graph_with(path: Path, adapter: Adapter) -> LoadedGraph:
    """One exported graph, which may hold a part of the adapter, or nothing of it.

    Raises:
        CompacterError: as `load_backbone` and `present_in`.
    """
    model = load_backbone(path)
    regions = regions_of(model)
    return LoadedGraph(path, model, regions, present_in(regions, adapter))


def load_one(path: Path, adapter: Adapter) -> LoadedGraph:
    """One exported graph, which holds the whole adapter.

    Raises:
        CompacterError: as `load_backbone`, `present_in` and `require_all`.
    """
    loaded = load_graph_with(path, adapter)
    require_all(loaded.regions, loaded.present, adapter)
    return loaded
