"""What a checkpoint has besides its adapter: weights of the backbone, trained or not, and a head.

What equals the backbone says nothing. A norm or a bias that differs was trained with the adapter and replaces the
backbone's (an override); any other weight that differs cannot be replaced in this format, so it is refused.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from compacter_core.adapter import Array
from compacter_core.config import Head, Override
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.importers.heads import ImportedHead, take_head
from compacter_core.importers.result import KnownBackbone
from compacter_core.importers.state import SourceState
from compacter_core.layout import Part
from compacter_core.vocabulary import OverrideKind

_SHOWN: Final = 4
_POOLER: Final = "pooler."
_BUFFERS: Final = re.compile(r"embeddings\.(position_ids|token_type_ids)|h\.[0-9]+\.attn\.(bias|masked_bias)")
"""Constants that older versions of transformers saved: positions, and the mask of GPT-2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remainder:
    """What was found besides the adapter.

    Args:
        overrides: the backbone's tensors that were trained.
        head: of the task.
        tensors: of both, by their name in this format.
        notes: for the user.
    """

    overrides: tuple[Override, ...]
    head: Head | None
    tensors: Mapping[str, Array]
    notes: tuple[str, ...]


def take_remainder(
    state: SourceState, backbone: KnownBackbone, *, prefix: str, model_class: str, with_head: bool
) -> Remainder:
    """Everything that is left in the checkpoint once the adapter has been taken.

    Args:
        state: afterwards it is empty.
        backbone: that the adapter was trained on.
        prefix: what the keys of the base model begin with.
        model_class: transformers class of the model that was saved.
        with_head: take the head over; otherwise what stands outside the base model is passed over.

    Raises:
        CompacterError: E502 for a trained weight that this format cannot replace, E304 for one of another shape, E501
            to E503, E301, E303 and E803 for the head.
    """
    own, norms = backbone.base_tensors(), backbone.norms()
    replaced: dict[str, Array] = {}
    head: dict[str, Array] = {}
    for key in tuple(state):
        name = key.removeprefix(prefix)
        if _BUFFERS.fullmatch(name):
            state.take(key)
        elif not key.startswith(prefix) or name not in own:
            head[key] = state.take(key)
        elif np.array_equal(state.peek(key), own[name]):
            state.take(key)
        elif name.startswith(_POOLER):
            head[key] = state.take(key, own[name].shape)
        else:
            replaced[name] = state.take(key, own[name].shape)
    overrides = tuple(_override(name, norms, state.place) for name in own if name in replaced)
    taken = {f"{Part.OVERRIDE}.{override.name}": replaced[override.name] for override in overrides}
    found = _head(SourceState(head, state.place), backbone, model_class, with_head=with_head)
    taken |= {f"{Part.HEAD}.{name}": array for name, array in found.tensors.items()}
    return Remainder(overrides=overrides, head=found.head, tensors=taken, notes=found.notes)


def _head(state: SourceState, backbone: KnownBackbone, model_class: str, *, with_head: bool) -> ImportedHead:
    """The head in what stands outside the base model."""
    keys = sorted(state)
    if not keys:
        return ImportedHead(None, {})
    if not with_head:
        return ImportedHead(None, {}, (f"left out, as asked: {', '.join(keys[:_SHOWN])}",))
    found = take_head(state, model_class, None, backbone)
    state.finish()
    if found.head is None or not found.head.labels:
        return found
    note = f"the checkpoint does not name its classes: they are {found.head.labels[0]} to {found.head.labels[-1]}"
    return replace(found, notes=(*found.notes, note))


def _override(name: str, norms: Mapping[str, Array], place: str) -> Override:
    if name in norms:
        return Override(name=name, kind=OverrideKind.NORM)
    if name.endswith(".bias"):
        return Override(name=name, kind=OverrideKind.BIAS)
    raise CompacterError(
        ErrorCode.E502,
        f"{name} of {place} differs from the backbone's, and this format replaces only norms, biases and heads",
        remedy="Give the checkpoint that the training began with. If this weight was trained too, this is more than an "
        "adapter.",
    )
