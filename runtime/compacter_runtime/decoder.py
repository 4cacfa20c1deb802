"""Exported decoders run step by step, with their cache of keys and values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, Self

import numpy as np
import onnxruntime

from compacter_core.graph_files import (
    DECODER_FILE,
    DECODER_WITH_PAST_FILE,
    ENCODER_FILE,
    MERGED_DECODER_FILE,
    MODEL_FILE,
)
from compacter_runtime.loading import open_session
from compacter_runtime.model_inputs import Array

PAST: Final = "past_key_values."
_PRESENT: Final = "present."
_ENCODER: Final = ".encoder."
_BRANCH: Final = "use_cache_branch"
_LOGITS: Final = "logits"


class Graph(Protocol):
    """A session, or what behaves like one."""

    def get_inputs(self) -> Sequence[onnxruntime.NodeArg]:
        """The inputs that have no default."""

    def get_outputs(self) -> Sequence[onnxruntime.NodeArg]:
        """The outputs."""

    def run(self, names: Sequence[str] | None, feed: Mapping[str, Any]) -> list[Array]:
        """The outputs of these names, all if None."""


@dataclass(slots=True)
class Decoding:
    """One batch on its way: what the next step needs.

    Args:
        mask: which tokens count, [batch, tokens so far], for a decoder alone.
        encoded: hidden states and mask of the encoder, by input name, for an encoder-decoder.
        past: the cache by input name, [batch, ...] each.
    """

    mask: Array
    encoded: Mapping[str, Array] = field(default_factory=dict)
    past: dict[str, Array] = field(default_factory=dict)

    def reorder(self, rows: Array) -> None:
        """Let row i of the cache be what row `rows[i]` was, as a beam search wants it."""
        self.past = {name: array[rows] for name, array in self.past.items()}


@dataclass(frozen=True, slots=True, eq=False)
class GraphDecoder:
    """The graphs of one exported model.

    Args:
        encoder: of an encoder-decoder.
        first: the decoder without a cache.
        next: the decoder with a cache; the same graph as the first for a decoder alone and for a merged one.
    """

    encoder: Graph | None
    first: Graph
    next: Graph

    @classmethod
    def load(cls, directory: Path, *, merged: bool = False) -> Self:
        """The graphs in a directory on the CPU; with `merged` the decoder that is both in one.

        Raises:
            CompacterError: E704, as `open_session`.
        """
        return cls.of([open_session(path, ["cpu"], None) for path in graph_files(directory, merged=merged)])

    @classmethod
    def of(cls, graphs: Sequence[Graph]) -> Self:
        """The decoder of the graphs in the order of `graph_files`."""
        match graphs:
            case [whole]:
                return cls(None, whole, whole)
            case [encoder, both]:
                return cls(encoder, both, both)
            case _:
                return cls(*graphs)

    def start(self, tokens: Array, mask: Array) -> Decoding:
        """A batch of prompts [batch, length] for the encoder; for a decoder alone the mask of the prompt."""
        if self.encoder is None:
            return Decoding(mask=mask)
        (states,) = self.encoder.run(None, {"input_ids": tokens, "attention_mask": mask})
        return Decoding(mask=mask, encoded={"encoder_hidden_states": states, "encoder_attention_mask": mask})

    def step(self, tokens: Array, state: Decoding) -> Array:
        """Logits [batch, new, vocabulary] of new tokens [batch, new]; the state then has them in its cache.

        The mask of a decoder alone covers the new tokens already.
        """
        session = self.next if state.past or self.encoder is None else self.first
        feed = {"input_ids": tokens, _BRANCH: np.array([bool(state.past)]), **state.encoded, **state.past}
        if self.encoder is None:
            # Positions count the tokens that the mask does not leave out.
            positions = np.maximum(np.cumsum(state.mask, axis=1) - 1, 0)[:, -tokens.shape[1] :]
            feed |= {"attention_mask": state.mask, "position_ids": positions}
        inputs = session.get_inputs()
        wanted = {value.name for value in inputs}
        empty = {value.name: _empty(value, len(tokens)) for value in inputs if value.name not in feed}
        outputs = session.run(None, empty | {name: array for name, array in feed.items() if name in wanted})
        named: dict[str, Array] = dict(zip((value.name for value in session.get_outputs()), outputs, strict=True))
        # What is kept of the encoder does not change, and a merged decoder gives it in the first step alone.
        changed = [name for name in named if name.startswith(_PRESENT) and not (state.past and _ENCODER in name)]
        state.past |= {name.replace(_PRESENT, PAST): named[name] for name in changed}
        return named[_LOGITS]


def graph_files(directory: Path, *, merged: bool) -> list[Path]:
    """The files of a model that generates: one graph, an encoder and a merged decoder, or encoder and two decoders."""
    if (directory / MODEL_FILE).exists():
        return [directory / MODEL_FILE]
    decoders = (MERGED_DECODER_FILE,) if merged else (DECODER_FILE, DECODER_WITH_PAST_FILE)
    return [directory / name for name in (ENCODER_FILE, *decoders)]


def _empty(value: onnxruntime.NodeArg, batch: int) -> Array:
    """A cache without tokens: [batch, heads, 0, head]."""
    dims = [batch if position == 0 else dim if isinstance(dim, int) else 0 for position, dim in enumerate(value.shape)]
    return np.zeros(dims, np.float16 if "float16" in value.type else np.float32)
