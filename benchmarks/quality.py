"""Accuracy of adapters against full fine-tuning of the same backbone on the same rows.

    python -m benchmarks.quality
    python -m benchmarks.quality --data DIRECTORY --methods compacter low_rank full --seeds 5

Every method gets the same rows, epochs, batches and dropout. Everything is chosen on the validation rows: the epoch of
each run, and of each method the learning rate, by the mean over `--choice-seeds` seeds. Only then are the test rows
looked at, for the chosen rates and all seeds. Without --data the rows are the quickstart's docstrings. A run that is
done is not done again, so this can be interrupted.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from compacter_core.errors import CompacterError
from compacter_core.format.atomic import atomic_write
from compacter_core.methods import Method
from compacter_core.pytorch.training import FULL_FINE_TUNING, FullRecipe, Recipe, TrainResult
from examples.quickstart.docstrings import split_paths
from examples.quickstart.measure import TorchClassifier
from examples.quickstart.stages import ADAPTER, POOLING, SCHEDULE, Stages

ADAPTER_RATES: Final = (3e-3, 5e-3, 1e-2)
FULL_RATES: Final = (1e-4, 2e-4, 4e-4)

_TEST_FILE: Final = "test_answers.json"
_WEIGHTS: Final = "model.safetensors"

Right = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Tested:
    """A method at its chosen learning rate.

    Args:
        method: its word on the command line.
        learning_rate: the chosen one.
        results: of each seed.
        right: [seeds, test rows], whether the answer is right.
    """

    method: str
    learning_rate: float
    results: tuple[TrainResult, ...]
    right: Right

    @property
    def accuracies(self) -> list[float]:
        """On the test rows, by seed."""
        return [float(accuracy) for accuracy in self.right.mean(axis=1)]

    def lines(self) -> Iterator[str]:
        """A line of the table for each seed, and their mean and standard deviation."""
        for seed, (result, accuracy) in enumerate(zip(self.results, self.accuracies, strict=True)):
            yield self._line(str(seed), f"{result.best.accuracy:.4f}", f"{accuracy:.4f}", result.seconds)
        validation = [result.best.accuracy for result in self.results]
        seconds = statistics.fmean(result.seconds for result in self.results)
        yield self._line("mean", mean_and_spread(validation), mean_and_spread(self.accuracies), seconds)

    def _line(self, seed: str, validation: str, test: str, seconds: float) -> str:
        share = self.results[0].counts.share
        name = f"{self.method:<12}{self.learning_rate:>8.0e}{share:>10.3%}"
        return f"{name}{seed:>6}{validation:>18}{test:>18}{seconds:>8.0f} s"


class Benchmark:
    """Runs of one data set, and what they give.

    Args:
        stages: where the runs lie.
        data: directory of the splits; None for the quickstart's.
        epochs: of every run.
    """

    def __init__(self, stages: Stages, data: Path | None, epochs: int) -> None:
        self._stages = stages
        self._data = data
        self._epochs = epochs

    def train(self, method: str, rate: float, seed: int) -> TrainResult:
        """One run."""
        schedule = replace(SCHEDULE, seed=seed, epochs=self._epochs)
        return self._stages.trained(self._stages.settings(recipe(method, rate), schedule=schedule, data=self._data))

    def choose(self, method: str, rates: Sequence[float], seeds: int) -> float:
        """The learning rate with the highest mean validation accuracy; a line for each on stdout."""
        means = {}
        for rate in rates:
            accuracies = [self.train(method, rate, seed).best.accuracy for seed in range(seeds)]
            means[rate] = statistics.fmean(accuracies)
            print(f"{method:<12}{rate:>8.0e}{mean_and_spread(accuracies):>18}", flush=True)
        return max(means, key=lambda rate: means[rate])

    def test(self, method: str, rate: float, seeds: int) -> Tested:
        """Runs of all seeds at one learning rate, with their answers on the test rows."""
        results = tuple(self.train(method, rate, seed) for seed in range(seeds))
        right = np.array([self._right(method, result.output) for result in results])
        return Tested(method, rate, results, right)

    def _right(self, method: str, output: Path) -> Right:
        """Answers of a run, from an earlier time if they are there."""
        path = output / _TEST_FILE
        if not path.is_file():
            is_full = method == FULL_FINE_TUNING
            backbone = self._stages.backbone()
            classifier = TorchClassifier(output, pooling=POOLING) if is_full else TorchClassifier(backbone, output)
            file = self._stages.data()["test"] if self._data is None else split_paths(self._data)["test"]
            atomic_write(path, json.dumps(classifier.right(file).tolist()).encode())
            # Nothing else needs a fine-tuned model, and it is large.
            (output / _WEIGHTS).unlink(missing_ok=True)
        return np.array(json.loads(path.read_text()), dtype=np.bool_)


def recipe(method: str, rate: float) -> Recipe:
    """The quickstart's recipe with another method and learning rate."""
    if method == FULL_FINE_TUNING:
        return FullRecipe(learning_rate=rate, pooling=POOLING)
    return replace(ADAPTER, method=Method(method), learning_rate=rate)


