"""What our implementations have in common: they are made of one function for each operation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType
from typing import Final

import numpy as np

from compacter_core.adapter import Adapter, Array, DType
from compacter_core.conformance.implementation import Answer, Capabilities, Done, Rejected, Request, Skipped
from compacter_core.conformance.implementations import arguments
from compacter_core.conformance.tensor_files import write_tensors
from compacter_core.conformance.words import Op
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.codec import round_to
from compacter_core.format.reader import load_adapter

Handler = Callable[[Request], Answer]

WIDE_SUMS: Final[Mapping[DType, DType]] = MappingProxyType(
    {DType.F64: DType.F64, DType.F32: DType.F32, DType.F16: DType.F32, DType.BF16: DType.F32}
)
"""Types of sums where those of the two short types are F32."""


@dataclass(frozen=True, slots=True, eq=False)
class Composed:
    """An implementation made of one function for each operation that it offers.

    Args:
        capabilities: what it says about itself.
        handlers: the functions.
    """

    capabilities: Capabilities
    handlers: Mapping[Op, Handler]

    def describe(self) -> Capabilities:
        """Name and claims."""
        return self.capabilities

    def run(self, request: Request) -> Answer:
        """The handler's answer; a CompacterError is a rejection with its code, and what has no handler is skipped."""
        handler = self.handlers.get(request.op)
        if handler is None:
            return Skipped(f"the operation {request.op} is not offered")
        try:
            return handler(request)
        except CompacterError as error:
            return Rejected(error.code.name)


def own_version() -> str:
    """The installed version of this project."""
    try:
        return version("compacter-core")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "unknown"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Question:
    """A request with numbers, its files read.

    Args:
        dtype: of adapter, inputs and answer.
        adapter: the adapter.
        inputs: tensors by name.
    """

    dtype: DType
    adapter: Adapter
    inputs: Mapping[str, Array]

    @classmethod
    def of(cls, request: Request) -> "Question":
        """The question of a request.

        Raises:
            CompacterError: E001 for a request without a type; what reading its files raises.
        """
        if request.dtype is None:
            raise CompacterError(ErrorCode.E001, "a request with numbers has no dtype", value=request.case)
        return cls(
            dtype=request.dtype,
            adapter=load_adapter(request.files["adapter"]),
            inputs={name: tensor.array for name, tensor in arguments.tensors(request, "inputs").items()},
        )

    def reply(self, request: Request, tensors: Mapping[str, Array]) -> Done:
        """Write the answer's tensors, rounded once to the type."""
        return write_answer(request, tensors, self.dtype)


def write_answer(request: Request, tensors: Mapping[str, Array], dtype: DType) -> Done:
    """Write tensors as the output file, rounded once to a type."""
    rounded = {name: round_to(array, dtype) for name, array in tensors.items()}
    request.out.write_bytes(write_tensors(rounded, dtype))
    return Done()


def stacked(draws: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Draws of the same tensors as one array each, with a leading axis of draws (CNF-9)."""
    return {name: np.stack([one[name] for one in draws]) for name in draws[0]}


def chosen(request: Request, tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Those of the tensors that the argument `outputs` lists."""
    return {name: tensors[name] for name in arguments.names(request, "outputs")}
