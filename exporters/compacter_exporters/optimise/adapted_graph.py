"""A graph in a session with an adapter given to it, where it takes one: what is compared and measured in tuning."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import onnxruntime

from compacter_core.adapter import Adapter, Array
from compacter_exporters.optimise.measuring import timed_session
from compacter_runtime.adapters import description_of, open_adapters
from compacter_runtime.bank import Bank
from compacter_runtime.choosing import Adapters, Chosen, Rows, Swappable
from compacter_runtime.loading import open_session, run_session
from compacter_runtime.providers import choose_providers, device_of, require_active


@dataclass(frozen=True, slots=True, eq=False)
class AdaptedGraph:
    """A session and its adapter.

    Args:
        session: the session.
        adapters: what the model takes.
        adapter: the one that every row has; merged models have theirs inside.
    """

    session: onnxruntime.InferenceSession
    adapters: Adapters
    adapter: Adapter

    @classmethod
    def opened(cls, path: Path, adapter: Adapter, providers: Sequence[str], *, timed: bool = False) -> Self:
        """The graph of a file.

        Args:
            path: of the model.
            adapter: the adapter.
            providers: execution providers.
            timed: whether threads wait without spinning, so that sessions that are open together do not disturb each
                other.

        Raises:
            CompacterError: E701 for a provider that is not there, E704 for a graph that ONNX Runtime cannot load.
        """
        if timed:
            session = timed_session(path, choose_providers(providers))
            require_active(session, providers)
        else:
            session = open_session(path, providers, None)
        adapters = open_adapters(description_of(session.get_modelmeta().custom_metadata_map), device_of(session))
        return cls(session, adapters, adapter)

    def given(self, rows: int) -> "GivenRows":
        """The graph with the adapter in each of so many rows."""
        adapters = self.adapters
        if isinstance(adapters, Bank):
            chosen = adapters.choose(adapters.add(self.adapter), rows)
        else:
            chosen = adapters.choose(adapters.load(self.adapter) if isinstance(adapters, Swappable) else None, rows)
        names = tuple(output.name for output in self.session.get_outputs())
        return GivenRows(self.session, names, chosen, np.arange(rows))


@dataclass(frozen=True, slots=True, eq=False)
class GivenRows:
    """A graph whose adapter is given.

    Args:
        session: its session.
        names: of its outputs.
        chosen: the adapters of its rows.
        rows: their positions.
    """

    session: onnxruntime.InferenceSession
    names: tuple[str, ...]
    chosen: Chosen
    rows: Rows

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by name.

        Raises:
            CompacterError: E703 if ONNX Runtime cannot run the graph on these inputs.
        """
        feed = {**inputs, **self.chosen.feeds(self.rows)}
        results = run_session(self.session, self.names, feed, tuple(inputs), self.chosen.options)
        return dict(zip(self.names, results, strict=True))
