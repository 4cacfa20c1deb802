"""What adapters cost at inference: merged, swappable and bank against the bare backbone, in ONNX Runtime on the CPU.

    python -m benchmarks.inference --size minilm --shapes 1x32 1x128 8x128
    python -m benchmarks.inference --size base --shapes 8x32 --arms backbone merged bank rows --json

Random weights of MiniLM's or BERT-base's size with a Compacter, norms and head included. Arms:

    backbone    the export alone, under the session's own optimiser: the fastest form known on the CPU
    merged      one adapter in the graph
    swappable   the same adapter given with the run
    bank        another adapter in each row
    rows        what a bank replaces: one merged session, one call per row

All arms of a shape run in turn, in an order that is reversed every time; a ratio is the median of the ratios of runs
that stand beside each other. With `--clock cpu` time is that of the process on one thread, which other programs on the
machine disturb less. `--directory` keeps the models for the next run.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from transformers import BertConfig, BertForSequenceClassification

from compacter_core.adapter import Adapter
from compacter_core.format.reader import load_adapter
from compacter_core.linkage.bank import BankLayout
from compacter_core.linkage.description import read_description
from compacter_core.methods import create_config
from compacter_core.pytorch import attach, describe_backbone, save_pretrained
from compacter_exporters.backbone import export_backbone
from compacter_exporters.graft import graft
from compacter_exporters.linkage.bank import graft_bank
from compacter_exporters.linkage.swappable import graft_swappable
from compacter_runtime.bank import Bank
from compacter_runtime.choosing import Swappable

SIZES = {
    "minilm": BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536, num_labels=8
    ),
    "base": BertConfig(num_labels=8),
}
ARMS = ("backbone", "merged", "swappable", "bank", "rows")
Arm = Callable[[Mapping[str, Any]], None]
_CLOCKS: Mapping[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
_FILES = {"backbone": "model.onnx", "merged": "merged.onnx", "swappable": "swappable.onnx", "bank": "bank.onnx"}
_VOCABULARY = 1000
_FEWEST = 3


def prepare(directory: Path, size: str) -> Adapter:
    """Write backbone, adapter and the three grafts, unless they are there; returns the adapter."""
    graphs = directory / "onnx"
    if not (graphs / "bank.onnx").exists():
        torch.manual_seed(0)
        model = BertForSequenceClassification(SIZES[size]).eval()
        model.save_pretrained(directory / "source")
        export_backbone(directory / "source", graphs)
        attach(model, create_config(describe_backbone(model)), generator=0)
        with torch.no_grad():
            for parameter in filter(lambda one: one.requires_grad, model.parameters()):
                parameter.add_(0.02 * torch.randn(parameter.shape))
        save_pretrained(model, directory / "adapter")
        graft(graphs / "model.onnx", directory / "adapter", graphs / "merged.onnx")
        graft_swappable(graphs / "model.onnx", directory / "adapter", graphs / "swappable.onnx")
        graft_bank(graphs / "model.onnx", directory / "adapter", graphs / "bank.onnx")
    return load_adapter(directory / "adapter")


def arms_of(directory: Path, adapter: Adapter, names: Sequence[str], threads: int, rows: int) -> dict[str, Arm]:
    """A function of the inputs for each arm."""
    loaded = {name: _session(directory / "onnx" / file, threads) for name, file in _FILES.items() if name in names}
    if "rows" in names:
        loaded["rows"] = loaded.get("merged") or _session(directory / "onnx" / _FILES["merged"], threads)
    feeds: dict[str, Callable[[int], Mapping[str, Any]]] = {}
    if "swappable" in names:
        description = read_description(loaded["swappable"].get_modelmeta().custom_metadata_map)
        swappable = Swappable(description)
        packed = swappable.load(adapter)
        feeds["swappable"] = lambda batch: swappable.choose(packed, batch).feeds(np.arange(batch))
    if "bank" in names:
        bank = Bank(read_description(loaded["bank"].get_modelmeta().custom_metadata_map))
        for index in range(rows):
            bank.add(_another(adapter, index))
        feeds["bank"] = lambda batch: bank.choose(bank.names[:batch], batch).feeds(np.arange(batch))

    return {name: _arm(loaded[name], feeds.get(name, lambda _: {}), by_row=name == "rows") for name in names}


def _arm(session: onnxruntime.InferenceSession, given: Callable[[int], Mapping[str, Any]], *, by_row: bool) -> Arm:
    def whole(x: Mapping[str, Any]) -> None:
        session.run(None, {**x, **given(len(x["input_ids"]))})

    def rows(x: Mapping[str, Any]) -> None:
        for row in range(len(x["input_ids"])):
            whole({name: array[row : row + 1] for name, array in x.items()})

    return rows if by_row else whole


def _session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    # The threads of one arm must not spin while another is measured.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _another(adapter: Adapter, index: int) -> Adapter:
    tensors = {name: array * np.float32(1 + index / 64) for name, array in adapter.tensors.items()}
    return replace(adapter, config=replace(adapter.config, name=f"n{index}"), tensors=tensors)


def measure(arms: Mapping[str, Arm], shape: tuple[int, int], seconds: float, clock: str) -> dict[str, dict[str, float]]:
    """Median milliseconds of each arm, and its ratios to the backbone and to the merged graph where these run."""
    generator = np.random.default_rng(0)
    x = {
        "input_ids": generator.integers(0, _VOCABULARY, shape),
        "attention_mask": np.ones(shape, np.int64),
        "token_type_ids": np.zeros(shape, np.int64),
    }
    now, names = _CLOCKS[clock], list(arms)
    times: dict[str, list[float]] = {name: [] for name in names}
    for run in arms.values():
        run(x)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[names[0]]) < _FEWEST:
        for name in names:
            start = now()
            arms[name](x)
            times[name].append(now() - start)
        names.reverse()
    result: dict[str, dict[str, float]] = {}
    for name in arms:
        row = {"ms": 1e3 * statistics.median(times[name]), "runs": len(times[name])}
        for base in ("backbone", "merged"):
            if base in arms:
                ratios = [one / other for one, other in zip(times[name], times[base], strict=True)]
                row[f"of_{base}"] = statistics.median(ratios)
        result[name] = row
    return result


def sizes_in_memory(directory: Path, adapter: Adapter) -> dict[str, int]:
    """Bytes of one resident adapter of the bank, and of its file."""
    session = _session(directory / "onnx" / _FILES["bank"], 1)
    layout = BankLayout(read_description(session.get_modelmeta().custom_metadata_map))
    file = directory / "adapter" / "adapter_model.safetensors"
    return {
        "resident_bytes": sum(array.nbytes for array in layout.entry(adapter).values()),
        "file_bytes": file.stat().st_size,
    }


def main() -> None:
    """Prepare, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", choices=list(SIZES), default="minilm")
    parser.add_argument("--shapes", nargs="+", default=["1x32", "1x128", "8x128"], metavar="BATCHxLENGTH")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS[:4]))
    parser.add_argument("--seconds", type=float, default=20.0, help="per shape (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="default: %(default)s; 1 with --clock cpu")
    parser.add_argument("--clock", choices=list(_CLOCKS), default="wall")
    parser.add_argument("--directory", type=Path, help="where the models are kept (default: thrown away)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    shapes = [(int(a), int(b)) for a, _, b in (shape.partition("x") for shape in arguments.shapes)]
    threads = 1 if arguments.clock == "cpu" else arguments.threads
    kept = arguments.directory
    with tempfile.TemporaryDirectory() if kept is None else nullcontext(kept) as name:
        directory = Path(name)
        directory.mkdir(parents=True, exist_ok=True)
        adapter = prepare(directory, arguments.size)
        arms = arms_of(directory, adapter, arguments.arms, threads, max(batch for batch, _ in shapes))
        figures = {
            f"{batch}x{length}": measure(arms, (batch, length), arguments.seconds, arguments.clock)
            for batch, length in shapes
        }
        memory = sizes_in_memory(directory, adapter)
    if arguments.json:
        print(json.dumps({"size": arguments.size, "clock": arguments.clock, **memory, "shapes": figures}))
        return
    print(f"{arguments.size}, {threads} threads, {arguments.clock} time; one resident adapter {memory}")
    print(f"{'shape':<8}{'arm':<11}{'ms':>9}{'runs':>6}{'/ backbone':>12}{'/ merged':>10}")
    for shape, rows in figures.items():
        for arm, row in rows.items():
            ratios = "".join(f"{row.get(key, float('nan')):>{width}.3f}" for key, width in _COLUMNS)
            print(f"{shape:<8}{arm:<11}{row['ms']:>9.1f}{row['runs']:>6.0f}{ratios}")


_COLUMNS = (("of_backbone", 12), ("of_merged", 10))

if __name__ == "__main__":
    main()
