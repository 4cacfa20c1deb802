"""Choice of ONNX Runtime execution providers: asked for means used, or an error that says what there is."""

from collections.abc import Sequence

import onnxruntime

from compacter_core.errors import CompacterError, ErrorCode

_SUFFIX = "ExecutionProvider"
_PREFERENCE = ("CUDAExecutionProvider", "CPUExecutionProvider")


def choose_providers(asked: Sequence[str] | None) -> list[str]:
    """Full names of the providers to create a session with, in order of preference.

    Args:
        asked: full or short names ("cuda", "CPUExecutionProvider"), any case; None takes CUDA if it is there, and the
            CPU.

    Raises:
        CompacterError: E701 if one is unknown to the installed ONNX Runtime.
    """
    available = onnxruntime.get_available_providers()
    if asked is None:
        return [name for name in _PREFERENCE if name in available]
    by_short_name = {_short(name): name for name in available}
    chosen = []
    for name in asked:
        if _short(name) not in by_short_name:
            raise _unavailable(name, available)
        chosen.append(by_short_name[_short(name)])
    return chosen


def require_active(session: onnxruntime.InferenceSession, asked: Sequence[str] | None) -> None:
    """Refuse a session that quietly fell back: ONNX Runtime only logs when a provider's libraries do not load.

    Raises:
        CompacterError: E701.
    """
    active = {_short(name) for name in session.get_providers()}
    for name in asked or ():
        if _short(name) not in active:
            raise _unavailable(name, session.get_providers())


def device_of(session: onnxruntime.InferenceSession) -> str:
    """Where the session's first provider computes, as ONNX Runtime names devices: "cuda" or "cpu"."""
    return "cuda" if _short(session.get_providers()[0]) == "cuda" else "cpu"


def _short(name: str) -> str:
    return name.lower().removesuffix(_SUFFIX.lower())


def _unavailable(name: str, available: Sequence[str]) -> CompacterError:
    remedy = "Leave the choice open, or install an ONNX Runtime that has it"
    cuda = " (onnxruntime-gpu, with a CUDA driver)" if _short(name) == "cuda" else ""
    return CompacterError(
        ErrorCode.E701,
        "this execution provider is not available",
        value=name,
        expected=", ".join(_short(available_name) for available_name in available),
        remedy=f"{remedy}{cuda}.",
    )
