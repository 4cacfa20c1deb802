"""Many adapters in one session: each row of a batch names its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from compacter_core.adapter import Adapter
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.reader import load_adapter
from compacter_core.linkage.bank import ADAPTER_ID, BankLayout, bank_input
from compacter_core.linkage.description import Description
from compacter_runtime.choosing import AdapterChoice, Chosen, Labels, Rows
from compacter_runtime.model_inputs import Array
from compacter_runtime.onnx_adapter import PackedAdapter

_NONE = -1
_FIRST_CAPACITY = 4


@dataclass(frozen=True, slots=True)
class Resident:
    """An adapter in a bank: its id in the graph, and the class names of its head, if it has one."""

    id: int
    labels: Labels | None


class Bank:
    """The adapters of a model with the linkage bank.

    The tensors are kept on the session's device. They grow by doubling, which copies them; an adapter added where there
    is room is written in place. Do not change a bank while another thread runs the model.

    Args:
        description: the model's.
        device: "cpu" or "cuda".

    Example:
        >>> session = Session("bank.onnx")  # doctest: +SKIP
        >>> session.bank.add("adapters/banking77")  # doctest: +SKIP
        'banking77'
        >>> session.classify(["My card?", "Hello"], adapter=["banking77", None])  # doctest: +SKIP
    """

    inputs: tuple[str, ...] = (ADAPTER_ID,)

    def __init__(self, description: Description, device: str = "cpu") -> None:
        self._layout = BankLayout(description)
        self._neutral = self._layout.entry(None)
        self._residents: dict[str, Resident] = {}
        self._device = device
        self._columns = {name: array.shape[-1] for name, array in self._neutral.items()}
        self._tensors = {name: self._grown(name, None, 1 + _FIRST_CAPACITY) for name in self._neutral}
        self._fed: Mapping[str, onnxruntime.OrtValue] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The adapters, in the order they were added."""
        return tuple(self._residents)

    @property
    def capacity(self) -> int:
        """How many adapters there is room for before the tensors grow."""
        return len(next(iter(self._tensors.values()))) - 1

    @property
    def bytes_per_adapter(self) -> int:
        """Memory that one resident adapter takes."""
        return sum(array[0].nbytes for array in self._tensors.values())

    def add(self, source: Path | str | Adapter, *, name: str | None = None) -> str:
        """Put an adapter into the bank, or another one in the place of that name.

        Args:
            source: an adapter file or its directory, or an adapter in memory.
            name: by default the adapter's own.

        Returns:
            The name.

        Raises:
            CompacterError: what reading an adapter raises; E401, E403, E404, E604, E605 for one that does not fit.
        """
        adapter = source if isinstance(source, Adapter) else load_adapter(Path(source))
        return self.put(adapter, self.entry(adapter), name=name)

    def entry(self, adapter: Adapter) -> Mapping[str, Array]:
        """What an adapter puts into the bank.

        Raises:
            CompacterError: as `add`.
        """
        return self._layout.entry(adapter)

    def put(self, adapter: Adapter, entry: Mapping[str, Array], *, name: str | None = None) -> str:
        """As `add`, with the adapter's `entry`."""
        name = adapter.config.name if name is None else name
        known = self._residents.get(name)
        slot = self._free_slot() if known is None else known.id
        for tensor, array in entry.items():
            self._write(tensor, 1 + slot, array)
        self._fed = {}  # another dictionary: whoever has chosen adapters before keeps the tensors that were chosen
        head = adapter.config.head
        self._residents[name] = Resident(slot, None if head is None else head.labels)
        return name

    def remove(self, name: str) -> None:
        """Take an adapter out; its place is free for another.

        Raises:
            CompacterError: E703 if there is none of that name.
        """
        self._resident(name)
        del self._residents[name]

    def choose(self, choice: AdapterChoice, rows: int) -> Chosen:
        """The adapters of a run.

        Args:
            choice: a name for all rows, one name or None for each row, or None for the backbone.
            rows: of the run.

        Raises:
            CompacterError: E703 for an unknown name or another number of them.
        """
        if isinstance(choice, PackedAdapter | Path):
            raise CompacterError(
                ErrorCode.E703,
                "a bank takes the names of its adapters",
                value=str(choice),
                expected=", ".join(self.names),
                remedy="Add the adapter to the bank first.",
            )
        names = [choice] * rows if choice is None or isinstance(choice, str) else list(choice)
        if len(names) != rows:
            raise CompacterError(
                ErrorCode.E703, "another number of adapters than of rows", value=len(names), expected=str(rows)
            )
        residents = [None if name is None else self._resident(name) for name in names]
        ids = np.array([_NONE if one is None else one.id for one in residents], np.int64)
        tensors = self._feed()

        def feeds(positions: Rows) -> Mapping[str, Any]:
            return {**tensors, ADAPTER_ID: ids[positions]}

        return Chosen(feeds, [None if one is None else one.labels for one in residents])

    def _resident(self, name: str) -> Resident:
        if name not in self._residents:
            raise CompacterError(
                ErrorCode.E703, "no such adapter in the bank", value=name, expected=", ".join(self.names) or "none yet"
            )
        return self._residents[name]

    def _free_slot(self) -> int:
        taken = {one.id for one in self._residents.values()}
        slot = next(slot for slot in range(len(taken) + 1) if slot not in taken)
        if slot >= self.capacity:
            entries = 1 + max(_FIRST_CAPACITY, 2 * self.capacity)
            self._tensors = {name: self._grown(name, array, entries) for name, array in self._tensors.items()}
        return slot

    def _write(self, name: str, index: int, array: Array) -> None:
        if array.shape[-1] > self._columns[name]:
            self._columns[name] = array.shape[-1]
            self._tensors[name] = self._grown(name, self._tensors[name], len(self._tensors[name]))
        entry = self._tensors[name][index]
        entry[...] = self._layout.padding(name)
        entry[..., : array.shape[-1]] = array

    def _grown(self, name: str, old: Array | None, entries: int) -> Array:
        """A tensor with so many entries and the columns it needs now, filled from `old` or with the neutral entry."""
        neutral = self._neutral[name]
        tensor = np.full((entries, *neutral.shape[:-1], self._columns[name]), self._layout.padding(name), neutral.dtype)
        kept: Sequence[Array] | Array = neutral[np.newaxis] if old is None else old
        for index, entry in enumerate(kept):
            tensor[index, ..., : entry.shape[-1]] = entry
        return tensor

    def _feed(self) -> Mapping[str, onnxruntime.OrtValue]:
        """The tensors on the device, by input; made again after a change."""
        if not self._fed:
            self._fed = {
                bank_input(name): onnxruntime.OrtValue.ortvalue_from_numpy(array, self._device, 0)
                for name, array in self._tensors.items()
            }
        return self._fed
