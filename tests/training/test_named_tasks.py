"""GLUE and SuperGLUE: the texts that T5 was trained on, the classes, the scores of generated texts, rows from files."""

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from transformers import AutoTokenizer

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.pytorch.training import NAMED_TASKS, Columns, Metric, Task, TrainSettings, find_named_task
from compacter_core.pytorch.training.sources import load_rows
from compacter_core.pytorch.training.tasks import STRATEGIES, Limits
from compacter_core.pytorch.training.text_to_text import (
    TextToText,
    format_named,
    round_similarity,
    score_named,
    score_texts,
)
from compacter_core.rows import Row

# Per task a row as the hub has it, its text and its targets (Raffel et al. 2020, appendix D, gives one of most tasks).
EXAMPLES: dict[str, tuple[dict[str, Any], str, tuple[str, ...]]] = {
    "glue/cola": ({"sentence": "A b.", "label": 1}, "cola sentence: A b.", ("acceptable",)),
    "glue/sst2": ({"sentence": "a b", "label": 0}, "sst2 sentence: a b", ("negative",)),
    "glue/mrpc": (
        {"sentence1": "a", "sentence2": "b", "label": 0},
        "mrpc sentence1: a sentence2: b",
        ("not_equivalent",),
    ),
    "glue/qqp": ({"question1": "a", "question2": "b", "label": 1}, "qqp question1: a question2: b", ("duplicate",)),
    "glue/stsb": ({"sentence1": "a", "sentence2": "b", "label": 3.25}, "stsb sentence1: a sentence2: b", ("3.2",)),
    "glue/mnli": (
        {"premise": "p", "hypothesis": "h", "label": 2},
        "mnli hypothesis: h premise: p",
        ("contradiction",),
    ),
    "glue/qnli": ({"question": "q", "sentence": "s", "label": 0}, "qnli question: q sentence: s", ("entailment",)),
    "glue/rte": (
        {"sentence1": "a", "sentence2": "b", "label": 1},
        "rte sentence1: a sentence2: b",
        ("not_entailment",),
    ),
    "glue/wnli": ({"sentence1": "a", "sentence2": "b", "label": 1}, "wnli sentence1: a sentence2: b", ("entailment",)),
    "super_glue/boolq": ({"question": "q", "passage": "p", "label": True}, "boolq passage: p question: q", ("True",)),
    "super_glue/cb": (
        {"premise": "p", "hypothesis": "h", "label": 1},
        "cb hypothesis: h premise: p",
        ("contradiction",),
    ),
    "super_glue/copa": (
        {"premise": "p", "choice1": "x", "choice2": "y", "question": "effect", "label": 1},
        "copa choice1: x choice2: y premise: p question: effect",
        ("choice2",),
    ),
    "super_glue/multirc": (
        {"paragraph": "<b>Sent 1: </b>One.<br><b>Sent 2: </b>Two.", "question": "q", "answer": "a", "label": 1},
        "multirc question: q answer: a paragraph: Sent 1: One. Sent 2: Two.",
        ("True",),
    ),
    "super_glue/record": (
        {
            "passage": "It is so.\n@highlight\nOne thing\n@highlight\nAnother.",
            "query": "@placeholder is",
            "entities": ["A", "B"],
            "answers": ["B", "A", "B"],
        },
        "record query: @placeholder is entities: A, B passage: It is so. One thing. Another.",
        ("B", "A"),
    ),
    "super_glue/rte": (
        {"premise": "p", "hypothesis": "h", "label": 0},
        "rte hypothesis: h premise: p",
        ("entailment",),
    ),
    "super_glue/wic": (
        {"sentence1": "a", "sentence2": "b", "word": "w", "label": False},
        "wic sentence1: a sentence2: b word: w",
        ("False",),
    ),
    "super_glue/wsc": (
        {
            "text": "Old Mark told Pete that he won.",
            "span1_index": 0,
            "span1_text": "Old Mark",
            "span2_index": 5,
            "span2_text": "he",
            "label": 0,
        },
        "wsc text: * Old Mark * told Pete that # he # won.",
        ("False",),
    ),
}


def named_row(name: str, fields: dict[str, Any]) -> Row:
    (row,) = find_named_task(name).with_names([Row("here:1", fields)])
    return row


@pytest.mark.parametrize("name", NAMED_TASKS)
def test_rows_read_as_t5_knows_them(name: str) -> None:
    fields, text, targets = EXAMPLES[name]
    row = format_named(named_row(name, fields), NAMED_TASKS[name])
    assert (row.text, row.targets) == (text, targets)


@pytest.mark.parametrize("name", NAMED_TASKS)
def test_right_answers_have_full_marks_and_nonsense_has_none(name: str) -> None:
    named = NAMED_TASKS[name]
    fields, *_ = EXAMPLES[name]
    # A row of every class, so that no score is undefined.
    rows = [format_named(named_row(name, fields | {"label": label}), named) for label in range(len(named.labels) or 2)]
    right = score_named([row.targets[0] for row in rows], rows, named)
    assert set(right.values()) == {1.0}
    assert set(right) == {*named.metrics, *([Metric.AVERAGE] if len(named.metrics) > 1 else [])}
    assert set(score_named(["nonsense"] * len(rows), rows, named).values()) == {0.0}


