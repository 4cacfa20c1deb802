"""Accuracy of adapters against full fine-tuning of the same backbone on the same rows.

    python -m benchmarks.quality
    python -m benchmarks.quality --data DIRECTORY --methods compacter full --seeds 3 --epochs 8

Every method gets the same rows and epochs, and the best of its own learning rates: the one with the highest mean
accuracy over the seeds. All of them keep their best epoch. Without --data the rows are the quickstart's docstrings.
"""

import argparse
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from compacter_core.errors import CompacterError
from compacter_core.methods import Method
from compacter_core.pytorch.training import FULL_FINE_TUNING, FullRecipe, Recipe
from examples.quickstart.stages import ADAPTER, SCHEDULE, Stages

ADAPTER_RATES: Final = (3e-3, 1e-2)
FULL_RATES: Final = (1e-4, 2e-4, 4e-4)


@dataclass(frozen=True, slots=True)
class Score:
    """One method at one learning rate over all seeds."""

    method: str
    learning_rate: float
    accuracies: tuple[float, ...]
    share: float
    seconds: float

    @property
    def mean(self) -> float:
        """Mean accuracy."""
        return statistics.fmean(self.accuracies)

    def as_row(self) -> str:
        """A line of the table."""
        spread = statistics.stdev(self.accuracies) if len(self.accuracies) > 1 else 0.0
        return (
            f"{self.method:<14}{self.learning_rate:>9.0e}{self.mean:>10.4f} ± {spread:.4f}"
            f"{self.share:>10.3%}{self.seconds:>8.0f} s"
        )


def main() -> int:
    """Runs every combination that has no result yet, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="directory with train.jsonl and validation.jsonl")
    parser.add_argument("--directory", type=Path, default=Path("build/quality"), help="default build/quality")
    words = [*(method.value for method in Method), FULL_FINE_TUNING]
    parser.add_argument("--methods", nargs="+", choices=words, default=[Method.COMPACTER.value, FULL_FINE_TUNING])
    parser.add_argument("--learning-rates", nargs="+", type=float, help="instead of each method's own")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--epochs", type=int, default=SCHEDULE.epochs)
    args = parser.parse_args()
    try:
        scores = [score for method in args.methods for score in _scores(method, args)]
    except CompacterError as error:
        print(f"quality: {error}", file=sys.stderr)
        return 2
    print(f"{'method':<14}{'rate':>9}{'accuracy':>10}{'':>9}{'share':>10}{'time':>10}")
    for score in scores:
        print(score.as_row())
    best = {method: max((s for s in scores if s.method == method), key=lambda s: s.mean) for method in args.methods}
    print("\nbest rate of each:", *(f"{method} {score.mean:.4f}" for method, score in best.items()))
    return 0


def _scores(method: str, args: argparse.Namespace) -> Iterator[Score]:
    stages = Stages(args.directory)
    rates = args.learning_rates or (FULL_RATES if method == FULL_FINE_TUNING else ADAPTER_RATES)
    for rate in rates:
        results = []
        for seed in range(args.seeds):
            schedule = replace(SCHEDULE, seed=seed, epochs=args.epochs)
            result = stages.trained(stages.settings(_recipe(method, rate), schedule=schedule, data=args.data))
            # Only the log is of use here, and a fine-tuned model is large.
            (result.output / "model.safetensors").unlink(missing_ok=True)
            results.append(result)
        yield Score(
            method=method,
            learning_rate=rate,
            accuracies=tuple(result.best.accuracy for result in results),
            share=results[0].counts.share,
            seconds=statistics.fmean(result.seconds for result in results),
        )


def _recipe(method: str, rate: float) -> Recipe:
    if method == FULL_FINE_TUNING:
        return FullRecipe(learning_rate=rate)
    return replace(ADAPTER, method=Method(method), learning_rate=rate)


if __name__ == "__main__":
    sys.exit(main())
