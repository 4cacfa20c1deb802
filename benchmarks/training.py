"""Time and kept activations of training adapters: ours, AdapterHub's, a dense adapter, PEFT's LoRA, none.

    python -m benchmarks.training
    python -m benchmarks.training --threads 1 --cpu-time --json     # on a machine with other work

First one adapter by itself, forward and backward, x -> x + D(x): times, what autograd keeps beyond x, and the lower
bound of the arithmetic. Then a training step of BERT-base with random frozen weights, from embeddings that require
gradients, so that every arm goes through the whole backbone in both directions; the overhead of an arm is what its
step takes beyond the frozen backbone's in the same round. All arms run in every round, in random order, each once
unmeasured before it is measured, so that none finds the caches as another left them; figures are medians.
Needs the environment with AdapterHub and PEFT: make install-interop.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from tqdm import tqdm

from benchmarks.arms import PHM_DIM, REDUCTION, Arm, Call, models, single_adapters
from compacter_exporters.optimise.measuring import rounds

FLOAT: Final = 4
"""Bytes of a float32."""

BOUND: Final = "lower bound"
COPY: Final = "copy"
PRODUCT: Final = "product"

Clock = Callable[[], float]
Figures = dict[str, dict[str, float]]


def kept_bytes(call: Call, x: Tensor, parameters: list[Tensor]) -> int:
    """What autograd keeps of one forward pass: bytes of distinct storages, without those of x and of the parameters."""
    known = {tensor.untyped_storage().data_ptr() for tensor in (x, *parameters)}
    kept: dict[int, int] = {}
    alive: list[Tensor] = []  # so that no storage is reused for another tensor

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        alive.append(tensor)
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        call(x)
    return sum(kept.values())


def measure_adapter(rows: int, hidden_size: int, count: int, clock: Clock) -> Figures:
    """Forward and backward of x + D(x) with x [rows, hidden_size]: microseconds and kept KB by arm, and the bound."""
    generator = torch.Generator().manual_seed(0)
    x, g = (torch.randn(rows, hidden_size, generator=generator) for _ in range(2))
    x.requires_grad_()
    square, product = torch.ones(hidden_size, hidden_size), torch.empty(rows, hidden_size)
    with single_adapters(hidden_size) as arms:
        kept = {arm: kept_bytes(call, x, parameters) for arm, (call, parameters) in arms.items()}
        runs = {str(arm): _both_ways(call, x, g) for arm, (call, _) in arms.items()}
        runs[COPY] = lambda: _ignore(product.copy_(g))
        runs[PRODUCT] = lambda: _ignore(torch.mm(g, square, out=product))
        seconds = _in_rounds(runs, count, clock, "one adapter")
    figures: Figures = {}
    for arm in arms:
        ratio = statistics.median(a / b for a, b in zip(seconds[arm], seconds[Arm.OURS], strict=True))
        figures[arm] = {
            "microseconds": 1e6 * statistics.median(seconds[arm]),
            "times_ours": ratio,
            "kept_kb": kept[arm] / 1024,
        }
    return figures | {BOUND: _lower_bound(rows, hidden_size, seconds)}


def measure_step(layers: int, batch: int, length: int, count: int, clock: Clock) -> Figures:
    """Of each arm: milliseconds, percent beyond the frozen step, and this overhead as a part of AdapterHub's."""
    arms = models(layers)
    hidden_size = arms[Arm.FROZEN].config.hidden_size
    embeddings = torch.randn(batch, length, hidden_size, generator=torch.Generator().manual_seed(0))
    runs = {str(arm): _training_step(model, embeddings) for arm, model in arms.items()}
    seconds = _in_rounds(runs, count, clock, "training steps")
    frozen = seconds[Arm.FROZEN]
    overheads = {
        arm: 100 * statistics.median(a / b - 1 for a, b in zip(of_arm, frozen, strict=True))
        for arm, of_arm in seconds.items()
    }
    return {
        arm: {
            "milliseconds": 1e3 * statistics.median(of_arm),
            "overhead_percent": overheads[arm],
            "of_adapterhub": overheads[arm] / overheads[Arm.ADAPTERHUB],
        }
        for arm, of_arm in seconds.items()
    }


