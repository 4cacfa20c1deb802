"""One step of the graft benchmark in a process of its own, so that its peak memory is that step's.

    python -m benchmarks.graft_steps graft BACKBONE ADAPTER OUTPUT FORM

Prints JSON: seconds of the imports, the peak resident memory of the process, and what the step found.
"""

import json
import sys
import time
from importlib import import_module
from pathlib import Path


def main() -> None:
    """Measure the step that the arguments name."""
    name, *arguments = sys.argv[1:]
    start = time.perf_counter()
    module = import_module(f"benchmarks.graft_steps.{name}")
    imported = time.perf_counter() - start
    figures = module.step(*arguments)
    print(json.dumps({"import_s": imported, **figures, "peak_mib": _peak_mib()}))


def _peak_mib() -> float:
    """The largest resident memory of this process so far, file mappings included, as the kernel counts it."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


if __name__ == "__main__":
    main()
