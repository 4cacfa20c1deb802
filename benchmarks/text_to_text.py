"""T5 from nothing to an adapter, on real text: a tiny T5 is pretrained, frozen, and taught a text-to-text task.

    python -m benchmarks.text_to_text
    python -m benchmarks.text_to_text --data DIRECTORY --method compacter++

1. A Unigram tokenizer with T5's sentinels is trained on the training texts.
2. A random T5 is pretrained, every parameter of it, as T5 was: it fills in spans, and it writes labels in words. It
   sees three quarters of the labels, and no text of the others.
3. It is frozen; adapter and norms learn to write the other labels. The embeddings, which are also the output matrix,
   stay as they are.
4. The saved adapter goes onto a fresh copy of the backbone, which generates answers for the test rows (validation rows
   where there are none).

The rows are the quickstart's docstrings, or `train.jsonl`, `validation.jsonl` and perhaps `test.jsonl` of a directory,
with `text` and `label`. What is done is not done again, and what was interrupted goes on.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from benchmarks.tiny_t5 import MAX_LENGTH, corrupt, save_random
from compacter_core.errors import CompacterError
from compacter_core.format.atomic import atomic_write
from compacter_core.methods import Method
from compacter_core.pytorch import from_pretrained
from compacter_core.pytorch.training import (
    AdapterRecipe,
    Columns,
    Example,
    FullRecipe,
    Recipe,
    Schedule,
    Task,
    TrainResult,
    TrainSettings,
    read_file,
)
from compacter_core.pytorch.training.metrics import normalise
from examples.quickstart.stages import Stages

_TARGET_LENGTH: Final = 16
_BATCH: Final = 64
_SPLITS: Final = ("train", "validation")
# Every fourth label is the adapter's.
_NEW: Final = 4

PRETRAINING: Final = Schedule(epochs=5, batch_size=_BATCH)
ADAPTER: Final = AdapterRecipe(learning_rate=3e-2, reduction_factor=8)
SCHEDULE: Final = Schedule(epochs=10, batch_size=32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Sizes of everything; the defaults take some minutes on two cores.

    Args:
        vocabulary: tokens, sentinels included.
        hidden: width of the T5.
        layers: of its encoder, and of its decoder.
        pretraining: schedule of the backbone.
        copies: differently corrupted copies of each text, beside one with its label.
        recipe: the adapter.
        schedule: of the adapter.
    """

    vocabulary: int = 4000
    hidden: int = 128
    layers: int = 2
    pretraining: Schedule = PRETRAINING
    copies: int = 1
    recipe: AdapterRecipe = ADAPTER
    schedule: Schedule = SCHEDULE


@dataclass(frozen=True, slots=True)
class Answers:
    """What the saved adapter generated, row by row, and what was right."""

    split: str
    texts: tuple[str, ...]
    answers: tuple[str, ...]
    targets: tuple[str, ...]

    @property
    def right(self) -> float:
        """Share of rows whose answer is the target."""
        return float(np.mean([normalise(a) == normalise(t) for a, t in zip(self.answers, self.targets, strict=True)]))

    def known(self, labels: Sequence[str]) -> float:
        """Share of answers that are some label: that what is generated makes sense at all."""
        words = {normalise(label) for label in labels}
        return float(np.mean([normalise(answer) in words for answer in self.answers]))


def in_words(label: str) -> str:
    """A label as a text."""
    return label.replace("_", " ")