def mean_and_spread(numbers: Sequence[float]) -> str:
    """Mean, and the standard deviation if there is more than one number."""
    spread = f" ± {statistics.stdev(numbers):.4f}" if len(numbers) > 1 else ""
    return f"{statistics.fmean(numbers):.4f}{spread}"


def gap(ahead: Right, behind: Right) -> tuple[float, float]:
    """Difference of the mean accuracies, and its standard error.

    Both answered the same rows, so the error is that of a mean of differences: of each row, the shares of the seeds
    that got it right.
    """
    differences = ahead.mean(axis=0) - behind.mean(axis=0)
    return float(differences.mean()), float(differences.std(ddof=1) / np.sqrt(differences.size))


def main() -> int:
    """Runs every combination that has no result yet, and prints the tables."""
    args = _arguments()
    try:
        _run(Benchmark(Stages(args.directory), args.data, args.epochs), args)
    except CompacterError as error:
        print(f"quality: {error}", file=sys.stderr)
        return 2
    return 0


def _run(benchmark: Benchmark, args: argparse.Namespace) -> None:
    print(f"{'method':<12}{'rate':>8}{'validation':>18}")
    rates = {
        method: args.learning_rates or (FULL_RATES if method == FULL_FINE_TUNING else ADAPTER_RATES)
        for method in args.methods
    }
    chosen = {method: benchmark.choose(method, rates[method], args.choice_seeds) for method in args.methods}
    print(f"\n{'method':<12}{'rate':>8}{'trained':>10}{'seed':>6}{'validation':>18}{'test':>18}{'time':>10}")
    tested = []
    for method, rate in chosen.items():
        tested.append(benchmark.test(method, rate, args.seeds))
        print("\n".join(tested[-1].lines()), flush=True)
    for one, other in pairwise(tested):
        difference, error = gap(other.right, one.right)
        by_seed = ", ".join(f"{100 * (b - a):+.2f}" for a, b in zip(one.accuracies, other.accuracies, strict=True))
        print(f"\n{other.method} - {one.method} on {one.right.shape[1]} test rows: {100 * difference:+.2f} points,")
        print(f"standard error {100 * error:.2f} (paired rows); by seed {by_seed}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="directory with train.jsonl, validation.jsonl and test.jsonl")
    parser.add_argument("--directory", type=Path, default=Path("build/quality"), help="default build/quality")
    words = [*(method.value for method in Method), FULL_FINE_TUNING]
    parser.add_argument("--methods", nargs="+", choices=words, default=[Method.COMPACTER.value, FULL_FINE_TUNING])
    parser.add_argument("--learning-rates", nargs="+", type=float, help="instead of each method's own")
    parser.add_argument("--seeds", type=int, default=3, help="of the chosen rate (3)")
    parser.add_argument("--choice-seeds", type=int, default=1, help="of every rate, for the choice (1)")
    parser.add_argument("--epochs", type=int, default=SCHEDULE.epochs, help=f"default {SCHEDULE.epochs}")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
