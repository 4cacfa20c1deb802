"""Adapters of a run: what the model is fed besides texts, and the class names of each row."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from compacter_core.adapter import Adapter
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.reader import load_adapter
from compacter_core.linkage.description import Description
from compacter_core.linkage.packed import SUFFIX
from compacter_runtime.onnx_adapter import PackedAdapter, active, pack, read_packed

Rows = NDArray[np.int64]
Labels = tuple[str, ...]
AdapterChoice = Path | str | PackedAdapter | Sequence[str | None] | None


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """The adapters of one run.

    Args:
        feeds: further inputs of the model for some of the run's rows.
        labels: class names of each row; None for those of the backbone.
        options: of the run; they may give adapters, too, which live as long as this object.
    """

    feeds: Callable[[Rows], Mapping[str, Any]]
    labels: Sequence[Labels | None]
    options: onnxruntime.RunOptions | None = None


class Adapters(Protocol):
    """The adapters a model can take."""

    inputs: tuple[str, ...]
    """Names of required inputs that are not the caller's to give."""

    def choose(self, choice: AdapterChoice, rows: int) -> Chosen:
        """The adapters of a run of that many rows."""


class NoAdapters:
    """A model that takes none: merged, or a bare backbone."""

    inputs: tuple[str, ...] = ()

    def choose(self, choice: AdapterChoice, rows: int) -> Chosen:
        """Nothing.

        Raises:
            CompacterError: E703 for any other choice.
        """
        if choice is not None:
            raise CompacterError(
                ErrorCode.E703,
                "the model takes no adapters at run time",
                value=str(choice),
                remedy="Make one that does with `compacter graft --linkage swappable` or `--linkage bank`.",
            )
        return Chosen(lambda _: {}, [None] * rows)


class Swappable:
    """A model that takes one adapter at a time.

    An adapter's tensors are put on the session's device when it first runs, and stay there as long as the caller keeps
    the adapter. On CPUs they are ONNX Runtime's active adapter of a run, on other devices inputs.

    Args:
        description: the model's.
        device: "cpu" or "cuda".
    """

    inputs: tuple[str, ...] = ()

    def __init__(self, description: Description, device: str = "cpu") -> None:
        self.description = description
        self._device = device
        self._resident: WeakKeyDictionary[PackedAdapter, _Resident] = WeakKeyDictionary()

    def load(self, source: Path | str | Adapter) -> PackedAdapter:
        """An adapter from a `.onnx_adapter` file, an adapter file or its directory, or from memory.

        Raises:
            CompacterError: as `read_packed`; what reading an adapter raises, and E401, E403, E404, E604, E605 for one
                that does not fit.
        """
        if isinstance(source, Adapter):
            return pack(self.description, source)
        path = Path(source)
        return (
            read_packed(path, self.description) if path.suffix == SUFFIX else pack(self.description, load_adapter(path))
        )

    def choose(self, choice: AdapterChoice, rows: int) -> Chosen:
        """One adapter for all rows, or none.

        ONNX Runtime ignores active adapters with bound inputs and in asynchronous runs.

        Raises:
            CompacterError: E703 for adapters by row; else as `load`.
        """
        if choice is None:
            return Chosen(lambda _: {}, [None] * rows)
        if isinstance(choice, str | Path):
            choice = self.load(choice)
        if not isinstance(choice, PackedAdapter):
            raise CompacterError(
                ErrorCode.E703,
                "a swappable model takes one adapter for all rows",
                value=str(choice),
                remedy="Make a model for an adapter per row with `compacter graft --linkage bank`.",
            )
        resident = self._on_device(choice)
        return Chosen(lambda _: resident.tensors, [choice.labels] * rows, resident.options)

    def _on_device(self, packed: PackedAdapter) -> "_Resident":
        if packed not in self._resident:
            here = _Resident.active if self._device == "cpu" else partial(_Resident.fed, device=self._device)
            self._resident[packed] = here(packed)
        return self._resident[packed]


@dataclass(frozen=True, slots=True, eq=False)
class _Resident:
    """An adapter on a device.

    Args:
        tensors: what is fed.
        options: of a run.
        kept: what the options refer to.
    """

    tensors: Mapping[str, onnxruntime.OrtValue]
    options: onnxruntime.RunOptions | None = None
    kept: onnxruntime.LoraAdapter | None = None

    @classmethod
    def active(cls, packed: PackedAdapter) -> "_Resident":
        """As an active adapter."""
        adapter, options = active(packed), onnxruntime.RunOptions()
        options.add_active_adapter(adapter)
        return cls({}, options, adapter)

    @classmethod
    def fed(cls, packed: PackedAdapter, device: str) -> "_Resident":
        """As inputs."""
        values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(a, device, 0) for name, a in packed.tensors.items()}
        return cls(values)
