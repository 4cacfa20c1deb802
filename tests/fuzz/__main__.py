"""Coverage-guided fuzzing of the reader: `python -m tests.fuzz --target header --runs 5000000 --seconds 600`.

It needs atheris (`pip install atheris`). The corpus is kept, so the next run goes on where this one ended. Exit codes:
0 no finding, 1 findings, 2 a wrong call.
"""

import argparse
import importlib.util
import json
import sys
from pathlib import Path

from tests.fuzz.campaign import run
from tests.fuzz.targets import TARGETS


def main() -> int:
    """Fuzz what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--target", action="append", choices=[*TARGETS], help="what to fuzz, repeatable; default: all")
    parser.add_argument("--runs", type=int, default=100_000, help="executions per target (%(default)s)")
    parser.add_argument("--seconds", type=int, default=600, help="longest time per target (%(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (%(default)s)")
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"), help="corpus, logs, findings (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print the summaries as JSON")
    options = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        parser.error("atheris is not installed: pip install atheris")
    summaries = []
    for target in options.target or TARGETS:
        summary = run(target, options.folder, runs=options.runs, seconds=options.seconds, jobs=options.jobs)
        summaries.append(summary)
        if not options.json:
            sys.stdout.write(summary.as_text() + "\n")
            sys.stdout.flush()
    if options.json:
        sys.stdout.write(json.dumps([summary.as_dict() for summary in summaries], indent=1) + "\n")
    return 1 if any(summary.findings for summary in summaries) else 0


if __name__ == "__main__":
    sys.exit(main())
