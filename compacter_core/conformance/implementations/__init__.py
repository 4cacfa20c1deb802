"""Our own implementations, behind the interface that judges everyone's (CNF-14 in process).

reference        NumPy; classes R, W, F, G, P, I
pytorch          the PyTorch back end; classes F, G, P, I
onnxruntime      the exporter's graphs in ONNX Runtime; classes F, P, O
onnx-reference   the same graphs in the ONNX project's own evaluator; classes F, P
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Final

from compacter_core.conformance.implementation import Implementation
from compacter_core.errors import CompacterError, ErrorCode

_PLACES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "reference": ("reference", "reference"),
        "pytorch": ("pytorch", "pytorch"),
        "onnxruntime": ("onnx_graph", "onnxruntime_graphs"),
        "onnx-reference": ("onnx_graph", "onnx_reference_graphs"),
    }
)
"""Name to module and function; a module is imported only when its implementation is asked for."""

NAMES: Final = tuple(_PLACES)


def create(name: str) -> Implementation:
    """The implementation of that name.

    Raises:
        CompacterError: E001 for an unknown name, E004 if a package that it needs is not installed.
    """
    if name not in _PLACES:
        raise CompacterError(ErrorCode.E001, "no such implementation", value=name, expected=", ".join(NAMES))
    module, attribute = _PLACES[name]
    try:
        make: Callable[[], Implementation] = getattr(import_module(f"{__name__}.{module}"), attribute)
    except ModuleNotFoundError as error:
        raise CompacterError(
            ErrorCode.E004,
            f"the implementation {name} needs the package {error.name}",
            remedy='Install it: pip install "compacter-core[torch,onnx,cpu]".',
        ) from error
    return make()
