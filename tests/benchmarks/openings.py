"""Measures once, and prints what happened besides: in a process of its own, since its sessions share a pool.

python -m tests.benchmarks.openings DIRECTORY OPENINGS
"""

import gc
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime

from benchmarks.inference_choices import Arm
from benchmarks.inference_models import CpuModels
from benchmarks.inference_sessions import open_session, share_pool
from benchmarks.inference_source import Source
from benchmarks.inference_times import Plan, measure
from compacter_exporters.optimise.choices import Precision
from compacter_exporters.optimise.measuring import timed_session

ARMS = (Arm.BACKBONE, Arm.MERGED, Arm.SWAPPABLE, Arm.BANK, Arm.ROWS)
SHAPES = {"1x4": (1, 4), "2x3": (2, 3)}
_THREADS = 2
_X = {name: np.ones((1, 32), np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}


class Observed(CpuModels):
    """Models that note which graph was asked for, and how many sessions were open at that moment."""

    def __init__(self, directory: Path) -> None:
        super().__init__(Source(directory, "tiny"), Precision.FP32)
        self.opened: list[tuple[Arm, int]] = []

    def path(self, arm: Arm) -> Path:
        self.opened.append((arm, sessions()))
        return super().path(arm)


def sessions() -> int:
    """How many sessions are open."""
    return sum(isinstance(one, onnxruntime.InferenceSession) for one in gc.get_objects())


def idle(session: onnxruntime.InferenceSession) -> float:
    """Seconds that the process computes after a run, while its caller sleeps; the median of five."""
    found = []
    for _ in range(5):
        session.run(None, _X)
        start = time.process_time()
        time.sleep(0.2)
        found.append(time.process_time() - start)
    return statistics.median(found)


def threads() -> int | None:
    """Threads of the process; None where the system does not say."""
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.exists() else None


def main(directory: Path, openings: int) -> dict[str, object]:
    """Measure, and say what was seen."""
    models = Observed(directory)
    for arm in ARMS:
        models.path(arm)
    asleep = idle(timed_session(models.path(Arm.BACKBONE), ["CPUExecutionProvider"]))
    share_pool(_THREADS)
    before = threads()
    pair = [open_session(models, arm) for arm in (Arm.BACKBONE, Arm.MERGED)]
    spinning, after = idle(pair[0]), threads()
    del pair
    models.opened.clear()
    gc.disable()  # sessions are closed because nothing refers to them, and not when Python happens to look for cycles
    times = measure(models, ARMS, Plan(SHAPES, seconds=0.1, openings=openings))
    return {
        "opened": models.opened,
        "left_open": sessions(),
        "runs": {shape: [{arm: len(one) for arm, one in of.items()} for of in found] for shape, found in times.items()},
        "threads": (before, after),
        "asleep": asleep,
        "spinning": spinning,
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
