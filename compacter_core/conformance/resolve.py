"""From the name of an implementation to the implementation."""

import importlib
import sys
from pathlib import Path
from typing import Any

from compacter_core.conformance.implementation import Implementation
from compacter_core.errors import CompacterError, ErrorCode


def resolve(name: str) -> Implementation:
    """The implementation called `name`: one of this package's, or what `module:factory` returns.

    The current directory can hold the module, as with `python -m`.

    Raises:
        CompacterError: E001 if there is none, E004 if one of this package needs a package that is not installed.
    """
    if ":" not in name:
        from compacter_core.conformance.implementations import create  # noqa: PLC0415  # only for these names

        return create(name)
    module_name, _, factory_name = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # a package that the module needs
        raise _none(name, f"there is no module {error.name}") from error
    factory: Any = getattr(module, factory_name, None)
    if not callable(factory):
        raise _none(name, f"{module_name} has no function {factory_name}")
    implementation = factory()
    if not (hasattr(implementation, "describe") and hasattr(implementation, "run")):
        raise _none(name, f"{factory_name}() returned {type(implementation).__name__}, no implementation")
    return implementation  # type: ignore[no-any-return]  # checked above as far as it can be


def _none(name: str, why: str) -> CompacterError:
    return CompacterError(
        ErrorCode.E001,
        f"implementation: {why}",
        value=name,
        expected="module:factory, a function that returns an object with describe() and run(request)",
    )
