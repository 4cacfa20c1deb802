"""`python -m examples.conformance`: every implementation of this repository against the suite, as one table.

    python -m examples.conformance
    python -m examples.conformance --only javascript jax

Each report goes to build/conformance/<name>.json; a report that is there already is not made again, unless --again is
given. AdapterHub needs the interop environment (make install-interop) and is left out without it.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
INTEROP: Final = ".venv-interop/bin/python"
_FOUND_ANSWER: Final = (0, 1)


@dataclass(frozen=True, slots=True)
class Subject:
    """An implementation and how the runner reaches it.

    Args:
        title: for the table.
        options: of `compacter conformance run`.
        program: what has to be installed.
        conforms: whether it is expected to.
    """

    title: str
    options: tuple[str, ...]
    program: str | None = None
    conforms: bool = True


SUBJECTS: Final[Mapping[str, Subject]] = {
    "reference": Subject("NumPy reference", ("--implementation", "reference")),
    "pytorch": Subject("PyTorch back end", ("--implementation", "pytorch")),
    "onnxruntime": Subject("our ONNX graphs, ONNX Runtime", ("--implementation", "onnxruntime")),
    "onnx-reference": Subject("our ONNX graphs, onnx.reference", ("--implementation", "onnx-reference")),
    "javascript": Subject("JavaScript (Node)", ("--command", "node examples/javascript/main.mjs"), "node"),
    "minimal": Subject("99 lines of Python", ("--command", f"{sys.executable} examples/minimal/implementation.py")),
    "jax": Subject("JAX", ("--command", f"{sys.executable} -m examples.jax")),
    "adapterhub": Subject(
        "AdapterHub 1.3.0",
        ("--command", f"{INTEROP} -m examples.adapterhub", "--lists", "examples/adapterhub/known.toml"),
        INTEROP,
        conforms=False,
    ),
}


def main() -> int:
    """Make the reports that are missing and print the table; 1 if a subject that should conform does not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SUBJECTS, default=list(SUBJECTS), help="these alone")
    parser.add_argument("--again", action="store_true", help="make reports again")
    args = parser.parse_args()
    rows, bad = [], []
    for name in args.only:
        subject = SUBJECTS[name]
        if subject.program is not None and shutil.which(subject.program) is None:
            print(f"{name}: {subject.program} is not installed, left out", file=sys.stderr)
            continue
        report = _report(name, subject, again=args.again)
        if subject.conforms and not report["conformant"]:
            bad.append(name)
        rows.append(_row(subject, report))
    header = ["implementation", *(f"{name}" for name in _CLASSES)]
    print("\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows]))
    if bad:
        print(f"not conformant: {', '.join(bad)}", file=sys.stderr)
    return 1 if bad else 0


_CLASSES: Final = ("R", "W", "F", "G", "P", "I", "O")


def _report(name: str, subject: Subject, *, again: bool) -> dict[str, Any]:
    path = ROOT / "build/conformance" / f"{name}.json"
    if again or not path.is_file():
        print(f"-- {name}", file=sys.stderr, flush=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        run = [sys.executable, "-m", "compacter_core", "conformance", "run", *subject.options, "--report", str(path)]
        done = subprocess.run(run, cwd=ROOT, check=False, stdout=subprocess.DEVNULL)  # noqa: S603 (our own program)
        if done.returncode not in _FOUND_ANSWER:
            raise SystemExit(done.returncode)
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return report


def _row(subject: Subject, report: Mapping[str, Any]) -> list[str]:
    results = {name: [one for one in report["classes"] if one["class"] == name] for name in _CLASSES}
    return [subject.title, *(_cell(found) for found in results.values())]


def _cell(found: Sequence[Mapping[str, Any]]) -> str:
    """Types, cases passed of all, and the worst ratio of error to bound."""
    if not found:
        return ""
    counts = ("passed", "failed", "errors", "skipped", "xfailed", "xpassed")
    passed, total = sum(one["passed"] for one in found), sum(one[count] for one in found for count in counts)
    ratios = [one["worst_ratio"] for one in found if one["worst_ratio"]]
    words = [f"{passed}/{total}"]
    if found[0]["dtype"]:
        words.append(" ".join(one["dtype"] for one in found))
    if ratios:
        words.append(f"{max(ratios):.2g}")
    return ", ".join(words)


if __name__ == "__main__":
    sys.exit(main())
