"""The tasks of GLUE and SuperGLUE: where they are, their fields, classes and metrics, and their form as text to text.

As text to text a row reads `name field: value field: value ...`, as T5 was trained on it (Raffel et al. 2020, appendix
D), and its target is the name of the class, a rounded number, or a span.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.pytorch.training import superglue_fields as prepare
from compacter_core.pytorch.training.examples import Columns, field
from compacter_core.pytorch.training.metrics import Metric
from compacter_core.pytorch.training.task import Task
from compacter_core.rows import Row

_GLUE: Final = "nyu-mll/glue"
_SUPERGLUE: Final = "aps/super_glue"

Fields = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedTask:
    """A published task.

    Args:
        suite: `glue` or `super_glue`.
        name: in the suite; it begins the text.
        fields: in the order of the text. A task of one or two can be trained as classification too.
        labels: names of the classes by number; none for a task whose answers are numbers or spans.
        metrics: that it is reported in.
        validation: name of the split.
        prepare: makes the fields of a row that has others.
        rows_in_question: fields of `idx` that rows of one question share; none where a row is a question.
    """

    suite: str
    name: str
    fields: tuple[str, ...]
    labels: tuple[str, ...] = ()
    metrics: tuple[Metric, ...] = (Metric.ACCURACY,)
    validation: str = "validation"
    prepare: Callable[[Fields], Fields] | None = None
    rows_in_question: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """`suite/name`."""
        return f"{self.suite}/{self.name}"

    @property
    def is_regression(self) -> bool:
        """Whether answers are numbers."""
        return Metric.PEARSON in self.metrics

    def source(self, split: str) -> str:
        """The name of a split for `load_rows`."""
        return f"{_GLUE if self.suite == 'glue' else _SUPERGLUE}:{self.name}@{split}"

    @property
    def columns(self) -> Columns:
        """Where classification and regression find the parts of a row."""
        return Columns(text=self.fields[0], text_pair=self.fields[-1] if len(self.fields) > 1 else "text_pair")

    @property
    def kinds(self) -> tuple[Task, ...]:
        """The kinds of task that it can be trained as; the first is what it is without further words."""
        if self.is_regression:
            return Task.REGRESSION, Task.SEQ2SEQ
        is_pair = bool(self.labels) and len(self.fields) <= len(("text", "text_pair")) and self.prepare is None
        return (Task.CLASSIFICATION, Task.SEQ2SEQ) if is_pair else (Task.SEQ2SEQ,)

    def check_kind(self, task: Task) -> None:
        """It can be trained as `task`.

        Raises:
            CompacterError: E001.
        """
        if task not in self.kinds:
            raise CompacterError(
                ErrorCode.E001,
                f"{self.full_name} cannot be trained as this kind of task",
                value=task.value,
                expected=" or ".join(self.kinds),
            )

    def with_names(self, rows: Sequence[Row]) -> list[Row]:
        """Rows whose classes are given by name, where files have numbers, truth values, or names in other cases.

        Raises:
            CompacterError: E802 for a label that is no class of the task.
        """
        if not self.labels:
            return list(rows)
        return [Row(row.place, {**row.fields, "label": self._class_name(row)}) for row in rows]

    def _class_name(self, row: Row) -> str:
        value = field(row.fields, "label", row.place)
        names = {name.lower(): name for name in self.labels} | {str(i): name for i, name in enumerate(self.labels)}
        name = names.get(str(value).lower())
        if name is None:
            raise CompacterError(
                ErrorCode.E802,
                f"{row.place}: no class of {self.full_name}",
                value=value,
                expected=", ".join(self.labels),
                remedy="Test rows without labels cannot be used here." if str(value) == "-1" else None,
            )
        return name


_NLI: Final = ("entailment", "neutral", "contradiction")
_TRUTH: Final = ("False", "True")
_SENTENCES: Final = ("sentence1", "sentence2")
_F1_ACCURACY: Final = (Metric.F1, Metric.ACCURACY)

_TASKS: Final = (
    NamedTask(
        suite="glue",
        name="cola",
        fields=("sentence",),
        labels=("unacceptable", "acceptable"),
        metrics=(Metric.MATTHEWS,),
    ),
    NamedTask(suite="glue", name="sst2", fields=("sentence",), labels=("negative", "positive")),
    NamedTask(
        suite="glue", name="mrpc", fields=_SENTENCES, labels=("not_equivalent", "equivalent"), metrics=_F1_ACCURACY
    ),
    NamedTask(
        suite="glue",
        name="qqp",
        fields=("question1", "question2"),
        labels=("not_duplicate", "duplicate"),
        metrics=_F1_ACCURACY,
    ),
    NamedTask(suite="glue", name="stsb", fields=_SENTENCES, metrics=(Metric.PEARSON, Metric.SPEARMAN)),
    NamedTask(
        suite="glue", name="mnli", fields=("hypothesis", "premise"), labels=_NLI, validation="validation_matched"
    ),
    NamedTask(suite="glue", name="qnli", fields=("question", "sentence"), labels=("entailment", "not_entailment")),
    NamedTask(suite="glue", name="rte", fields=_SENTENCES, labels=("entailment", "not_entailment")),
    NamedTask(suite="glue", name="wnli", fields=_SENTENCES, labels=("not_entailment", "entailment")),
    NamedTask(suite="super_glue", name="boolq", fields=("passage", "question"), labels=_TRUTH),
    NamedTask(
        suite="super_glue",
        name="cb",
        fields=("hypothesis", "premise"),
        labels=("entailment", "contradiction", "neutral"),
        metrics=(Metric.MACRO_F1, Metric.ACCURACY),
    ),
    NamedTask(
        suite="super_glue",
        name="copa",
        fields=("choice1", "choice2", "premise", "question"),
        labels=("choice1", "choice2"),
    ),
    NamedTask(
        suite="super_glue",
        name="multirc",
        fields=("question", "answer", "paragraph"),
        labels=_TRUTH,
        metrics=(Metric.F1, Metric.EXACT_MATCH),
        prepare=prepare.multirc,
        rows_in_question=("paragraph", "question"),
    ),
    NamedTask(
        suite="super_glue",
        name="record",
        fields=("query", "entities", "passage"),
        metrics=(Metric.WORD_F1, Metric.EXACT_MATCH),
        prepare=prepare.record,
    ),
    NamedTask(
        suite="super_glue", name="rte", fields=("hypothesis", "premise"), labels=("entailment", "not_entailment")
    ),
    NamedTask(suite="super_glue", name="wic", fields=("sentence1", "sentence2", "word"), labels=_TRUTH),
    NamedTask(suite="super_glue", name="wsc", fields=("text",), labels=_TRUTH, prepare=prepare.wsc),
)

NAMED_TASKS: Final[Mapping[str, NamedTask]] = MappingProxyType({task.full_name: task for task in _TASKS})


def find_named_task(name: str) -> NamedTask:
    """A published task by `suite/name`, or by its name alone (GLUE comes first).

    Raises:
        CompacterError: E001 if there is none.
    """
    wanted = name.lower().replace("superglue/", "super_glue/")
    for task in _TASKS:
        if wanted in (task.full_name, task.name):
            return task
    raise CompacterError(ErrorCode.E001, "no such task", value=name, expected=", ".join(NAMED_TASKS))
