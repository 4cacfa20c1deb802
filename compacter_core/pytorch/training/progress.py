"""A progress bar on stderr for the Trainer, which has one that also writes to stdout."""

from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback

from compacter_core.pytorch.training.metrics import Metric


class ProgressBar(TrainerCallback):  # type: ignore[misc]  # transformers is not typed for mypy
    """Steps done, with the last loss and the last score of validation."""

    def __init__(self, description: str, goal: Metric) -> None:
        self._description = description
        self._goal = goal
        self._bar: Any = None
        self._facts: dict[str, str] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Opens the bar."""
        self._bar = tqdm(total=state.max_steps, initial=state.global_step, desc=self._description, unit="step")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Moves the bar."""
        self._bar.update(state.global_step - self._bar.n)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Shows the numbers."""
        logs = logs or {}
        if "loss" in logs:
            self._facts["loss"] = f"{float(logs['loss']):.3f}"
        if f"eval_{self._goal}" in logs:
            self._facts[self._goal] = f"{float(logs[f'eval_{self._goal}']):.4f}"
        self._bar.set_postfix(self._facts)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Closes the bar."""
        self._bar.close()
