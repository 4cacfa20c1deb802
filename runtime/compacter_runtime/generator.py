"""Writing text with a model's graphs and the adapters they take, without PyTorch: greedily, token by token.

Beam search and sampling are `transformers.generate`'s, which runs the same graphs: see `generating_model`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Written:
    """What a model wrote after one text.

    Args:
        text: without special tokens.
        tokens: all of them, the one that ends the row included, and none behind it.
    """

    text: str
    tokens: tuple[int, ...]


class Generator:
    """A model that writes: the graphs of a decoder, or of an encoder with its decoders, in ONNX Runtime.

    Args:
        model: the directory, as `compacter export` or `compacter graft` wrote it, or the `.onnx` file of a decoder
            alone. Where there is a merged decoder, it is taken.
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
        self, model: Path | str, *, providers: Sequence[str] | None = None, intra_op_threads: int | None = None
    ) -> None:
        path = Path(model)
        is_file = path.suffix == ".onnx"
        self.directory = path.parent if is_file else path
        files = [path] if is_file else graph_files(path, merged=(path / MERGED_DECODER_FILE).exists())
        self._has_encoder = len(files) > 1
        self.settings = GenerationSettings.of(self.directory)
        sessions = [open_session(file, providers, intra_op_threads) for file in files]
        self.providers: tuple[str, ...] = tuple(sessions[0].get_providers())
        self.adapters = GraphAdapters(sessions)

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
        return [one.text for one in self.written(texts, adapter=adapter, max_new_tokens=max_new_tokens)]

    def written(
        self, texts: Sequence[Text], *, adapter: AdapterChoice = None, max_new_tokens: int = 20
    ) -> list[Written]:
        """What is written after each text, with its tokens; arguments and errors as `generate`."""
        if not texts:
            return []
        prompts, mask = self._arrays(texts)
        arrays = {_TOKENS: prompts, _MASK: mask}
        tokens = self.generate(arrays, adapter=adapter, max_new_tokens=max_new_tokens)
        new = tokens[:, 1 if self._has_encoder else prompts.shape[1] :]
        rows = [self._ended(row) for row in new.tolist()]
        return [Written(*both) for both in zip(self._encoder.decode(rows), rows, strict=True)]

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
        if not mask.any(axis=1).all():
            raise CompacterError(
                ErrorCode.E703,
                "an input without tokens",
                value=f"input {int(mask.any(axis=1).argmin())}",
                expected="at least one token in every row",
            )
        return tokens.astype(np.int64), mask.astype(np.int64)

    def _ended(self, row: list[int]) -> tuple[int, ...]:
        """The tokens of a row up to its end."""
        end = next((index for index, token in enumerate(row) if token in self.settings.ends), len(row))
        return tuple(row[: end + 1])

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
