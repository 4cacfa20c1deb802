"""The table: every model and configuration, AdapterHub's output against PyTorch and against ONNX Runtime.

    .venv-interop/bin/python -m tests.interop_adapterhub [CLASS …]

Random tiny models in float32; a cell is the largest difference of an output over its largest value, or the code of a
refusal.
"""

import argparse
import logging
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from torch import Tensor

from compacter_core.errors import CompacterError
from compacter_core.format.writer import save_adapter
from compacter_core.importers.adapterhub import from_adapterhub
from compacter_core.importers.result import ImportedAdapter, KnownBackbone
from compacter_core.pytorch.known_backbone import open_backbone
from tests.interop_adapterhub.cases import CONFIGS, MODELS
from tests.interop_adapterhub.graphs import export, merge, output_name, run_graph
from tests.interop_adapterhub.refusals import REFUSALS
from tests.interop_adapterhub.sources import SHARED_FILE, Source, difference
from tests.interop_adapterhub.world import RELATIVE_F32, load_plain, outputs_with


@dataclass(frozen=True)
class Row:
    """One configuration on one model: what the import said, and both differences or the codes of refusals."""

    config: str
    said: str
    in_torch: float
    in_graph: float | str


COLUMNS = ("model", "configuration", "import", "PyTorch", "ONNX Runtime")


def main() -> int:
    """Print the table; 1 if a difference is too large."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("classes", nargs="*", default=list(MODELS), metavar="CLASS", help="default: all")
    wanted = parser.parse_args().classes
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    transformers.logging.set_verbosity_error()
    print("| " + " | ".join(COLUMNS) + " |\n|" + " --- |" * len(COLUMNS))
    largest = 0.0
    for model_class in wanted:
        with tempfile.TemporaryDirectory() as folder:
            for row in rows_of(model_class, Path(folder)):
                cells = [model_class, row.config, row.said, _cell(row.in_torch), _cell(row.in_graph)]
                print("| " + " | ".join(cells) + " |", flush=True)
                largest = max(largest, row.in_torch, row.in_graph if isinstance(row.in_graph, float) else 0.0)
    if wanted == list(MODELS):
        _print_refusals()
    print(f"\nlargest difference {largest:.1e}, allowed {RELATIVE_F32:.0e}")
    return 0 if largest <= RELATIVE_F32 else 1


def _print_refusals() -> None:
    print("\n| refused | code |\n| --- | --- |")
    for what, refusal in REFUSALS.items():
        with tempfile.TemporaryDirectory() as folder:
            source, directory = refusal.save(Path(folder))
            code = "accepted"
            try:
                from_adapterhub(directory, backbone=open_backbone(source.backbone), allow_pickle=True)
            except CompacterError as error:
                code = error.code.name
            print(f"| {what} | {code} |", flush=True)


def rows_of(model_class: str, folder: Path) -> Iterator[Row]:
    """A row for each configuration."""
    source = Source(folder, model_class, MODELS[model_class], dtype=torch.float32)
    plain, backbone = load_plain(source, model_class), open_backbone(source.backbone)
    graphs = _export(source, folder)
    for config, options in CONFIGS.items():
        here = folder / config
        here.mkdir()
        directory = source.save(here, options())
        said, adapter = _import(directory, backbone)
        want = source.outputs()
        in_torch = difference(want, outputs_with(plain, adapter, source.inputs))
        name = output_name(model_class)
        yield Row(config, said, in_torch, _in_graph(graphs, adapter, here, want[name], source))


def _export(source: Source, folder: Path) -> Path | str:
    try:
        return export(source, folder)
    except CompacterError as error:
        return error.code.name


def _import(directory: Path, backbone: KnownBackbone) -> tuple[str, ImportedAdapter]:
    try:
        return "ok", from_adapterhub(directory, backbone=backbone)
    except CompacterError as error:
        shared = directory.parent / SHARED_FILE
        said = f"{error.code.name}, ok with --shared-parameters"
        return said, from_adapterhub(directory, backbone=backbone, shared_parameters=shared)


def _in_graph(graphs: Path | str, imported: ImportedAdapter, here: Path, want: Tensor, source: Source) -> float | str:
    if isinstance(graphs, str):
        return graphs
    save_adapter(imported.adapter, here / "adapter.safetensors")
    try:
        merged = merge(graphs, imported.adapter, here / "adapter.safetensors", here / "merged")
    except CompacterError as error:
        return error.code.name
    return difference({"": want}, {"": run_graph(merged, source)})


def _cell(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.1e}"


if __name__ == "__main__":
    sys.exit(main())
