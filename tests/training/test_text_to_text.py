"""The text-to-text benchmark, small: a T5 is pretrained and frozen, and an adapter on it generates new labels."""

import json
import random
import re
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.text_to_text import Experiment, Plan, report
from benchmarks.tiny_t5 import corrupt
from compacter_core.format.reader import load_adapter
from compacter_core.pytorch.training import AdapterRecipe, Schedule
from tests.training.toy import WORDS

TINY = Plan(
    vocabulary=90,
    hidden=32,
    layers=1,
    pretraining=Schedule(epochs=15, batch_size=16),
    recipe=AdapterRecipe(learning_rate=3e-2, reduction_factor=2),
    schedule=Schedule(epochs=10, batch_size=8),
)


@given(st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=100), st.integers(0, 2**32))
def test_a_corrupted_text_and_its_spans_give_the_text_back(words: list[str], seed: int) -> None:
    source, target = corrupt(" ".join(words), np.random.default_rng(seed))
    spans = dict(re.findall(r"<extra_id_(\d+)>((?: [ab]+)*)", target))
    assert list(spans) == [str(number) for number in range(len(spans))]
    assert spans.popitem()[1] == ""
    filled = re.sub(r"<extra_id_(\d+)>", lambda match: spans[match[1]].strip(), source)
    assert filled.split() == words[:64]
    assert all(spans.values())


def test_loss_falls_and_what_is_generated_is_a_label(tmp_path: Path) -> None:
    """The label is the word that a text has most of, in a name of two words."""
    generator = random.Random(0)  # noqa: S311 (no secret depends on it)
    data = {}
    for split, count in (("train", 20), ("validation", 6)):
        data[split] = tmp_path / f"{split}.jsonl"
        rows = [
            {"text": " ".join([word] * 3 + generator.sample(WORDS, 2)), "label": f"many_{word}"}
            for word in WORDS
            for _ in range(count)
        ]
        data[split].write_text("".join(json.dumps(row) + "\n" for row in rows))
    experiment = Experiment(data, tmp_path / "out", TINY, progress=False)
    assert experiment.labels == ["many blue", "many fig", "many red"]
    backbone = experiment.pretrained()
    adapter = experiment.adapted(backbone.output)
    losses = [one.loss for one in adapter.history.evaluations]
    assert losses[-1] < losses[0]
    assert load_adapter(adapter.output).config.head is None
    answers = experiment.generate(backbone.output, adapter.output)
    assert set(answers.targets) == set(experiment.labels)
    assert answers.right == adapter.history.best.scores["exact_match"]
    assert answers.known(experiment.labels) >= answers.right > 0.6
    report(experiment)
