"""What all our implementations have in common: one function for each operation, and what requests hold."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from compacter_core.adapter import Adapter, Array, DType
from compacter_core.config import AdapterConfig
from compacter_core.conformance.implementation import Answer, Done, Rejected, Request, Skipped
from compacter_core.conformance.tensor_files import Tensor, read_tensors, write_tensors
from compacter_core.conformance.words import Op
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.codec import round_to
from compacter_core.format.config_json import config_from_json
from compacter_core.format.reader import load_adapter

Handler = Callable[[Request], Answer]


def answer(handlers: Mapping[Op, Handler], request: Request) -> Answer:
    """The handler's answer; a CompacterError is a rejection with its code, an operation without handler is skipped."""
    handler = handlers.get(request.op)
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
            inputs={name: tensor.array for name, tensor in tensors_argument(request, "inputs").items()},
        )

    def reply(self, request: Request, tensors: Mapping[str, Array]) -> Done:
        """Write the answer's tensors, rounded once to the type."""
        return write_answer(request, tensors, self.dtype)


def write_answer(request: Request, tensors: Mapping[str, Array], dtype: DType) -> Done:
    """Write tensors as the output file, rounded once to a type."""
    rounded = {name: round_to(array, dtype) for name, array in tensors.items()}
    request.out.write_bytes(write_tensors(rounded, dtype))
    return Done()


def tensors_argument(request: Request, name: str) -> dict[str, Tensor]:
    """The tensors in a file argument.

    Raises:
        CompacterError: E110 or E801.
    """
    return read_tensors(request.files[name].read_bytes(), f"argument {name}")


def site_argument(request: Request) -> str:
    """The argument `site`."""
    return str(request.args["site"])


def names_argument(request: Request, name: str) -> tuple[str, ...]:
    """An argument that lists names.

    Raises:
        CompacterError: E001 if it is no list.
    """
    value = request.args[name]
    if not isinstance(value, list | tuple):
        raise CompacterError(ErrorCode.E001, f"argument {name}", value=value, expected="a list of names")
    return tuple(str(item) for item in value)


def count_argument(request: Request, name: str) -> int:
    """An argument that is a whole number.

    Raises:
        CompacterError: E001 if it is none.
    """
    value = request.args[name]
    if type(value) is not int:
        raise CompacterError(ErrorCode.E001, f"argument {name}", value=value, expected="an integer")
    return value


def config_argument(request: Request) -> AdapterConfig:
    """The argument `config`.

    Raises:
        CompacterError: E2xx, E401, E404 or E405.
    """
    return config_from_json(json.dumps(request.args["config"], ensure_ascii=False))


def chosen(request: Request, tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Those of the tensors that the argument `outputs` lists."""
    return {name: tensors[name] for name in names_argument(request, "outputs")}
