"""What adapters cost at inference: merged, swappable and bank beside the bare backbone, in ONNX Runtime on the CPU.

    python -m benchmarks.inference --size base --directory build/inference-base
    python -m benchmarks.inference --size base --precision int8 --shapes 1x32 8x128 --clock cpu
    python -m benchmarks.inference --size base --without SkipLayerNormFusion --directory build/inference-base
    python -m benchmarks.inference --size minilm --shapes 8x32 8x128 32x32 32x128 --arms merged bank rows --json

Random weights of MiniLM's or BERT-base's size with a Compacter, norms and head included. Arms:

    backbone              the export alone, under the session's own optimiser
    backbone, fused       the same after onnxruntime.transformers' optimiser
    backbone, sums apart  the same with its residual sums kept from being fused with norms
    merged                one adapter in the graph
    merged, sums apart    one adapter in the graph whose sums are kept apart, as `graft --target cpu` writes it
    swappable             the same adapter given with the run
    bank                  another adapter in each row, with its own norms and head
    bank, shared norms    another adapter in each row, with its own head
    rows                  what a bank replaces: one merged session, sums apart, one call for each row
    adapterhub            AdapterHub's Compacter of the same size, as PyTorch exports the model; first make it with
                          .venv-interop/bin/python -m benchmarks.adapterhub_export DIRECTORY
    adapterhub, fused     the same after onnxruntime.transformers' optimiser

Sums are kept apart in the graphs of swappable, bank and rows, too: the directory's graphs of these arms have to be made
anew where an older version made them.

In int8 the backbone's weights are quantised (dynamic, by tensor) before adapters go in, which stay in float32.

Ratios to the backbone are to the fastest of its three graphs, those to the merged graph to the faster of the two: the
fastest merged graph's ratio to the backbone compares the best with the best.

All arms of a shape run in rounds of random order, each once unmeasured before it is measured; a ratio is the median of
the ratios of a round. With `--clock cpu` time is that of the process on one thread, which other programs on the
machine disturb less. `--directory` keeps the models for the next run; `--prepare` makes them and measures nothing.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Final

from tqdm import tqdm

from benchmarks.inference_arms import CLOCKS, Figures, Running, calls_of, figures_of, measure, open_session
from benchmarks.inference_models import SIZES, Arm, Models, Precision
from compacter_core.linkage.bank import BankLayout
from compacter_core.linkage.description import read_description

_BARE: Final = (Arm.BACKBONE, Arm.FUSED, Arm.APART)
_USUAL: Final = (*_BARE, Arm.MERGED, Arm.MERGED_APART, Arm.SWAPPABLE, Arm.BANK, Arm.SHARED)
_COLUMNS: Final = {"of_backbone": "/ backbone", "of_merged": "/ merged", "of_bank": "/ bank"}


def sizes_in_memory(models: Models) -> dict[str, int]:
    """Bytes of one resident adapter of the bank, and of its file."""
    metadata = open_session(models, Arm.BANK, Running(1)).get_modelmeta().custom_metadata_map
    layout = BankLayout(read_description(metadata))
    resident = sum(array.nbytes for array in layout.entry(models.adapter()).values())
    return {"resident_bytes": resident, "file_bytes": models.file.stat().st_size}


def as_text(figures: Mapping[str, Figures]) -> str:
    """A table of all shapes."""
    lines = [f"{'shape':<8}{'arm':<22}{'ms':>9}{'runs':>6}" + "".join(f"{title:>12}" for title in _COLUMNS.values())]
    for shape, rows in figures.items():
        for arm, row in rows.items():
            ratios = "".join(f"{row[key]:>12.3f}" if key in row else " " * 12 for key in _COLUMNS)
            lines.append(f"{shape:<8}{arm:<22}{row['ms']:>9.1f}{row['runs']:>6.0f}{ratios}")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="minilm")
    parser.add_argument("--precision", type=Precision, choices=list(Precision), default=Precision.FP32)
    parser.add_argument("--shapes", nargs="+", default=["1x32", "1x128", "8x128"], metavar="BATCHxLENGTH")
    parser.add_argument("--arms", type=Arm, nargs="+", choices=list(Arm), default=_USUAL, metavar="ARM")
    parser.add_argument("--seconds", type=float, default=20.0, help="per shape (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="default: %(default)s; 1 with --clock cpu")
    parser.add_argument(
        "--without",
        nargs="+",
        default=[],
        metavar="NAME",
        help="optimisers of ONNX Runtime that no arm gets, as SkipLayerNormFusion, which costs time on CPUs",
    )
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    parser.add_argument("--directory", type=Path, help="where the models of one size are kept (default: thrown away)")
    parser.add_argument("--prepare", action="store_true", help="make the models, and stop")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def main() -> None:
    """Prepare, measure, print."""
    options = _parser().parse_args()
    shapes = {shape: tuple(map(int, shape.split("x"))) for shape in options.shapes}
    how = Running(1 if options.clock == "cpu" else options.threads, tuple(options.without))
    kept = options.directory
    with tempfile.TemporaryDirectory() if kept is None else nullcontext(kept) as name:
        models = Models(Path(name), options.size, options.precision)
        for arm in tqdm(options.arms, unit="graph", disable=None):
            models.path(arm)
        if options.prepare:
            return
        calls = calls_of(models, options.arms, how, max(batch for batch, _ in shapes.values()))
        figures = {
            name: figures_of(measure(calls, (batch, length), options.seconds, options.clock))
            for name, (batch, length) in tqdm(shapes.items(), unit="shape", disable=None)
        }
        memory = sizes_in_memory(models)
    about = {"size": options.size, "precision": options.precision, "clock": options.clock}
    about |= {"threads": how.threads, "without": list(how.without)}
    if options.json:
        print(json.dumps({**about, **memory, "shapes": figures}))
        return
    print(", ".join(f"{key} {value}" for key, value in {**about, **memory}.items()))
    print(as_text(figures))


if __name__ == "__main__":
    main()