def _in_rounds(runs: Mapping[str, Callable[[], None]], count: int, clock: Clock, label: str) -> dict[str, list[float]]:
    """Seconds of each run by round."""
    with tqdm(total=count, desc=label, leave=False) as bar:
        generator = np.random.default_rng(0)
        return rounds(runs, 0, generator, fewest=count, clock=clock, after_round=lambda: _ignore(bar.update()))


def _both_ways(call: Call, x: Tensor, g: Tensor) -> Callable[[], None]:
    def run() -> None:
        call(x).backward(g)  # type: ignore[no-untyped-call]  # PyTorch's annotations lack it
        x.grad = None

    return run


def _training_step(model: Any, embeddings: Tensor) -> Callable[[], None]:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-4, fused=True) if trained else None
    inputs = embeddings.clone().requires_grad_()

    def run() -> None:
        model(inputs_embeds=inputs).last_hidden_state.square().mean().backward()
        inputs.grad = None
        if optimiser is not None:
            optimiser.step()
            optimiser.zero_grad()

    return run


def _ignore(_: object) -> None:
    pass


def _lower_bound(rows: int, hidden_size: int, seconds: Mapping[str, list[float]]) -> dict[str, float]:
    """Of our adapter: what must be read and written, and multiplied, at the speeds that this machine has just shown.

    x is read and y written going forward, x and g are read and dx is written going back; each number of them takes part
    in n r multiplications, twice forward and four times back. A copy reads and writes once; a square product shows the
    speed of multiplications.
    """
    size, ours = rows * hidden_size, statistics.median(seconds[Arm.OURS])
    bandwidth = 2 * size * FLOAT / statistics.median(seconds[COPY])
    speed = 2 * size * hidden_size / statistics.median(seconds[PRODUCT])
    moved, operations = 5 * size * FLOAT, 6 * 2 * size * PHM_DIM
    bound = max(moved / bandwidth, operations / speed)
    return {
        "microseconds": 1e6 * bound,
        "times_ours": bound / ours,
        "kept_kb": rows * (hidden_size // REDUCTION) * FLOAT / 1024,
        "megabytes": moved / 1e6,
        "gigabytes_per_second": bandwidth / 1e9,
        "megaflop": operations / 1e6,
        "gigaflop_per_second": speed / 1e9,
    }


def _print_table(title: str, figures: Figures, columns: Mapping[str, str]) -> None:
    print(title)
    print(f"{'':<28}" + "".join(f"{heading:>18}" for heading in columns))
    for name, row in figures.items():
        print(f"{name:<28}" + "".join(f"{row[key]:>18.2f}" for key in columns.values()))
    print()


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--threads", type=int, help="of PyTorch (default: its own choice)")
    parser.add_argument("--cpu-time", action="store_true", help="processor time instead of time; use it with 1 thread")
    parser.add_argument("--rounds", type=int, default=200, help="of the single adapter (default: 200)")
    parser.add_argument("--steps", type=int, default=15, help="training steps per arm; 0 leaves them out (default: 15)")
    parser.add_argument("--layers", type=int, default=12, help="of the backbone (default: 12)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    rows, hidden_size, batch, length = 1024, 768, 16, 64
    adapter = measure_adapter(rows, hidden_size, arguments.rounds, clock)
    step = measure_step(arguments.layers, batch, length, arguments.steps, clock) if arguments.steps else {}
    if arguments.json:
        print(json.dumps({"threads": torch.get_num_threads(), "adapter": adapter, "step": step}))
        return
    bound = adapter[BOUND]
    columns = {"us": "microseconds", "times ours": "times_ours", "kept KB": "kept_kb"}
    _print_table(f"x + D(x), x {rows} x {hidden_size}, forward and backward", adapter, columns)
    print(
        f"lower bound: {bound['megabytes']:.1f} MB at {bound['gigabytes_per_second']:.1f} GB/s, "
        f"{bound['megaflop']:.0f} MFLOP at {bound['gigaflop_per_second']:.0f} GFLOP/s; kept: the bottleneck z\n"
    )
    if step:
        columns = {"ms": "milliseconds", "overhead %": "overhead_percent", "of AdapterHub's": "of_adapterhub"}
        _print_table(f"training step, BERT-base, {arguments.layers} layers, {batch} x {length} tokens", step, columns)


if __name__ == "__main__":
    main()
