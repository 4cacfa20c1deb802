"""Time and memory of grafting a Compacter into a BERT-base-size backbone, beside those of exporting it again.

    python -m benchmarks.graft
    python -m benchmarks.graft --form plain --rounds 20 --json
    python -m benchmarks.graft --over-2gb

Random weights, 24 sites, 417 MiB of external data. Every measurement is a process of its own, whose peak resident
memory is the kernel's count. A round is a graft beside the backbone (external data shared), one into another directory
(external data copied), and in the first `--exports` rounds an export of the model with the adapter inside, of which the
exporter and the writing are counted, neither loading the model nor comparing the graph with it. Ratios are of medians.

With `--over-2gb` instead: one backbone with more than 2 GiB of external data, which no protobuf can hold, is exported,
grafted, verified and run once. It needs some 12 GB of memory and 5 GB of disk, which is freed again.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import torch
from tqdm import tqdm
from transformers import BertConfig, BertForSequenceClassification

from compacter_core.methods import create_config
from compacter_core.pytorch import attach, describe_backbone, save_pretrained

Figures = dict[str, float]

# What is asked of a graft that shares the external data.
_MOST_SECONDS: Final = 0.3
_MOST_MIB: Final = 400
_LEAST_RATIO: Final = 30

_BASE: Final = BertConfig(num_labels=8)
_LARGE: Final = BertConfig(
    hidden_size=2048, intermediate_size=8192, num_hidden_layers=11, num_attention_heads=16, num_labels=8
)
_MODEL: Final = "model.onnx"
_EXPORT: Final = "export"


def child(step: str, *arguments: object) -> Figures:
    """The figures of one step in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.graft_steps", step, *map(str, arguments)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    figures: Figures = json.loads(result.stdout.splitlines()[-1])
    return figures


def prepare(directory: Path, config: BertConfig) -> None:
    """Write a random model and an adapter for it."""
    torch.manual_seed(0)
    model = BertForSequenceClassification(config).eval()
    model.save_pretrained(directory / "bert")
    attach(model, create_config(describe_backbone(model)), generator=0)
    save_pretrained(model, directory / "adapter")


def rounds_of(directory: Path, form: str, rounds: int, exports: int) -> dict[str, list[Figures]]:
    """The figures of every process, by what it did."""
    source, onnx, adapter = directory / "bert", directory / "onnx", directory / "adapter"
    found: dict[str, list[Figures]] = {_EXPORT: [], "graft, shared": [], "graft, copied": []}
    outputs = {"graft, shared": onnx / "merged.onnx", "graft, copied": directory / "elsewhere" / _MODEL}
    outputs["graft, copied"].parent.mkdir()
    child("export", source, onnx)
    for index in tqdm(range(rounds), unit="round", disable=None):
        if index < exports:
            found[_EXPORT].append(child("export", source, directory / f"again-{index}", adapter))
        for name, output in outputs.items():
            found[name].append(child("graft", onnx / _MODEL, adapter, output, form))
    return found


def over_2gb(directory: Path) -> Iterator[tuple[str, Figures]]:
    """A backbone that is larger than a protobuf may be: each step with its figures."""
    prepare(directory, _LARGE)
    onnx = directory / "onnx"
    model, merged, adapter = onnx / _MODEL, onnx / "merged.onnx", directory / "adapter"
    yield "export", child("export", directory / "bert", onnx)
    yield "graft", child("graft", model, adapter, merged, "auto") | {"data_mib": data_mib(onnx)}
    yield "verify", child("verify", merged, adapter)
    yield "run", child("run", merged)


def data_mib(directory: Path) -> float:
    """External data in a directory."""
    return sum(path.stat().st_size for path in directory.glob("*.data")) / 2**20


def medians(runs: list[Figures]) -> Figures:
    """The median of each figure."""
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def as_text(figures: dict[str, Figures]) -> str:
    """A table, and what is asked."""
    export = figures[_EXPORT]["seconds"]
    lines = [f"{'':<16}{'import s':>10}{'seconds':>10}{'cpu s':>8}{'peak MiB':>10}{'export / graft':>16}"]
    for name, row in figures.items():
        times = "".join(f"{row[key]:>{width}.3f}" for key, width in (("import_s", 10), ("seconds", 10), ("cpu_s", 8)))
        faster = "" if name == _EXPORT else f"{export / row['seconds']:.0f}x"
        lines.append(f"{name:<16}{times}{row['peak_mib']:>10.0f}{faster:>16}")
    shared = figures["graft, shared"]
    seconds, peak, ratio = shared["seconds"], shared["peak_mib"], export / shared["seconds"]
    asked = (
        (f"{seconds:.2f} s", f"at most {_MOST_SECONDS} s", seconds <= _MOST_SECONDS),
        (f"{peak:.0f} MiB", f"at most {_MOST_MIB} MiB", peak <= _MOST_MIB),
        (f"{ratio:.0f} times faster than an export", f"at least {_LEAST_RATIO}", ratio >= _LEAST_RATIO),
    )
    lines += [f"{got}, asked: {limit}: {'ok' if holds else 'MISSED'}" for got, limit, holds in asked]
    return "\n".join(lines)


def main() -> None:
    """Prepare, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--form", default="auto", help="how sites are written (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=9, help="processes for each kind of graft (default: %(default)s)")
    parser.add_argument("--exports", type=int, default=2, help="processes that export (default: %(default)s)")
    parser.add_argument("--over-2gb", action="store_true", help="one large backbone instead")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        if options.over_2gb:
            for step, row in over_2gb(directory):
                print(json.dumps({step: row}), flush=True)
            return
        prepare(directory, _BASE)
        runs = rounds_of(directory, options.form, options.rounds, max(1, options.exports))
        data = data_mib(directory / "onnx")
    figures = {name: medians(of_kind) for name, of_kind in runs.items()}
    if options.json:
        print(json.dumps({"data_mib": data, "rounds": options.rounds, **figures}))
        return
    print(f"BERT-base, random weights, {data:.0f} MiB of external data, medians of {options.rounds} processes")
    print(as_text(figures))


if __name__ == "__main__":
    main()
