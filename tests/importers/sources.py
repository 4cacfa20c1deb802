"""Copies of fixtures that tests change before they are imported."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

State = dict[str, torch.Tensor]
Change = Callable[[State], object]


def change_options(path: Path, **changes: Any) -> None:
    """Other options in a JSON file; None takes one away."""
    options = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in options.items() if value is not None}))


def change_state(path: Path, change: Change) -> None:
    """Other tensors in a file of `torch.save`."""
    state = dict(torch.load(path))
    change(state)
    torch.save(state, path)


def remove(*ends: str) -> Change:
    """Takes away the tensors whose keys begin or end so."""
    return lambda state: [state.pop(key) for key in list(state) if key.startswith(ends) or key.endswith(ends)]


def put(key: str, tensor: torch.Tensor) -> Change:
    """Puts a tensor there."""
    return lambda state: state.update({key: tensor})
