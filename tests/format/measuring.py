"""What a call takes: memory against the bound that the reader states, and processor time."""

import gc
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass

from compacter_core.errors import CompacterError, ErrorCode

PER_TENSOR = 640
ALLOWANCE = 16 * 2**20
SECONDS = 5
"""An input that takes longer counts as one that hangs."""


@dataclass(frozen=True)
class Cost:
    """The end of a call, None if it returned, with the most memory it held and its processor time in seconds."""

    code: ErrorCode | None
    peak: int
    seconds: float


def measure(call: Callable[[], object]) -> Cost:
    """Run a call twice: tracing memory takes time. What it returns is held until its memory has been measured."""
    before = time.process_time()
    _outcome(call)
    seconds = time.process_time() - before
    gc.collect()
    tracemalloc.start()
    try:
        base, _ = tracemalloc.get_traced_memory()
        code, _result = _outcome(call)
        return Cost(code, tracemalloc.get_traced_memory()[1] - base, seconds)
    finally:
        tracemalloc.stop()


def bound(size: int, tensors: int) -> int:
    """The memory that reading may take: see `compacter_core.format.reader`."""
    return 2 * size + PER_TENSOR * tensors + ALLOWANCE


def _outcome(call: Callable[[], object]) -> tuple[ErrorCode | None, object]:
    try:
        return None, call()
    except CompacterError as error:
        return error.code, None
