"""What a run gave, and its log on disk."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.atomic import atomic_write
from compacter_core.pytorch.pretrained import ParameterCounts
from compacter_core.pytorch.training.history import Evaluation, History
from compacter_core.pytorch.training.settings import TrainSettings

LOG_FILE: Final = "training_log.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What a run gave.

    Args:
        output: directory with the hub profile (an adapter) or the model (full fine-tuning), the log and the curve.
        history: the course.
        counts: of trained parameters.
        labels: class names by number.
        rows: training and validation rows.
        truncated: rows cut to the maximum length.
        seconds: wall time of the training loop with its evaluations.
    """

    output: Path
    history: History
    counts: ParameterCounts
    labels: tuple[str, ...]
    rows: Mapping[str, int]
    truncated: int
    seconds: float

    @property
    def best(self) -> Evaluation:
        """The validation result of the checkpoint that was kept."""
        return self.history.best

    def as_dict(self) -> dict[str, object]:
        """JSON-compatible fields."""
        return {
            "output": str(self.output),
            "best": self.best.as_dict(),
            "parameters": asdict(self.counts) | {"trained": self.counts.trained, "share": self.counts.share},
            "labels": list(self.labels),
            "rows": dict(self.rows),
            "truncated": self.truncated,
            "seconds": round(self.seconds, 1),
            "history": self.history.as_dict(),
        }


def write_log(result: TrainResult, settings: TrainSettings, *, max_length: int) -> None:
    """Writes `training_log.json` into the run's directory.

    Raises:
        CompacterError: E006.
    """
    packages = ("compacter-core", "torch", "transformers", "numpy")
    log = {
        "settings": settings.as_dict() | {"max_length": max_length},
        "versions": {name: version(name) for name in packages},
        **result.as_dict(),
    }
    atomic_write(result.output / LOG_FILE, (json.dumps(log, indent=1, ensure_ascii=False) + "\n").encode())


def load_result(output: Path) -> TrainResult:
    """Reads back what a finished run gave.

    Raises:
        CompacterError: E005 if the directory has no log of this form.
    """
    path = output / LOG_FILE
    try:
        log = json.loads(path.read_text(encoding="utf-8"))
        parameters = log["parameters"]
        return TrainResult(
            output=output,
            history=History.from_dict(log["history"]),
            counts=ParameterCounts(**{name: parameters[name] for name in ParameterCounts.__dataclass_fields__}),
            labels=tuple(log["labels"]),
            rows=log["rows"],
            truncated=log["truncated"],
            seconds=log["seconds"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CompacterError(
            ErrorCode.E005, f"{path}: no log of a finished run ({error})", value=str(output)
        ) from error
