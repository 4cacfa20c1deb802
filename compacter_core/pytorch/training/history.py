"""The course of a run, from the Trainer's log, and its picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.atomic import atomic_write


@dataclass(frozen=True, slots=True)
class LossPoint:
    """Mean training loss since the last point, at `epoch` (fractional)."""

    epoch: float
    step: int
    loss: float
    learning_rate: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Validation at the end of an epoch."""

    epoch: float
    step: int
    loss: float
    accuracy: float
    macro_f1: float


@dataclass(frozen=True, slots=True)
class History:
    """All points of a run."""

    losses: tuple[LossPoint, ...]
    evaluations: tuple[Evaluation, ...]

    @property
    def best(self) -> Evaluation:
        """The first evaluation with the highest accuracy; its checkpoint is the result."""
        return max(self.evaluations, key=lambda one: one.accuracy)


def read_history(log: Sequence[dict[str, Any]]) -> History:
    """Sorts the entries of `TrainerState.log_history`; the closing summary is not part of the course."""
    losses = [
        LossPoint(entry["epoch"], entry["step"], float(entry["loss"]), float(entry["learning_rate"]))
        for entry in log
        if "loss" in entry
    ]
    evaluations = [
        Evaluation(entry["epoch"], entry["step"], entry["eval_loss"], entry["eval_accuracy"], entry["eval_macro_f1"])
        for entry in log
        if "eval_accuracy" in entry
    ]
    return History(tuple(losses), tuple(evaluations))


def draw_curves(histories: dict[str, History], path: Path, *, title: str) -> None:
    """Writes a PNG: training and validation loss above, validation accuracy below; one colour per run.

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
        below.plot(epochs, [e.accuracy for e in history.evaluations], f"{colour}o-", label=name)
    above.set_ylabel("cross-entropy")
    below.set_ylabel("validation accuracy")
    below.set_xlabel("epoch")
    for axes in (above, below):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(title)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    atomic_write(path, buffer.getvalue())