def test_similarities_are_in_fifths() -> None:
    assert [round_similarity(number) for number in (0.0, 2.87, 2.91, 5.0, 3.2)] == ["0.0", "2.8", "3.0", "5.0", "3.2"]


def test_a_text_that_is_no_number_is_minus_one() -> None:
    stsb = find_named_task("stsb")
    rows = [TextToText("t", (target,), str(i), str(i)) for i, target in enumerate(("1.0", "2.0", "4.0"))]
    for nonsense in ("many", "", "nan", "inf"):
        assert score_named([nonsense, "2.0", "4.0"], rows, stsb) == score_named(["-1", "2.0", "4.0"], rows, stsb)


def test_rows_of_one_question_are_right_together() -> None:
    multirc = find_named_task("multirc")
    fields = EXAMPLES["super_glue/multirc"][0]
    places = [(0, 0, 0), (0, 0, 1), (0, 1, 0)]
    rows = [
        format_named(named_row("multirc", fields | {"idx": {"paragraph": p, "question": q, "answer": a}}), multirc)
        for p, q, a in places
    ]
    scores = score_named(["True", "False", "True"], rows, multirc)
    assert scores[Metric.EXACT_MATCH] == 0.5
    assert scores[Metric.F1] == pytest.approx(4 / 5)


def test_any_of_several_answers_is_right_and_each_is_trained_on(t5_backbone: Path) -> None:
    row = TextToText("cat", ("red", "blue"), "1", "1")
    assert set(score_texts(["Blue"], [row]).values()) == {1.0}
    strategy = STRATEGIES[Task.SEQ2SEQ].of([], Columns(), None)
    tokenizer = AutoTokenizer.from_pretrained(t5_backbone)
    assert len(strategy.encode([row], tokenizer, Limits(8, 8), training=True)) == 2
    assert len(strategy.encode([row], tokenizer, Limits(8, 8), training=False)) == 1


@pytest.mark.parametrize("label", [0, "0", "not_equivalent", "Not_Equivalent"])
def test_classes_may_be_given_in_any_way(label: object) -> None:
    row = named_row("mrpc", {"sentence1": "a", "sentence2": "b", "label": label})
    assert row.fields["label"] == "not_equivalent"


@pytest.mark.parametrize("label", [-1, 2, "other", 0.5])
def test_an_unknown_class_is_refused(label: object) -> None:
    with pytest.raises(CompacterError, match="here:1") as caught:
        named_row("mrpc", {"label": label})
    assert caught.value.code is ErrorCode.E802


@pytest.mark.parametrize(
    ("word", "name"),
    [("mrpc", "glue/mrpc"), ("rte", "glue/rte"), ("superglue/rte", "super_glue/rte"), ("BoolQ", "super_glue/boolq")],
)
def test_tasks_are_found_by_name(word: str, name: str) -> None:
    assert find_named_task(word).full_name == name


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(CompacterError, match="glue/mrpc") as caught:
        find_named_task("glue/none")
    assert caught.value.code is ErrorCode.E001


@pytest.mark.parametrize("task", list(Task))
@pytest.mark.parametrize("name", NAMED_TASKS)
def test_a_task_is_trained_as_what_it_can_be(name: str, task: Task) -> None:
    named = NAMED_TASKS[name]
    multiple = name.split("/")[1] in ("copa", "multirc", "record", "wic", "wsc")
    own = Task.SEQ2SEQ if multiple else Task.REGRESSION if name == "glue/stsb" else Task.CLASSIFICATION
    assert named.kinds[0] is own
    if task in (own, Task.SEQ2SEQ):
        TrainSettings(backbone="b", train="t", validation="v", task=task, named=name)
        return
    with pytest.raises(CompacterError) as caught:
        TrainSettings(backbone="b", train="t", validation="v", task=task, named=name)
    assert caught.value.code is ErrorCode.E001


def test_pairs_for_a_classifier_have_the_published_metrics(tmp_path: Path) -> None:
    rows = [{"sentence1": "a", "sentence2": "b", "label": 1}, {"sentence1": "c", "sentence2": "d", "label": 0}]
    path = tmp_path / "mrpc.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    named = find_named_task("mrpc")
    raw = named.with_names(load_rows(str(path), split="train"))
    strategy = STRATEGIES[Task.CLASSIFICATION].of(raw, named.columns, named)
    parsed = strategy.parse(raw, str(path))
    assert [(row.text, row.text_pair, row.label) for row in parsed] == [
        ("a", "b", "equivalent"),
        ("c", "d", "not_equivalent"),
    ]
    assert strategy.labels == ("not_equivalent", "equivalent")
    assert strategy.goal is Metric.AVERAGE


def test_class_numbers_of_a_data_set_become_names(tmp_path: Path) -> None:
    tags = ClassLabel(names=["O", "B-x"])
    features = Features({"text": Value("string"), "label": tags, "labels": List(tags)})
    data = Dataset.from_dict({"text": ["a", "b"], "label": [1, -1], "labels": [[0, 1], []]}, features=features)
    (tmp_path / "set").mkdir()
    data.to_parquet(tmp_path / "set" / "train.parquet")
    rows = load_rows(str(tmp_path / "set"), split="train")
    assert [row.fields["label"] for row in rows] == ["B-x", -1]
    assert [row.fields["labels"] for row in rows] == [["O", "B-x"], []]
