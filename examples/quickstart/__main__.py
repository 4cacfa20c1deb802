"""`python -m examples.quickstart`: one adapter from text to a verified ONNX model, and one table about it."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from compacter_core.errors import CompacterError
from compacter_core.format.atomic import atomic_write
from compacter_core.pytorch.training import Columns, draw_curves, read_file
from compacter_exporters.verify import verify
from compacter_runtime.session import Session
from examples.quickstart.measure import TorchClassifier, compare, latency
from examples.quickstart.report import FullFineTuning, Report
from examples.quickstart.stages import POOLING, Stages

_BATCH = 32
_SECONDS = 5.0


def main() -> int:
    """Runs the quickstart; 0 if every check holds, 1 if one does not, 2 if it could not run."""
    parser = argparse.ArgumentParser(prog="python -m examples.quickstart", description=__doc__)
    parser.add_argument("--directory", type=Path, default=Path("build/quickstart"), help="default build/quickstart")
    parser.add_argument(
        "--without-full", action="store_true", help="leave out full fine-tuning, which is there for comparison"
    )
    args = parser.parse_args()
    begin = time.perf_counter()
    try:
        report = run(Stages(args.directory), with_full=not args.without_full)
    except CompacterError as error:
        print(f"quickstart: {error}", file=sys.stderr)
        return 2
    print(report.as_text())
    print(f"\n{time.perf_counter() - begin:.0f} s; everything is in {args.directory}")
    data = json.dumps(report.as_dict(), indent=1, ensure_ascii=False) + "\n"
    atomic_write(args.directory / "report.json", data.encode())
    return 0 if report.ok else 1


def run(stages: Stages, *, with_full: bool) -> Report:
    """All stages and measurements."""
    files = stages.data()
    _announce("train the adapter")
    adapter = stages.adapter()
    full = None
    if with_full:
        _announce("full fine-tuning, for comparison")
        trained = stages.fine_tuned()
        right = TorchClassifier(trained.output, pooling=POOLING).right(files["test"])
        full = FullFineTuning(trained, test_accuracy=float(right.mean()))
    runs = {"Compacter": adapter.history} | ({} if full is None else {"full fine-tuning": full.training.history})
    draw_curves(
        runs, stages.directory / "training_curve.png", title="Which field of mathematics is this docstring about?"
    )
    _announce("export, graft, verify")
    backbone, merged = stages.exported(), stages.merged()
    verification = verify(merged, adapter.output)
    _announce("compare PyTorch and ONNX Runtime on the validation and test texts")
    classifier, session = TorchClassifier(stages.backbone(), adapter.output), Session(merged)
    agreement = {split: compare(classifier, session, files[split]) for split in ("validation", "test")}
    texts = [row.text for row in read_file(files["validation"], Columns())[:_BATCH]]
    bare = Session(backbone)

    _announce("measure latency")

    def calls(rows: int) -> dict[str, Callable[[], object]]:
        return {
            "backbone, ONNX Runtime": lambda: bare.run(texts[:rows]),
            "with the adapter, ONNX Runtime": lambda: session.run(texts[:rows]),
            "with the adapter, PyTorch": lambda: classifier.logits(texts[:rows]),
        }

    latencies = {rows: latency(calls(rows), seconds=_SECONDS) for rows in (1, _BATCH)}
    return Report(adapter=adapter, full=full, agreement=agreement, verification=verification, latencies=latencies)


def _announce(stage: str) -> None:
    print(f"-- {stage}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
