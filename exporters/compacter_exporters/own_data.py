"""External data that is written here: large constants of a graft in a file of their own, and weights of several graphs.

A graft's constants get a file since the backbone's external data is not to be changed. Where graphs of a directory are
written anew, what they have in common is written once, to a file that all of them refer to.
"""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

import onnx_ir as ir

from compacter_core.format.atomic import atomic_file

_ALIGNMENT: Final = 4096
"""Of each constant in the file, so that it can be mapped into memory."""

_SMALLEST: Final = 1024
"""Bytes of a constant that goes to a file of several graphs; smaller ones stay in the graph."""


@dataclass(frozen=True, slots=True)
class OwnData:
    """Constants and their places in a file.

    Args:
        path: of the file.
        tensors: the constants by their offset in it.
    """

    path: Path
    tensors: dict[int, ir.TensorProtocol]

    @classmethod
    def move(cls, graph: ir.Graph, names: Iterable[str], path: Path) -> "OwnData":
        """Let a graph refer to a file for these initialisers; it is yet to be written."""
        tensors: dict[int, ir.TensorProtocol] = {}
        end = 0
        for name in names:
            tensor = graph.initializers[name].const_value
            if tensor is None:  # initialisers of a graft have values
                raise TypeError(f"{name} has no value")
            offset = _aligned(end)
            end = offset + tensor.nbytes
            tensors[offset] = tensor
            graph.initializers[name].const_value = _reference(tensor, name, path, offset)
        return cls(path, tensors)

    def write(self) -> None:
        """Write the file.

        Raises:
            CompacterError: E006 if it cannot be written.
        """
        with atomic_file(self.path) as stream:
            for offset, tensor in self.tensors.items():
                stream.write(bytes(offset - stream.tell()))
                stream.write(tensor.tobytes())
            stream.flush()
            os.fsync(stream.fileno())


@dataclass(slots=True)
class SharedData:
    """Constants of several models in one file, equal ones once.

    Args:
        path: of the file.
        stream: it, being written.
        offsets: of what is in it, by SHA-256.
    """

    path: Path
    stream: BinaryIO
    offsets: dict[bytes, int] = field(default_factory=dict)

    def take(self, model: ir.Model) -> bool:
        """Let a model refer to the file for its large constants, branches included; whether there are any."""
        found = False
        for graph in model.graphs():
            for name, value in graph.initializers.items():
                tensor = value.const_value
                if tensor is None:
                    continue
                if tensor.nbytes >= _SMALLEST:
                    value.const_value = _reference(tensor, name, self.path, self._offset_of(tensor.tobytes()))
                    found = True
                elif isinstance(tensor, ir.ExternalTensor):
                    value.const_value = ir.Tensor(tensor.numpy().copy(), tensor.dtype, name=name)
        return found

    def _offset_of(self, data: bytes) -> int:
        digest = hashlib.sha256(data).digest()
        if digest not in self.offsets:
            end = self.stream.tell()
            self.offsets[digest] = _aligned(end)
            self.stream.write(bytes(_aligned(end) - end) + data)
        return self.offsets[digest]


def _aligned(end: int) -> int:
    return -(-end // _ALIGNMENT) * _ALIGNMENT


def _reference(tensor: ir.TensorProtocol, name: str, path: Path, offset: int) -> ir.ExternalTensor:
    return ir.ExternalTensor(
        path.name,
        offset,
        tensor.nbytes,
        tensor.dtype,
        shape=ir.Shape(tensor.shape.numpy()),
        name=name,
        base_dir=path.parent,
    )
