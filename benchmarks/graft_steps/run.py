"""Running a grafted model."""

from pathlib import Path

import numpy as np

from benchmarks.graft_steps.clock import between, now
from compacter_runtime.session import Session


def step(model: str) -> dict[str, float]:
    """Seconds of loading and of a run of one row, and whether its logits are finite."""
    start = now()
    session = Session(Path(model), intra_op_threads=1)
    loaded = now()
    tokens = np.random.default_rng(0).integers(0, 1000, (1, 32))
    inputs = {name: np.ones_like(tokens) for name in session.input_names} | {"input_ids": tokens}
    logits = session.run(inputs)["logits"]
    figures = between(loaded, now())
    return figures | {"load_s": between(start, loaded)["seconds"], "finite": float(np.isfinite(logits).all())}
