"""Graphs of one model with the adapters they take together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from compacter_core.adapter import Adapter
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.reader import load_adapter
from compacter_core.linkage.description import Description
from compacter_core.linkage.kinds import Linkage
from compacter_core.vocabulary import Stack
from compacter_runtime.adapters import description_of, open_adapters
from compacter_runtime.bank import Bank
from compacter_runtime.choosing import AdapterChoice, Adapters, Chosen, NoAdapters, Swappable
from compacter_runtime.loading import run_session
from compacter_runtime.model_inputs import Array
from compacter_runtime.providers import device_of


@dataclass(frozen=True, slots=True, eq=False)
class BoundGraph:
    """A session that gets the same adapters in every run; to its users it has no inputs for them.

    Args:
        session: the session.
        chosen: the adapters of each row of a batch.
        hidden: names of inputs that are not the user's to give.
        rows: of the batch. A run may have several times as many: a beam search has some for each.
    """

    session: onnxruntime.InferenceSession
    chosen: Chosen
    hidden: tuple[str, ...]
    rows: int

    def get_inputs(self) -> Sequence[onnxruntime.NodeArg]:
        """The inputs without those for adapters."""
        return [value for value in self.session.get_inputs() if value.name not in self.hidden]

    def get_outputs(self) -> Sequence[onnxruntime.NodeArg]:
        """The outputs."""
        outputs: Sequence[onnxruntime.NodeArg] = self.session.get_outputs()
        return outputs

    def run(self, names: Sequence[str] | None, feed: Mapping[str, Any]) -> list[Array]:
        """The outputs; the first axis of `input_ids` counts the rows.

        Raises:
            CompacterError: E703 if ONNX Runtime cannot run the model on this input.
        """
        positions = np.repeat(np.arange(self.rows), len(feed["input_ids"]) // self.rows)
        whole = {**feed, **self.chosen.feeds(positions)}
        return run_session(self.session, names, whole, tuple(feed), self.chosen.options)


class GraphAdapters:
    """The adapters of graphs that were opened together: each adapter is given to all of them.

    Args:
        sessions: the graphs' sessions.

    Raises:
        CompacterError: E403 for graphs that take different adapters; E601 for damaged metadata.
    """

    def __init__(self, sessions: Sequence[onnxruntime.InferenceSession]) -> None:
        self._sessions = sessions
        described = [description_of(session.get_modelmeta().custom_metadata_map) for session in sessions]
        versions = {one.fingerprint for one in described if one is not None}
        if len(versions) > 1:
            raise CompacterError(
                ErrorCode.E403,
                "the graphs of the model were opened for different adapters",
                value=sorted(versions),
                expected="one fingerprint",
                remedy="Open the backbone's directory again as a whole.",
            )
        shared: dict[tuple[Stack, ...] | None, Adapters] = {}
        self._of = [
            _adapters(one, shared, device_of(session)) for one, session in zip(described, sessions, strict=True)
        ]

    @property
    def banks(self) -> list[Bank]:
        """The banks, one for each set of stacks that graphs hold; none for another linkage."""
        return list(dict.fromkeys(one for one in self._of if isinstance(one, Bank)))

    def add(self, source: Path | str | Adapter, *, name: str | None = None) -> str:
        """Put an adapter into the banks; arguments and errors as `Bank.add`.

        Raises:
            CompacterError: E703 if the model has no bank.
        """
        if not self.banks:
            raise CompacterError(
                ErrorCode.E703,
                "the model has no bank of adapters",
                remedy="Make one that has with `compacter graft --linkage bank`.",
            )
        adapter = source if isinstance(source, Adapter) else load_adapter(Path(source))
        # All entries before the first is put: an adapter that does not fit one bank goes into none.
        entries = [(bank, bank.entry(adapter)) for bank in self.banks]
        for bank, entry in entries:
            name = bank.put(adapter, entry, name=name)
        return str(name)

    def remove(self, name: str) -> None:
        """Take an adapter out of the banks; errors as `Bank.remove`."""
        for bank in self.banks:
            bank.remove(name)

    @property
    def swappable(self) -> Swappable:
        """What a swappable model takes.

        Raises:
            CompacterError: E703 if the model has another linkage.
        """
        for one in self._of:
            if isinstance(one, Swappable):
                return one
        raise CompacterError(
            ErrorCode.E703,
            "the model does not take one adapter at a time",
            remedy="Make one that does with `compacter graft --linkage swappable`.",
        )

    def bind(self, choice: AdapterChoice, rows: int) -> list[BoundGraph]:
        """The graphs with the adapters of a batch.

        Args:
            choice: as `Session.run` takes it.
            rows: of the batch.

        Raises:
            CompacterError: as `Adapters.choose`.
        """
        takers = [one for one in self._of if not isinstance(one, NoAdapters)]
        if isinstance(choice, str | Path) and takers and isinstance(takers[0], Swappable):
            choice = takers[0].load(choice)
        bound = []
        for session, adapters in zip(self._sessions, self._of, strict=True):
            is_bare = bool(takers) and isinstance(adapters, NoAdapters)
            chosen = adapters.choose(None if is_bare else choice, rows)
            bound.append(BoundGraph(session, chosen, adapters.inputs, rows))
        return bound


def _adapters(
    description: Description | None, shared: dict[tuple[Stack, ...] | None, Adapters], device: str
) -> Adapters:
    """The adapters of a graph: those of an earlier one that takes the same tensors."""
    if description is None:
        return open_adapters(None, device)
    key = description.stacks if description.linkage is Linkage.BANK else None
    if key not in shared:
        shared[key] = open_adapters(description, device)
    return shared[key]
