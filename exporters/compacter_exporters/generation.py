"""Running exported decoders step by step in ONNX Runtime, with their cache."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import onnxruntime

from compacter_core.adapter import Array
from compacter_exporters.choices import (
    DECODER_FILE,
    DECODER_WITH_PAST_FILE,
    ENCODER_FILE,
    MERGED_DECODER_FILE,
    MODEL_FILE,
)

_PAST, _PRESENT, _ENCODER = "past_key_values.", "present.", ".encoder."
_BRANCH = "use_cache_branch"


@dataclass(slots=True)
class Decoding:
    """One batch on its way: what the next step needs.

    Args:
        mask: which tokens count, [batch, tokens so far], for a decoder alone.
        encoded: hidden states and mask of the encoder, by input name, for an encoder-decoder.
        past: the cache by input name.
    """

    mask: Array
    encoded: Mapping[str, Array] = field(default_factory=dict)
    past: dict[str, Array] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class GraphDecoder:
    """The graphs of one exported model.

    Args:
        encoder: of an encoder-decoder.
        first: the decoder without a cache.
        next: the decoder with a cache; the same graph as the first for a decoder alone and for a merged one.
    """

    encoder: onnxruntime.InferenceSession | None
    first: onnxruntime.InferenceSession
    next: onnxruntime.InferenceSession

    @classmethod
    def load(cls, directory: Path, *, merged: bool = False) -> Self:
        """The graphs in a directory, by their file names; with `merged` the decoder that is both in one.

        Raises:
            Exception: whatever ONNX Runtime raises for a graph that it refuses.
        """
        if (directory / MODEL_FILE).exists():
            whole = _session(directory / MODEL_FILE)
            return cls(None, whole, whole)
        if merged:
            both = _session(directory / MERGED_DECODER_FILE)
            return cls(_session(directory / ENCODER_FILE), both, both)
        return cls(*(_session(directory / name) for name in (ENCODER_FILE, DECODER_FILE, DECODER_WITH_PAST_FILE)))

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
        wanted = {value.name for value in session.get_inputs()}
        empty = {value.name: _empty(value, len(tokens)) for value in session.get_inputs() if value.name not in feed}
        outputs = session.run(None, empty | {name: array for name, array in feed.items() if name in wanted})
        named = dict(zip((value.name for value in session.get_outputs()), outputs, strict=True))
        # What is kept of the encoder does not change, and a merged decoder gives it in the first step alone.
        changed = [name for name in named if name.startswith(_PRESENT) and not (state.past and _ENCODER in name)]
        state.past |= {name.replace(_PRESENT, _PAST): named[name] for name in changed}
        logits: Array = named["logits"]
        return logits


def _empty(value: onnxruntime.NodeArg, batch: int) -> Array:
    """A cache without tokens: [batch, heads, 0, head]."""
    dims = [batch if position == 0 else dim if isinstance(dim, int) else 0 for position, dim in enumerate(value.shape)]
    return np.zeros(dims, np.float16 if "float16" in value.type else np.float32)


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
