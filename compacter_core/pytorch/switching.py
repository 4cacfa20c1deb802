"""One switch per adapter: hooks stay registered, and an adapter that is switched off does nothing.

Compiled code notices when a switch is turned, since the compiler guards what a hook reads. It does not notice hooks
that come or go (`torch._dynamo.config.skip_nnmodule_hook_guards`): `forget_compiled` makes it look again.
"""

import sys
from collections.abc import Callable
from typing import Any

import torch


class Switch:
    """Whether an adapter takes part in the forward pass."""

    def __init__(self, *, on: bool = False) -> None:
        self.on = on

    def gate(self, hook: Callable[..., Any]) -> "Gate":
        """The hook, which acts only while the switch is on."""
        return Gate(self, hook)


class Gate:
    """A module hook behind a switch; an object, so that copies of a model have hooks on the copied adapter."""

    def __init__(self, switch: Switch, hook: Callable[..., Any]) -> None:
        self._switch = switch
        self._hook = hook

    def __call__(self, *args: Any) -> Any:
        """The hook's result, or None, which leaves the module's input or output as it is."""
        return self._hook(*args) if self._switch.on else None


def forget_compiled() -> None:
    """Drops compiled code, which may have been made with other hooks; nothing to do if nothing was ever compiled."""
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