class Experiment:
    """One data set's pretraining and training, under a directory.

    Args:
        data: files by split, with `text` and `label`.
        directory: for what is made.
        plan: the sizes.
        progress: show progress bars.

    `labels` are the targets that the adapter learns.
    """

    def __init__(self, data: dict[str, Path], directory: Path, plan: Plan, *, progress: bool = True) -> None:
        self._directory = directory
        self._plan = plan
        self._progress = progress
        rows = {split: read_file(path, Columns()) for split, path in data.items()}
        everything = sorted({row.label for row in rows["train"]})
        new = set(everything[::_NEW])
        self._old_rows = {split: [row for row in part if row.label not in new] for split, part in rows.items()}
        self._rows = {split: [row for row in part if row.label in new] for split, part in rows.items()}
        self.labels = sorted(in_words(label) for label in new)

    def pretrained(self) -> TrainResult:
        """A T5 that fills in spans and knows the other labels; its directory is the backbone."""
        generator = np.random.default_rng(0)
        old, plan = self._old_rows, self._plan
        start = self._directory / "random"
        if not start.is_dir():
            texts = [text for row in old["train"] for text in (row.text, in_words(row.label))]
            save_random(start, texts, vocabulary=plan.vocabulary, hidden=plan.hidden, layers=plan.layers)
        files = {split: [(row.text, in_words(row.label)) for row in old[split]] for split in _SPLITS}
        files["train"] += [corrupt(row.text, generator) for row in old["train"] for _ in range(plan.copies)]
        return self._train("pretrained", start, files, FullRecipe(learning_rate=2e-3), plan.pretraining)

    def adapted(self, backbone: Path) -> TrainResult:
        """An adapter that writes labels."""
        files = {split: [(row.text, in_words(row.label)) for row in self._rows[split]] for split in _SPLITS}
        return self._train("adapter", backbone, files, self._plan.recipe, self._plan.schedule)

    def generate(self, backbone: Path, adapter: Path) -> Answers:
        """Answers of the saved adapter on a fresh copy of the backbone."""
        split = "test" if "test" in self._rows else "validation"
        model = AutoModelForSeq2SeqLM.from_pretrained(backbone).eval()
        from_pretrained(model, adapter)
        tokenizer = AutoTokenizer.from_pretrained(backbone)
        rows = self._rows[split]
        answers = [
            text
            for begin in range(0, len(rows), _BATCH)
            for text in _generate(model, tokenizer, rows[begin : begin + _BATCH])
        ]
        texts = tuple(row.text for row in rows)
        return Answers(split, texts, tuple(answers), tuple(in_words(row.label) for row in rows))

    def _train(
        self, name: str, backbone: Path, files: dict[str, list[tuple[str, str]]], recipe: Recipe, schedule: Schedule
    ) -> TrainResult:
        paths = {split: self._directory / f"{name}-{split}.jsonl" for split in files}
        for split, rows in files.items():
            lines = [json.dumps({"text": text, "target": target}) for text, target in rows]
            atomic_write(paths[split], ("\n".join(lines) + "\n").encode())
        settings = TrainSettings(
            backbone=str(backbone),
            train=str(paths["train"]),
            validation=str(paths["validation"]),
            task=Task.SEQ2SEQ,
            max_length=MAX_LENGTH,
            max_target_length=_TARGET_LENGTH,
            recipe=recipe,
            schedule=schedule,
            progress=self._progress,
        )
        return Stages(self._directory).trained(settings)


@torch.inference_mode()
def _generate(model: Any, tokenizer: Any, rows: Sequence[Example]) -> list[str]:
    batch = tokenizer(
        [row.text for row in rows], padding=True, truncation=True, max_length=MAX_LENGTH, return_tensors="pt"
    )
    tokens = model.generate(**batch, max_length=_TARGET_LENGTH + 1)
    return [text.strip() for text in tokenizer.batch_decode(tokens, skip_special_tokens=True)]


def report(experiment: Experiment) -> None:
    """Does it all and prints what came of it."""
    backbone = experiment.pretrained()
    print(f"pretraining, exact match         {_matches(backbone)}", flush=True)
    adapter = experiment.adapted(backbone.output)
    counts = adapter.counts
    size = (adapter.output / "adapter_model.safetensors").stat().st_size
    print(f"backbone parameters              {counts.backbone:,}")
    print(f"trained: adapter and norms       {counts.adapter:,} + {counts.replaced:,} ({counts.share:.3%})")
    print(f"adapter file                     {size / 1024:.0f} KiB")
    print(f"new labels                       {len(experiment.labels)}, {adapter.rows['train']:,} training rows")
    print(f"training loss                    {_thinned(point.loss for point in adapter.history.losses)}")
    print(f"validation loss by epoch         {', '.join(f'{one.loss:.3f}' for one in adapter.history.evaluations)}")
    print(f"validation exact match by epoch  {_matches(adapter)}")
    print(f"time                             {backbone.seconds:.0f} s and {adapter.seconds:.0f} s", flush=True)
    answers = experiment.generate(backbone.output, adapter.output)
    print(f"{answers.split} exact match                 {answers.right:.4f} of {len(answers.answers)} rows")
    print(f"answers that are a label         {answers.known(experiment.labels):.4f}\n")
    for text, answer, target in list(zip(answers.texts, answers.answers, answers.targets, strict=True))[:6]:
        print(f"{text[:80]!r}\n  {answer!r}{'' if answer == target else f', should be {target!r}'}")


def _matches(result: TrainResult) -> str:
    return ", ".join(f"{one.scores['exact_match']:.4f}" for one in result.history.evaluations)


def _thinned(losses: Iterable[float]) -> str:
    """Every tenth loss."""
    return ", ".join(f"{loss:.3f}" for loss in list(losses)[::10])


def main() -> int:
    """Runs what has no result yet, and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="directory with train.jsonl, validation.jsonl, perhaps test.jsonl")
    parser.add_argument("--directory", type=Path, default=Path("build/text_to_text"), help="default build/text_to_text")
    parser.add_argument("--method", choices=[one.value for one in Method], default=Method.COMPACTER.value)
    args = parser.parse_args()
    plan = Plan(recipe=replace(ADAPTER, method=Method(args.method)))
    try:
        if args.data is None:
            data = Stages(Path("build/quickstart")).data()
        else:
            data = {split: path for split in (*_SPLITS, "test") if (path := args.data / f"{split}.jsonl").is_file()}
        report(Experiment(data, args.directory, plan))
    except CompacterError as error:
        print(f"text_to_text: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
