"""`.onnx_adapter` files, written for a graph and read with every check that ONNX Runtime leaves out.

ONNX Runtime uses a tensor's default where the file has none, ignores the version of the model, and reads most damaged
files without noticing.
"""

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnxruntime

from compacter_core.adapter import Adapter
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.atomic import atomic_write
from compacter_core.format.reader import parse_adapter
from compacter_core.format.writer import adapter_bytes
from compacter_core.linkage.description import Description, short_version
from compacter_core.linkage.packed import read_packed_file, with_appendix
from compacter_core.linkage.swappable import swappable_shapes, swappable_tensors
from compacter_runtime.model_inputs import Array

_REMEDY: Final = "Pack the adapter again with `compacter pack`."


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class PackedAdapter:
    """An adapter ready to be given to a swappable graph.

    Args:
        adapter: the adapter.
        tensors: values by the name of the graph's input.
    """

    adapter: Adapter
    tensors: dict[str, Array]

    @property
    def name(self) -> str:
        """The adapter's name."""
        return self.adapter.config.name

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Class names of its head; None without a head."""
        head = self.adapter.config.head
        return None if head is None else head.labels


def pack(description: Description, adapter: Adapter) -> PackedAdapter:
    """Make the tensors of an adapter for a graph.

    Raises:
        CompacterError: as `swappable_tensors`.
    """
    return PackedAdapter(adapter, swappable_tensors(description, adapter))


def write_packed(path: Path, description: Description, adapter: Adapter) -> int:
    """Write an adapter packed for a graph; returns the number of bytes.

    Raises:
        CompacterError: as `pack`; E006 if the file cannot be written.
    """
    packed = pack(description, adapter)
    stored = adapter_bytes(adapter)
    container = _container(packed)
    container.set_model_version(description.version)
    container.set_adapter_version(short_version(hashlib.sha256(stored).hexdigest()))
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "container"
        container.export_adapter(str(file))
        data = with_appendix(file.read_bytes(), stored, description.fingerprint)
    atomic_write(path, data)
    return len(data)


def active(packed: PackedAdapter) -> onnxruntime.LoraAdapter:
    """The adapter as the options of a run on CPUs take it, which costs a run less than as many inputs do."""
    made = onnxruntime.LoraAdapter()
    # The file is mapped into memory for as long as the adapter lives; where mapped files cannot go, it stays.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        file = str(Path(scratch) / "container")
        _container(packed).export_adapter(file)
        made.Load(file)
    return made


def _container(packed: PackedAdapter) -> onnxruntime.AdapterFormat:
    """ONNX Runtime's container of an adapter's tensors."""
    container = onnxruntime.AdapterFormat()
    container.set_parameters(
        {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in packed.tensors.items()}
    )
    return container


def read_packed(path: Path, description: Description) -> PackedAdapter:
    """Read an adapter packed for a graph, and check that it is whole, undamaged and for this graph.

    Raises:
        CompacterError: E005 if the file cannot be read; E601 for a file that we did not write; E602 for a missing
            tensor, E303 for a superfluous one, E304 or E305 for one of another shape or type; E603 for damaged bytes;
            E403 for one that was packed for another graph; what reading an adapter raises.
    """
    stored, fingerprint = read_packed_file(path)
    adapter = parse_adapter(stored)
    if fingerprint != description.fingerprint:
        raise CompacterError(
            ErrorCode.E403,
            "the adapter was packed for another graph",
            value=fingerprint,
            expected=description.fingerprint,
            remedy=_REMEDY,
        )
    try:
        container = onnxruntime.AdapterFormat.read_adapter(str(path))
    # ONNX Runtime's exceptions share no base class but Exception.
    except Exception as error:
        raise CompacterError(
            ErrorCode.E601, "ONNX Runtime cannot read the adapter", value=str(path), remedy=_REMEDY
        ) from error
    if container.get_model_version() != description.version:
        raise CompacterError(
            ErrorCode.E403,
            "the adapter's container is for another model version",
            value=container.get_model_version(),
            expected=str(description.version),
            remedy=_REMEDY,
        )
    # Copies: the arrays are views of memory that goes with the container.
    tensors = {name: value.numpy().copy() for name, value in container.get_parameters().items()}
    _check_complete(tensors, description, adapter)
    return PackedAdapter(adapter, tensors)


def _check_complete(tensors: dict[str, Array], description: Description, adapter: Adapter) -> None:
    """Refuse what ONNX Runtime would run with defaults, or not at all."""
    expected = swappable_shapes(description, adapter)
    for name in expected.keys() - tensors.keys():
        raise CompacterError(ErrorCode.E602, "the packed adapter lacks a tensor", value=name, remedy=_REMEDY)
    for name in tensors.keys() - expected.keys():
        raise CompacterError(ErrorCode.E303, "the packed adapter has a tensor too many", value=name, remedy=_REMEDY)
    for name, array in tensors.items():
        if array.shape != expected[name]:
            raise CompacterError(
                ErrorCode.E304, f"tensor {name}", value=array.shape, expected=str(expected[name]), remedy=_REMEDY
            )
        if array.dtype != description.dtype.memory:
            raise CompacterError(
                ErrorCode.E305,
                f"tensor {name}",
                value=str(array.dtype),
                expected=str(description.dtype.memory),
                remedy=_REMEDY,
            )
