"""The course of a run, from the Trainer's log, and its picture."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Self

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.atomic import atomic_write
from compacter_core.pytorch.training.metrics import Metric


@dataclass(frozen=True, slots=True)
class LossPoint:
    """Mean training loss since the last point, at `epoch` (fractional)."""

    epoch: float
    step: int
    loss: float
    learning_rate: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Validation at the end of an epoch: the loss, and the scores by `Metric`."""

    epoch: float
    step: int
    loss: float
    scores: Mapping[str, float]

    @property
    def accuracy(self) -> float:
        """The accuracy, of tasks that have one."""
        return self.scores[Metric.ACCURACY]

    def as_dict(self) -> dict[str, float]:
        """JSON-compatible fields, the scores among the others."""
        return {"epoch": self.epoch, "step": self.step, "loss": self.loss, **self.scores}

    @classmethod
    def from_dict(cls, fields: Mapping[str, float]) -> Self:
        """The evaluation that `as_dict` wrote.

        Raises:
            KeyError: if it is not one.
        """
        own = ("epoch", "step", "loss")
        scores = {name: value for name, value in fields.items() if name not in own}
        return cls(fields["epoch"], int(fields["step"]), fields["loss"], scores)


@dataclass(frozen=True, slots=True)
class History:
    """All points of a run, and the score that chooses the best epoch."""

    losses: tuple[LossPoint, ...]
    evaluations: tuple[Evaluation, ...]
    goal: Metric = Metric.ACCURACY

    @property
    def best(self) -> Evaluation:
        """The first evaluation with the best score; its checkpoint is the result."""
        choose = max if self.goal.higher_is_better else min
        return choose(self.evaluations, key=lambda one: one.scores[self.goal])

    def as_dict(self) -> dict[str, object]:
        """JSON-compatible fields."""
        return {
            "goal": self.goal.value,
            "losses": [asdict(point) for point in self.losses],
            "evaluations": [one.as_dict() for one in self.evaluations],
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """The history that `as_dict` wrote.

        Raises:
            KeyError, TypeError, ValueError: if it is not one.
        """
        return cls(
            losses=tuple(LossPoint(**point) for point in fields["losses"]),
            evaluations=tuple(Evaluation.from_dict(one) for one in fields["evaluations"]),
            goal=Metric(fields["goal"]),
        )


def read_history(log: Sequence[dict[str, Any]], goal: Metric) -> History:
    """Sorts the entries of `TrainerState.log_history`; the closing summary is not part of the course."""
    losses = [
        LossPoint(entry["epoch"], entry["step"], float(entry["loss"]), float(entry["learning_rate"]))
        for entry in log
        if "loss" in entry
    ]
    evaluations = [
        Evaluation(entry["epoch"], entry["step"], entry["eval_loss"], _scores(entry))
        for entry in log
        if "eval_loss" in entry
    ]
    return History(tuple(losses), tuple(evaluations), goal)


def _scores(entry: Mapping[str, Any]) -> dict[str, float]:
    """The scores of a log entry, whose names have a prefix there."""
    return {metric.value: entry[f"eval_{metric}"] for metric in Metric if f"eval_{metric}" in entry}


def draw_curves(histories: dict[str, History], path: Path, *, title: str) -> None:
    """Writes a PNG: training and validation loss above, the score of validation below; one colour per run.

    Raises:
        CompacterError: E004 if matplotlib is missing, E006 if the file cannot be written.
    """
    try:
        # The object interface: no global figure, no display.
        from matplotlib.figure import Figure  # noqa: PLC0415 (optional package)
    except ModuleNotFoundError as error:
        raise CompacterError(
            ErrorCode.E004,
            "the training curve needs the package matplotlib",
            remedy='Install it with: pip install "compacter-core[plots]".',
        ) from error
    figure = Figure(figsize=(7, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    for number, (name, history) in enumerate(histories.items()):
        colour = f"C{number}"
        above.plot(
            [p.epoch for p in history.losses], [p.loss for p in history.losses], colour, label=f"{name}, training"
        )
        epochs = [one.epoch for one in history.evaluations]
        above.plot(epochs, [e.loss for e in history.evaluations], f"{colour}o--", label=f"{name}, validation")
        below.plot(epochs, [e.scores[history.goal] for e in history.evaluations], f"{colour}o-", label=name)
    above.set_ylabel("loss")
    goals = {history.goal.value.replace("_", " ") for history in histories.values()}
    below.set_ylabel(f"validation {', '.join(sorted(goals))}")
    below.set_xlabel("epoch")
    for axes in (above, below):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(title)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    atomic_write(path, buffer.getvalue())
