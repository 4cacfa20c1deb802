"""Running a model's graphs with an adapter, whatever its linkage."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from compacter_core.adapter import Adapter, Array
from compacter_core.linkage.description import describes_itself, read_description
from compacter_core.linkage.kinds import Linkage
from compacter_exporters.choices import MERGED_DECODER_FILE, MODEL_FILE
from compacter_exporters.graph import load_graph
from compacter_runtime import Session
from compacter_runtime.adapted import GraphAdapters
from compacter_runtime.choosing import AdapterChoice
from compacter_runtime.decoder import GraphDecoder, graph_files
from compacter_runtime.loading import open_session
from tests.export_matrix.backbones import Backbone
from tests.exporters_backbone.generators import greedy_in_graphs

_LOGITS: Final = "logits"
_CACHE: Final = "past_key_values"


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

    @property
    def has_cache(self) -> bool:
        """Whether tokens are given one by one."""
        return any(str(value.name).startswith(_CACHE) for file in self.files for value in load_graph(file).graph.inputs)

    def logits(self, backbone: Backbone) -> Array:
        """Logits of the backbone's inputs, token by token where there is a cache."""
        arrays = {name: tensor.numpy() for name, tensor in backbone.inputs.items()}
        return self._step_by_step(arrays) if self.has_cache else self._at_once(arrays)

    def written(self, backbone: Backbone) -> list[list[list[int]]]:
        """What is written greedily, with separate decoders and with both in one; nothing without a cache."""
        if backbone.prompts is None or not self.has_cache:
            return []
        ways = (False, True) if (self.folder / MERGED_DECODER_FILE).exists() else (False,)
        decoders = [self._decoder(len(backbone.prompts), merged=way) for way in ways]
        return [greedy_in_graphs(decoder, backbone.prompts.numpy())[0].tolist() for decoder in decoders]

    @property
    def _linkage(self) -> Linkage:
        metadata = [load_graph(file).metadata_props for file in self.files]
        described = [read_description(one).linkage for one in metadata if describes_itself(one)]
        return described[0] if described else Linkage.MERGED

    def _at_once(self, arrays: dict[str, Array]) -> Array:
        session = Session(self.folder / MODEL_FILE, intra_op_threads=1)
        first = next(iter(arrays.values()))
        choice: AdapterChoice = None
        if self.adapter is not None and self._linkage is Linkage.SWAPPABLE:
            choice = session.load_adapter(self.adapter)
        if self.adapter is not None and self._linkage is Linkage.BANK:
            choice = [session.bank.add(self.adapter)] * len(first)
        places = np.broadcast_to(np.arange(first.shape[-1]), first.shape)
        others = dict.fromkeys(session.input_names, np.zeros_like(first)) | {"position_ids": places}
        feed = {name: arrays.get(name, others[name]) for name in session.input_names}
        return session.run(feed, adapter=choice)[_LOGITS]

    def _decoder(self, rows: int, *, merged: bool = False) -> GraphDecoder:
        sessions = [open_session(path, ["cpu"], 1) for path in graph_files(self.folder, merged=merged)]
        graphs = GraphAdapters(sessions)
        choice: AdapterChoice = None
        if self.adapter is not None and self._linkage is Linkage.SWAPPABLE:
            choice = graphs.swappable.load(self.adapter)
        if self.adapter is not None and self._linkage is Linkage.BANK:
            choice = [graphs.add(self.adapter)] * rows
        return GraphDecoder.of(graphs.bind(choice, rows))

    def _step_by_step(self, arrays: dict[str, Array]) -> Array:
        tokens = arrays.get("decoder_input_ids", arrays["input_ids"])
        decoder = self._decoder(len(tokens))
        state = decoder.start(arrays["input_ids"], np.ones_like(arrays["input_ids"]))
        first = 1 if decoder.encoder is not None else tokens.shape[1] // 2
        parts = []
        for start, stop in [(0, first), *((i, i + 1) for i in range(first, tokens.shape[1]))]:
            if decoder.encoder is None:
                state.mask = np.ones_like(tokens[:, :stop])
            parts.append(decoder.step(tokens[:, start:stop], state))
        return np.concatenate(parts, axis=1)
