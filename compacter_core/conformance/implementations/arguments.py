"""What the arguments of a request hold (CNF-15)."""

import json

from compacter_core.config import AdapterConfig
from compacter_core.conformance.implementation import Request
from compacter_core.conformance.tensor_files import Tensor, read_tensors
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.config_json import config_from_json


def tensors(request: Request, name: str) -> dict[str, Tensor]:
    """The tensors in a file argument.

    Raises:
        CompacterError: E110 or E801.
    """
    return read_tensors(request.files[name].read_bytes(), f"argument {name}")


def site(request: Request) -> str:
    """The argument `site`."""
    return str(request.args["site"])


def names(request: Request, name: str) -> tuple[str, ...]:
    """An argument that lists names.

    Raises:
        CompacterError: E001 if it is no list.
    """
    value = request.args[name]
    if not isinstance(value, list | tuple):
        raise CompacterError(ErrorCode.E001, f"argument {name}", value=value, expected="a list of names")
    return tuple(str(item) for item in value)


def count(request: Request, name: str) -> int:
    """An argument that is a whole number.

    Raises:
        CompacterError: E001 if it is none.
    """
    value = request.args[name]
    if type(value) is not int:
        raise CompacterError(ErrorCode.E001, f"argument {name}", value=value, expected="an integer")
    return value


def config(request: Request) -> AdapterConfig:
    """The argument `config`.

    Raises:
        CompacterError: E2xx, E401, E404 or E405.
    """
    return config_from_json(json.dumps(request.args["config"], ensure_ascii=False))
