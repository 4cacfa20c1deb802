"""Large constants of a graft in a file of their own, for the backbone's external data is not to be changed."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx_ir as ir

from compacter_core.format.atomic import atomic_file

_ALIGNMENT: Final = 4096
"""Of each constant in the file, so that it can be mapped into memory."""


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
            offset = -(-end // _ALIGNMENT) * _ALIGNMENT
            end = offset + tensor.nbytes
            tensors[offset] = tensor
            graph.initializers[name].const_value = ir.ExternalTensor(
                path.name,
                offset,
                tensor.nbytes,
                tensor.dtype,
                shape=ir.Shape(tensor.numpy().shape),
                name=name,
                base_dir=path.parent,
            )
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
