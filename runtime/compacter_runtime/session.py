"""A grafted model, or a bare backbone, from texts or arrays to outputs or labels."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from compacter_core.adapter import Adapter
from compacter_core.errors import CompacterError, ErrorCode
from compacter_runtime.adapters import description_of, open_adapters
from compacter_runtime.bank import Bank
from compacter_runtime.batches import Batch, assembled, slices
from compacter_runtime.choosing import AdapterChoice, Chosen, Rows, Swappable
from compacter_runtime.labels import Prediction, predict_rows, read_labels
from compacter_runtime.loading import open_session, run_session
from compacter_runtime.model_inputs import Array, checked_arrays
from compacter_runtime.onnx_adapter import PackedAdapter
from compacter_runtime.providers import device_of
from compacter_runtime.text import TOKENIZER_FILE, Text, TextEncoder

Inputs = Sequence[Text] | Mapping[str, Any]
LOGITS = "logits"
_PROGRESS_DELAY = 2.0


class Session:
    """An ONNX model in ONNX Runtime, with the tokenizer and the labels that lie beside it.

    Args:
        model: the `.onnx` file, or a directory that holds `model.onnx`.
        providers: execution providers in order of preference, full or short names ("cuda", "cpu"); each must be
            available. None takes CUDA if it is there, else the CPU.
        intra_op_threads: threads inside one operation; None leaves it to ONNX Runtime.

    Raises:
        CompacterError: E701 if a provider is not available, E704 if the model cannot be loaded.

    Example:
        >>> session = Session("merged/model.onnx")  # doctest: +SKIP
        >>> session.classify(["My card has not arrived."])  # doctest: +SKIP
        [Prediction(label='card_arrival', score=0.98, index=11)]
    """

    def __init__(
        self, model: Path | str, *, providers: Sequence[str] | None = None, intra_op_threads: int | None = None
    ) -> None:
        path = Path(model)
        self.path = path / "model.onnx" if path.is_dir() else path
        self._session = open_session(self.path, providers, intra_op_threads)
        metadata = self._session.get_modelmeta().custom_metadata_map
        self._adapters = open_adapters(description_of(metadata), device_of(self._session))
        self._inputs = [value for value in self._session.get_inputs() if value.name not in self._adapters.inputs]

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the model's inputs, without those for adapters."""
        return tuple(value.name for value in self._inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the model's outputs."""
        return tuple(value.name for value in self._session.get_outputs())

    @property
    def providers(self) -> tuple[str, ...]:
        """Execution providers in use, in order of preference."""
        return tuple(self._session.get_providers())

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Class names by index, empty if the model names none."""
        return read_labels(self._session.get_modelmeta().custom_metadata_map, self.path.parent)

    @property
    def has_bank(self) -> bool:
        """Whether the model's linkage is bank."""
        return isinstance(self._adapters, Bank)

    @property
    def bank(self) -> Bank:
        """The adapters of a model with the linkage bank.

        Raises:
            CompacterError: E703 if the model has another one.
        """
        if not isinstance(self._adapters, Bank):
            raise CompacterError(
                ErrorCode.E703,
                "the model has no bank of adapters",
                value=str(self.path),
                remedy="Make one that has with `compacter graft --linkage bank`.",
            )
        return self._adapters

    @property
    def swappable(self) -> Swappable:
        """What a swappable model takes.

        Raises:
            CompacterError: E703 if the model has another linkage.
        """
        if not isinstance(self._adapters, Swappable):
            raise CompacterError(
                ErrorCode.E703,
                "the model does not take one adapter at a time",
                value=str(self.path),
                remedy="Make one that does with `compacter graft --linkage swappable`.",
            )
        return self._adapters

    def load_adapter(self, source: Path | str | Adapter) -> PackedAdapter:
        """An adapter for `run(…, adapter=…)` of a swappable model, checked once.

        Args:
            source: a `.onnx_adapter` file, an adapter file or its directory, or an adapter in memory.

        Raises:
            CompacterError: E703 if the model is not swappable; E401, E403, E404, E604, E605 for an adapter of another
                backbone, or one the model has no places for; E601, E602, E603, E303, E304, E305 for a packed file that
                is damaged or incomplete; what reading an adapter raises.
        """
        return self.swappable.load(source)

    def run(
        self, inputs: Inputs, *, adapter: AdapterChoice = None, batch_size: int = 32, progress: bool = False
    ) -> dict[str, Array]:
        """The model's outputs, by name, in the order of the inputs.

        Args:
            inputs: texts, pairs of texts, or arrays by input name whose first axis is the batch. Texts are batched
                by length, so that little is spent on padding.
            adapter: for a swappable model one from `load_adapter`, or a file. None is the backbone alone.
            batch_size: rows per call of ONNX Runtime.
            progress: whether to show a bar on stderr, should it take more than two seconds.

        Returns:
            Arrays whose first axis is the batch. An output with a sequence axis is as long as the longest input,
            zeros where a shorter batch has nothing.

        Raises:
            CompacterError: E001 for a bad batch size, E702 if there is no tokenizer for texts, E703 if the inputs or
                the adapter do not fit the model; as `load_adapter` for a file.
        """
        if batch_size < 1:
            raise CompacterError(ErrorCode.E001, "batch_size", value=batch_size, expected="at least 1")
        if isinstance(inputs, Mapping):
            arrays = checked_arrays(inputs, self._inputs)
            rows = len(next(iter(arrays.values())))
            batches = slices(arrays, rows, batch_size)
        elif isinstance(inputs, str):
            raise CompacterError(ErrorCode.E703, "inputs is one text", value=inputs, expected="a list of texts")
        else:
            rows = len(inputs)
            batches = self._text_batches(inputs, batch_size)
        chosen = self._adapters.choose(adapter, rows)
        parts: dict[str, list[tuple[Array, Array]]] = {name: [] for name in self.output_names}
        with tqdm(total=rows, unit="row", disable=not progress, delay=_PROGRESS_DELAY) as bar:
            for positions, batch in batches:
                for name, value in zip(self.output_names, self._call(batch, chosen, positions), strict=True):
                    parts[name].append((positions, value))
                bar.update(len(positions))
        return {value.name: assembled(parts[value.name], rows, value) for value in self._session.get_outputs()}

    def classify(
        self, inputs: Inputs, *, adapter: AdapterChoice = None, batch_size: int = 32, progress: bool = False
    ) -> list[Prediction]:
        """The most probable class of each input.

        Args:
            inputs: as for `run`.
            adapter: as for `run`; labels are those of its head, or of the model where it has none.
            batch_size: as for `run`.
            progress: as for `run`.

        Raises:
            CompacterError: as `run`; E703 if the model is no classifier, E704 if its labels are of another number.
        """
        if LOGITS not in self.output_names:
            raise CompacterError(
                ErrorCode.E703, "the model has no output logits", value=self.output_names, remedy="Use run()."
            )
        if isinstance(adapter, str | Path) and isinstance(self._adapters, Swappable):
            adapter = self._adapters.load(adapter)
        logits = self.run(inputs, adapter=adapter, batch_size=batch_size, progress=progress)[LOGITS]
        of_rows = self._adapters.choose(adapter, len(logits)).labels
        return predict_rows(logits, [self.labels if labels is None else labels for labels in of_rows])

    @cached_property
    def _encoder(self) -> TextEncoder:
        encoder = TextEncoder(self.path.parent / TOKENIZER_FILE)
        unknown = [name for name in self.input_names if name not in encoder.input_names]
        if unknown:
            raise CompacterError(
                ErrorCode.E703,
                "a tokenizer does not give all of the model's inputs",
                value=unknown,
                remedy="Pass arrays by input name.",
            )
        return encoder

    def _text_batches(self, texts: Sequence[Text], batch_size: int) -> Iterator[Batch]:
        encodings = list(self._encoder.encode(texts)) if texts else []
        # Longest first: what does not fit into memory fails at once, and the progress bar only gets faster.
        order = np.argsort([-len(encoding) for encoding in encodings], kind="stable")
        for start in range(0, len(texts), batch_size):
            positions = order[start : start + batch_size]
            yield positions, self._encoder.collate([encodings[i] for i in positions], self.input_names)

    def _call(self, batch: dict[str, Array], chosen: Chosen, positions: Rows) -> list[Array]:
        feed = {**batch, **chosen.feeds(positions)}
        return run_session(self._session, None, feed, self.input_names, chosen.options)
