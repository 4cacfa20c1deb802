"""Writing text with a model's graphs and the adapters they take, without PyTorch: greedily, token by token.

Beam search and sampling are `transformers.generate`'s, which runs the same graphs: see `generating_model`.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from compacter_core.adapter import Adapter
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.graph_files import MERGED_DECODER_FILE
from compacter_runtime.adapted import GraphAdapters
from compacter_runtime.choosing import AdapterChoice
from compacter_runtime.decoder import Decoding, GraphDecoder, graph_files
from compacter_runtime.generation_settings import GenerationSettings
from compacter_runtime.loading import open_session
from compacter_runtime.model_inputs import Array
from compacter_runtime.onnx_adapter import PackedAdapter
from compacter_runtime.text import TOKENIZER_FILE, Text, TextEncoder

_TOKENS, _MASK = "input_ids", "attention_mask"


class Generator:
    """A model that writes: the graphs of a decoder, or of an encoder with its decoders, in ONNX Runtime.

    Args:
        directory: as `compacter export` or `compacter graft` wrote it. Where there is a merged decoder, it is taken.
        providers: execution providers, as for `Session`.
        intra_op_threads: threads inside one operation; None leaves it to ONNX Runtime.

    Raises:
        CompacterError: E701, E704, as `Session`; E403 for graphs that were opened for different adapters.

    Example:
        >>> generator = Generator("t5-swappable")  # doctest: +SKIP
        >>> generator.write(["translate: Guten Tag"], adapter="german.onnx_adapter")  # doctest: +SKIP
        ['Good day']
    """

    def __init__(
        self, directory: Path | str, *, providers: Sequence[str] | None = None, intra_op_threads: int | None = None
    ) -> None:
        self.directory = Path(directory)
        files = graph_files(self.directory, merged=(self.directory / MERGED_DECODER_FILE).exists())
        self._has_encoder = len(files) > 1
        self.settings = GenerationSettings.of(self.directory)
        self.adapters = GraphAdapters([open_session(path, providers, intra_op_threads) for path in files])

    def load_adapter(self, source: Path | str | Adapter) -> PackedAdapter:
        """An adapter for runs of a swappable model; arguments and errors as `Session.load_adapter`."""
        return self.adapters.swappable.load(source)

    def bound(self, adapter: AdapterChoice, rows: int) -> GraphDecoder:
        """The graphs with the adapters of a batch; arguments and errors as `GraphAdapters.bind`."""
        return GraphDecoder.of(self.adapters.bind(adapter, rows))

    def generate(
        self, inputs: Sequence[Text] | Mapping[str, Any], *, adapter: AdapterChoice = None, max_new_tokens: int = 20
    ) -> Array:
        """The most probable next token, again and again.

        Args:
            inputs: texts, or arrays `input_ids` [rows, length] and perhaps `attention_mask`. For a decoder alone
                padding is on the left.
            adapter: for a swappable model one from `load_adapter`, or a file; for a bank a name, or for each row one or
                None. None is the backbone alone.
            max_new_tokens: at most so many are written.

        Returns:
            Tokens [rows, length]: the prompt, or the start token behind an encoder, and what was written; padding
            behind the end of a row.

        Raises:
            CompacterError: E001 for no new token, E702 if there is no tokenizer for texts, E703 if inputs or adapter do
                not fit the model.
        """
        if max_new_tokens < 1:
            raise CompacterError(ErrorCode.E001, "max_new_tokens", value=max_new_tokens, expected="at least 1")
        tokens, mask = self._arrays(inputs)
        decoder = self.bound(adapter, len(tokens))
        state = decoder.start(tokens, mask)
        written = self._starts(len(tokens)) if self._has_encoder else tokens
        return self._greedy(decoder, state, written, max_new_tokens)

    def write(self, texts: Sequence[Text], *, adapter: AdapterChoice = None, max_new_tokens: int = 20) -> list[str]:
        """What is written after each text, as text; arguments and errors as `generate`."""
        prompts, mask = self._arrays(texts)
        arrays = {_TOKENS: prompts, _MASK: mask}
        tokens = self.generate(arrays, adapter=adapter, max_new_tokens=max_new_tokens)
        return self._encoder.decode(tokens[:, 1 if self._has_encoder else prompts.shape[1] :])

    @cached_property
    def _encoder(self) -> TextEncoder:
        return TextEncoder(self.directory / TOKENIZER_FILE)

    def _arrays(self, inputs: Sequence[Text] | Mapping[str, Any]) -> tuple[Array, Array]:
        """Tokens and mask [rows, length]."""
        if isinstance(inputs, str):
            raise CompacterError(ErrorCode.E703, "inputs is one text", value=inputs, expected="a list of texts")
        if not isinstance(inputs, Mapping):
            inputs = self._encoder.collate(list(self._encoder.encode(inputs)), (_TOKENS, _MASK))
        unknown = inputs.keys() - {_TOKENS, _MASK}
        tokens = np.asarray(inputs.get(_TOKENS, ()))
        mask = np.asarray(inputs.get(_MASK, np.ones_like(tokens)))
        matrix = 2
        if (
            unknown
            or tokens.ndim != matrix
            or tokens.dtype.kind not in "iu"
            or tokens.size == 0
            or mask.shape != tokens.shape
        ):
            raise CompacterError(
                ErrorCode.E703,
                "inputs of the wrong kind or shape",
                value={name: np.shape(array) for name, array in inputs.items()},
                expected=f"{_TOKENS} [rows, length] of integers, and perhaps {_MASK} of the same shape",
            )
        return tokens.astype(np.int64), mask.astype(np.int64)

    def _starts(self, rows: int) -> Array:
        if self.settings.start is None:
            raise CompacterError(
                ErrorCode.E704,
                "nothing says with which token the decoder starts",
                value=str(self.directory),
                expected="decoder_start_token_id in config.json or generation_config.json",
            )
        return np.full((rows, 1), self.settings.start)

    def _greedy(self, decoder: GraphDecoder, state: Decoding, tokens: Array, count: int) -> Array:
        settings = self.settings
        new, ended = tokens, np.zeros(len(tokens), bool)
        for index in range(count):
            best = decoder.step(new, state)[:, -1].argmax(axis=-1)
            forced = settings.first if index == 0 else settings.last if index == count - 1 else None
            best = best if forced is None else np.full_like(best, forced)
            new = np.where(ended, settings.padding, best)[:, None]
            ended |= np.isin(new[:, 0], settings.ends)
            tokens = np.concatenate([tokens, new], axis=1)
            state.mask = np.concatenate([state.mask, np.ones_like(new)], axis=1)
            if ended.all():
                break
        return tokens
