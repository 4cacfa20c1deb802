"""Heads of transformers' own classes, as a checkpoint of such a class holds them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from compacter_core.adapter import Array
from compacter_core.config import Head
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.importers.result import KnownBackbone
from compacter_core.importers.state import SourceState


@dataclass(frozen=True, slots=True)
class ImportedHead:
    """A head in this format: its description, and its tensors by name in the model; none if it is the backbone's."""

    head: Head | None
    tensors: Mapping[str, Array]
    notes: tuple[str, ...] = ()


def take_head(state: SourceState, model_class: str, label2id: Any, backbone: KnownBackbone) -> ImportedHead:
    """The head in the state of a model of a transformers class; what is no tensor of the head is left there.

    Args:
        state: the head's tensors by their names in a model of that class.
        model_class: for example BertForSequenceClassification.
        label2id: indices of the class names, where the checkpoint has them.
        backbone: that the head belongs to.

    Raises:
        CompacterError: E301 to E304 for its tensors, E501 for a contradiction, E502 for a language model's head that
            is not the backbone's, E803 for a class that the binding does not know.
    """
    shapes = {key: state.peek(key).shape for key in state}
    found = backbone.head(model_class, shapes, ())
    if found is None:
        return take_backbone_head(state, backbone.outside_base(model_class))
    tensors = {
        f"{layer}.{leaf}": state.take(f"{layer}.{leaf}")
        for layer in found.layers
        for leaf in ("weight", "bias")
        if leaf == "weight" or f"{layer}.{leaf}" in state
    }
    labels = _labels(label2id, state.place, tensors[f"{found.layers[-1]}.weight"].shape[0], found.task)
    own = {name: array.shape for name, array in tensors.items()}
    return ImportedHead(backbone.head(model_class, own, labels), tensors)


def _labels(label2id: Any, place: str, count: int, task: str) -> tuple[str, ...]:
    """Class names by index; the library's default names where the file has none."""
    if count == 1 or not task.endswith("classification"):
        return ()
    if not isinstance(label2id, Mapping) or not label2id:
        return tuple(f"LABEL_{index}" for index in range(count))
    by_index = {index: str(label) for label, index in label2id.items()}
    if sorted(by_index, key=str) != sorted(range(count), key=str):
        raise CompacterError(
            ErrorCode.E501,
            f"label2id of {place} contradicts the head's weight",
            value=sorted(by_index, key=str),
            expected=f"the indices 0 to {count - 1}",
        )
    return tuple(by_index[index] for index in range(count))


def take_backbone_head(state: SourceState, own: Mapping[str, Array]) -> ImportedHead:
    """A head that is the backbone's own needs no tensors.

    Raises:
        CompacterError: E502 for one that is not.
    """
    for key in tuple(state):
        if key not in own or not np.array_equal(state.peek(key), own[key]):
            raise CompacterError(
                ErrorCode.E502,
                f"{key} of {state.place} is not the backbone's: this format has no head of a language model",
                remedy="Import the adapter without its head if another one will do.",
            )
        state.take(key)
    return ImportedHead(None, {}, ("the language model's head is the backbone's own and is left to it",))
