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
    merged, sums apart    one adapter in the graph as `graft --target cpu` makes it from the export
    merged, kernels       one adapter in the graph as `graft --target cpu --form sublayer` makes it from the export, on
                          the kernels of compacter_runtime, on which so named arms run, and no others
    swappable             the same adapter given with the run
    bank                  another adapter in each row, with its own norms and head
    bank, shared norms    another adapter in each row, with its own head
    swappable, kernels    the same graphs with `--form sublayer`, on kernels; also "bank, kernels" and
                          "bank, shared norms, kernels"
    rows                  what a bank replaces: a merged session, sums apart, for each adapter, one call for each row;
                          eight sessions, which take turns where there are more rows
    adapterhub            AdapterHub's Compacter of the same size, as PyTorch exports the model; first make it with
                          .venv-interop/bin/python -m benchmarks.adapterhub_export DIRECTORY
    adapterhub, fused     the same after onnxruntime.transformers' optimiser

Sums are kept apart in the graphs of swappable, bank and rows, too: the directory's graphs of these arms and of merged,
sums apart, have to be made anew where an older version made them.

In int8 the backbone's weights are quantised (dynamic, by tensor) before adapters go in, which stay in float32.

Ratios to the backbone are to the fastest of its three graphs, those to the merged graph to the faster of the two in
ONNX Runtime's own operators, and under "kernels" to that on kernels: the fastest merged graph's ratio to the backbone
compares the best with the best. Ratios to the exported backbone say what an adapter costs whoever runs the export as it
is.

All arms of a shape run in rounds of random order, each once unmeasured before it is measured; a ratio is the median of
the ratios of all rounds.

The threads of a session spin while they wait for work, unless one tells ONNX Runtime otherwise, and that is what a
deployment has: threads that sleep have to be woken for every node, which small nodes, as an adapter's, pay for most.
But pools that spin beside each other disturb each other, so all sessions share one pool.

Where a session's weights lie in memory makes it faster or slower for as long as it lives: two sessions of one file
differ by up to three hundredths. So the time of a shape is that of `--openings`, before each of which all sessions are
closed and opened again in another random order. Behind a ratio stand the lowest and the highest of its medians in one
opening: two ratios that differ by less may well be the same. What a ratio is to is chosen once, for all openings.

With `--clock cpu` time is that of the process on one thread, which other programs on the machine disturb less.
`--directory` keeps the models for the next run; `--prepare` makes them and measures nothing.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Final

from tqdm import tqdm

from benchmarks.inference_arms import open_session, share_pool
from benchmarks.inference_models import SIZES, Arm, Models, Precision
from benchmarks.inference_times import CLOCKS, Plan, Row, figures_of, measure
from compacter_core.linkage.bank import BankLayout
from compacter_core.linkage.description import read_description

_BARE: Final = (Arm.BACKBONE, Arm.FUSED, Arm.APART)
_MERGED: Final = (Arm.MERGED, Arm.MERGED_APART, Arm.MERGED_KERNELS)
_OPEN: Final = tuple(arm for arm in Arm if arm.is_swappable or arm.is_bank)
_USUAL: Final = (*_BARE, *_MERGED, *_OPEN)
_BASES: Final = ("backbone", "exported", "merged", "kernels", "bank")


def sizes_in_memory(models: Models) -> dict[str, int]:
    """Bytes of one resident adapter of the bank, and of its file, of which a part is the description of its tensors."""
    metadata = open_session(models, Arm.BANK).get_modelmeta().custom_metadata_map
    layout = BankLayout(read_description(metadata))
    adapter = models.adapter()
    resident = sum(array.nbytes for array in layout.entry(adapter).values())
    tensors = sum(array.nbytes for array in adapter.tensors.values())
    return {"resident_bytes": resident, "tensor_bytes": tensors, "file_bytes": models.file.stat().st_size}


def as_text(figures: Mapping[str, Mapping[Arm, Row]]) -> str:
    """A table of all shapes."""
    rows = [(shape, arm, row) for shape, of_shape in figures.items() for arm, row in of_shape.items()]
    bases = [base for base in _BASES if base in rows[0][2].ratios]
    lines = [f"{'shape':<8}{'arm':<28}{'ms':>9}{'runs':>6}" + "".join(f"{f'/ {base}':>20}" for base in bases)]
    for shape, arm, row in rows:
        ratios = "".join(f"{row.ratios[base]!s:>20}" for base in bases)
        lines.append(f"{shape:<8}{arm:<28}{row.ms:>9.1f}{row.runs:>6}{ratios}")
    return "\n".join(lines)


def _count(text: str) -> int:
    """A number of at least one."""
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return count


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="minilm")
    parser.add_argument("--precision", type=Precision, choices=list(Precision), default=Precision.FP32)
    parser.add_argument("--shapes", nargs="+", default=["1x32", "1x128", "8x128"], metavar="BATCHxLENGTH")
    parser.add_argument("--arms", type=Arm, nargs="+", choices=list(Arm), default=_USUAL, metavar="ARM")
    parser.add_argument("--seconds", type=float, default=20.0, help="per shape (default: %(default)s)")
    parser.add_argument(
        "--openings",
        type=_count,
        default=4,
        metavar="N",
        help="the time of a shape is divided among N openings of all sessions (default: %(default)s)",
    )
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
    shapes = {shape: (batch, length) for shape in options.shapes for batch, length in [map(int, shape.split("x"))]}
    plan = Plan(shapes, options.seconds, options.openings, options.clock, tuple(options.without))
    threads = 1 if options.clock == "cpu" else options.threads
    kept = options.directory
    with tempfile.TemporaryDirectory() if kept is None else nullcontext(kept) as name:
        models = Models(Path(name), options.size, options.precision)
        for arm in tqdm(options.arms, unit="graph", disable=None):
            models.path(arm)
        if options.prepare:
            return
        share_pool(threads)  # then no session may have threads of its own, as those that check an export
        figures = {shape: figures_of(times) for shape, times in measure(models, options.arms, plan).items()}
        memory = sizes_in_memory(models)
    about = {"size": options.size, "precision": options.precision, "clock": plan.clock, "threads": threads}
    about |= {"openings": plan.openings, "without": list(plan.without)}
    if options.json:
        rows = {shape: {arm: asdict(row) for arm, row in of_shape.items()} for shape, of_shape in figures.items()}
        print(json.dumps({**about, **memory, "shapes": rows}))
        return
    print(", ".join(f"{key} {value}" for key, value in {**about, **memory}.items()))
    print("ratios: the median of all rounds, then the lowest and the highest median of an opening")
    print(as_text(figures))


if __name__ == "__main__":
    main()
