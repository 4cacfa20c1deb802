"""Wall time, and processor time, which other programs on the machine disturb less."""

import time

Instant = tuple[float, float]


def now() -> Instant:
    """The present, on both clocks."""
    return time.perf_counter(), time.process_time()


def between(start: Instant, end: Instant) -> dict[str, float]:
    """Seconds on both clocks."""
    return {"seconds": end[0] - start[0], "cpu_s": end[1] - start[1]}
