"""What adapters cost at inference: merged, swappable and bank beside the bare backbone, in ONNX Runtime.

    python -m benchmarks.inference --size base --directory build/inference-base
    python -m benchmarks.inference --size base --precision int8 --shapes 1x32 8x128 --clock cpu
    python -m benchmarks.inference --size base --without SkipLayerNormFusion --directory build/inference-base
    python -m benchmarks.inference --size minilm --shapes 8x32 8x128 32x32 32x128 --arms merged bank rows --json
    python -m benchmarks.inference --size base --target cuda --precision fp16 --cuda-graphs

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
    rows                  what a bank replaces: a merged session, as `graft` makes it for the target, for each adapter,
                          one call for each row; eight sessions, which take turns where there are more rows
    adapterhub            AdapterHub's Compacter of the same size, as PyTorch exports the model; first make it with
                          .venv-interop/bin/python -m benchmarks.adapterhub_export DIRECTORY
    adapterhub, fused     the same after onnxruntime.transformers' optimiser

Sums are kept apart in the graphs of swappable, bank and rows, too: the directory's graphs of these arms and of merged,
sums apart, have to be made anew where an older version made them.

In int8 the backbone's weights are quantised (dynamic, by tensor) before adapters go in, which stay in float32.

With `--target cuda` all graphs are as `graft --target cuda` makes them in the precision, and run on ONNX Runtime's CUDA
provider (onnxruntime-gpu). No sums are kept apart there, and there are no arms on kernels, nor AdapterHub's. Others are

    backbone, onnxscript  the export after onnxscript's fusions
    merged, onnxscript    one adapter in the graph as `graft --target cuda` makes it from the export

and so are the graphs of swappable, bank and rows fused. With `--cuda-graphs` each session captures what it does at a
shape once and then replays it. Either way times include the copies of inputs to the device and of outputs from it.

Ratios to the backbone are to the fastest of its graphs, those to the merged graph to the faster of those in
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
import sys
import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from benchmarks.inference_choices import PRECISIONS, Arm
from benchmarks.inference_models import MODELS, Models
from benchmarks.inference_sessions import Setup, share_pool
from benchmarks.inference_source import SIZES, Source
from benchmarks.inference_times import CLOCKS, Plan, Row, figures_of, measure
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.linkage.bank import BankLayout
from compacter_core.linkage.description import read_description
from compacter_exporters.graph import load_graph
from compacter_exporters.optimise.choices import Precision, Target
from compacter_runtime.providers import choose_providers

_SHAPES: Final = ((1, 32), (1, 128), (8, 128))
_BASES: Final = ("backbone", "exported", "merged", "kernels", "bank")


def sizes_in_memory(models: Models) -> dict[str, int]:
    """Bytes of one resident adapter of the bank, and of its file, of which a part is the description of its tensors."""
    layout = BankLayout(read_description(load_graph(models.path(Arm.BANK)).metadata_props))
    adapter = models.source.adapter()
    resident = sum(array.nbytes for array in layout.entry(adapter).values())
    tensors = sum(array.nbytes for array in adapter.tensors.values())
    return {"resident_bytes": resident, "tensor_bytes": tensors, "file_bytes": models.source.file.stat().st_size}


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


def _shape(text: str) -> tuple[int, int]:
    """Rows and tokens."""
    try:
        batch, length = map(_count, text.split("x"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of rows and one of tokens, as 8x128") from error
    return batch, length


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="minilm")
    parser.add_argument("--target", type=Target, choices=list(MODELS), default=Target.CPU, help="default: cpu")
    parser.add_argument(
        "--precision",
        type=Precision,
        choices=sorted({precision for of_target in PRECISIONS.values() for precision in of_target}),
        default=Precision.FP32,
        help="; ".join(f"{target}: {', '.join(of_target)}" for target, of_target in PRECISIONS.items()),
    )
    parser.add_argument("--cuda-graphs", action="store_true", help="replay what was captured; --target cuda")
    parser.add_argument("--shapes", nargs="+", type=_shape, default=_SHAPES, metavar="BATCHxLENGTH")
    parser.add_argument("--arms", type=Arm, nargs="+", choices=list(Arm), metavar="ARM")
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


def _check(options: argparse.Namespace, models: Models) -> None:
    """Refuse what does not go together, before anything that takes time.

    Raises:
        CompacterError: E001; E701 where the target's provider is not available.
    """
    cuda, precisions = options.target is Target.CUDA, PRECISIONS[options.target]
    unknown = [arm.value for arm in options.arms or () if arm not in models.arms]
    refused = (
        (options.precision not in precisions, "--precision", options.precision, ", ".join(precisions)),
        (options.cuda_graphs and not cuda, "--cuda-graphs", True, "--target cuda"),
        (options.clock == "cpu" and cuda, "--clock", "cpu", "wall: what a GPU does takes none of the process's time"),
        (bool(unknown), "--arms", unknown, ", ".join(models.arms)),
    )
    for wrong, option, value, expected in refused:
        if wrong:
            message = f"{option} does not go with --target {options.target}"
            raise CompacterError(ErrorCode.E001, message, value=value, expected=expected)
    if not options.prepare:
        choose_providers([options.target])


def _measured(options: argparse.Namespace, directory: Path) -> dict[str, Any] | None:
    """What is printed; nothing with `--prepare`."""
    models = MODELS[options.target](Source(directory, options.size), options.precision)
    _check(options, models)
    shapes = {f"{batch}x{length}": (batch, length) for batch, length in options.shapes}
    setup = Setup(tuple(options.without), options.cuda_graphs)
    plan = Plan(shapes, options.seconds, options.openings, options.clock, setup)
    threads = 1 if options.clock == "cpu" else options.threads
    arms = options.arms or [arm for arm in models.arms if arm.is_usual]
    for arm in tqdm(arms, unit="graph", disable=None):
        models.path(arm)
    if options.prepare:
        return None
    share_pool(threads)  # then no session may have threads of its own, as those that check an export
    figures = {shape: figures_of(times) for shape, times in measure(models, arms, plan).items()}
    return {
        **{name: getattr(options, name) for name in ("size", "target", "precision", "cuda_graphs", "clock")},
        "threads": threads,
        "openings": plan.openings,
        "without": list(setup.without),
        **sizes_in_memory(models),
        "shapes": figures,
    }


def main() -> int:
    """Prepare, measure, print."""
    options = _parser().parse_args()
    kept = options.directory
    try:
        with tempfile.TemporaryDirectory() if kept is None else nullcontext(kept) as name:
            found = _measured(options, Path(name))
    except CompacterError as error:
        print(f"inference: {error}", file=sys.stderr)
        return 2
    if found is None:
        return 0
    if options.json:
        print(json.dumps(found, default=asdict))
        return 0
    figures = found.pop("shapes")
    print(", ".join(f"{key} {value}" for key, value in found.items()))
    print("ratios: the median of all rounds, then the lowest and the highest median of an opening")
    print(as_text(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
