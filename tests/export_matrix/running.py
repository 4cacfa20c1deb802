"""Running a model's graphs, whatever takes the adapter, and counting what ONNX Runtime fuses in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from compacter_core.adapter import Adapter, Array
from compacter_exporters.choices import DECODER_FILE, DECODER_WITH_PAST_FILE, ENCODER_FILE, MODEL_FILE
from compacter_runtime.adapters import open_adapters
from compacter_runtime.bank import Bank
from compacter_runtime.choosing import Swappable
from compacter_runtime.decoder import GraphDecoder
from tests.export_matrix.backbones import Backbone
from tests.exporters_backbone.generators import greedy_in_graphs

_LOGITS = "logits"
_CACHE = "past_key_values"


class Adapted:
    """A session that is given an adapter in every run, if it takes any; to its users it is a session.

    Args:
        path: the graph.
        adapter: what it is given.
    """

    def __init__(self, path: Path, adapter: Adapter | None) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 4, 1
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._adapters: Any = open_adapters(self._session.get_modelmeta().custom_metadata_map, "cpu")
        self._loaded: Any = None
        if adapter is not None and isinstance(self._adapters, Swappable):
            self._loaded = self._adapters.load(adapter)
        if adapter is not None and isinstance(self._adapters, Bank):
            self._loaded = self._adapters.add(adapter)

    def get_inputs(self) -> list[Any]:
        """The inputs that are not for adapters."""
        return [value for value in self._session.get_inputs() if value.name not in self._adapters.inputs]

    def get_outputs(self) -> list[Any]:
        """The outputs."""
        outputs: list[Any] = self._session.get_outputs()
        return outputs

    def run(self, names: Sequence[str] | None, feed: Mapping[str, Array]) -> list[Array]:
        """What the graph computes with the adapter in every row."""
        wanted = {value.name for value in self.get_inputs()}
        rows = len(next(feed[name] for name in ("input_ids", "pixel_values") if name in feed))
        choice = [self._loaded] * rows if isinstance(self._adapters, Bank) else self._loaded
        given = self._adapters.choose(choice, rows).feeds(np.arange(rows))
        inputs = {name: array for name, array in feed.items() if name in wanted}
        outputs: list[Array] = self._session.run(names, {**inputs, **given})
        return outputs


@dataclass(frozen=True, slots=True, eq=False)
class Graphs:
    """The graphs of one model in a directory.

    Args:
        folder: where they are.
        adapter: what they are given, if they take any.
    """

    folder: Path
    adapter: Adapter | None

    @property
    def files(self) -> list[Path]:
        """All graphs."""
        return sorted(self.folder.glob("*.onnx"))

    def _decoder(self) -> GraphDecoder:
        if (self.folder / MODEL_FILE).exists():
            whole: Any = Adapted(self.folder / MODEL_FILE, self.adapter)
            return GraphDecoder(None, whole, whole)
        names = (ENCODER_FILE, DECODER_FILE, DECODER_WITH_PAST_FILE)
        sessions: list[Any] = [Adapted(self.folder / name, self.adapter) for name in names]
        return GraphDecoder(*sessions)

    def has_cache(self) -> bool:
        """Whether tokens are given one by one."""
        if not (self.folder / MODEL_FILE).exists():
            return True
        inputs = Adapted(self.folder / MODEL_FILE, self.adapter).get_inputs()
        return any(value.name.startswith(_CACHE) for value in inputs)

    def logits(self, backbone: Backbone) -> Array:
        """Logits of the backbone's inputs, token by token where there is a cache."""
        arrays = {name: tensor.numpy() for name, tensor in backbone.inputs.items()}
        if not self.has_cache():
            session = Adapted(self.folder / MODEL_FILE, self.adapter)
            names = [value.name for value in session.get_inputs()]
            zeros = np.zeros_like(next(iter(arrays.values())))
            places = np.broadcast_to(np.arange(zeros.shape[-1]), zeros.shape)
            others = {name: places if name == "position_ids" else zeros for name in names if name not in arrays}
            return session.run([_LOGITS], arrays | others)[0]
        decoder = self._decoder()
        tokens = arrays.get("decoder_input_ids", arrays["input_ids"])
        state = decoder.start(arrays["input_ids"], np.ones_like(arrays["input_ids"]))
        first = 1 if decoder.encoder is not None else tokens.shape[1] // 2
        parts = []
        for start, stop in [(0, first), *((i, i + 1) for i in range(first, tokens.shape[1]))]:
            if decoder.encoder is None:
                state.mask = np.ones_like(tokens[:, :stop])
            parts.append(decoder.step(tokens[:, start:stop], state))
        return np.concatenate(parts, axis=1)

    def tokens(self, backbone: Backbone) -> Array | None:
        """What is written greedily; None if the graphs have no cache to do so."""
        if backbone.prompts is None or not self.has_cache():
            return None
        return greedy_in_graphs(self._decoder(), backbone.prompts.numpy())[0]
