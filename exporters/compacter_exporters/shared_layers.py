"""Backbones that run the same layers several times, as ALBERT does: each call of a layer is a copy of its nodes.

A site is then found as often as its layer is called, in nodes that consume equal weights, and its norm likewise. The
first occurrences of all sites are one call, the second ones another: calls follow each other in a graph.
"""

from collections.abc import Sequence
from typing import Final

from compacter_core.config import AdapterConfig
from compacter_core.errors import CompacterError, ErrorCode
from compacter_exporters.norms import Norm

_SHARING: Final = ("albert",)
"""Model types whose layers are called several times."""


def shares_layers(config: AdapterConfig) -> bool:
    """Whether the backbone of an adapter calls its layers several times."""
    return config.backbone is not None and config.backbone.model_type in _SHARING


def norms_of_calls(norms: Sequence[Norm], calls: int, config: AdapterConfig) -> list[list[Norm]]:
    """The norms of each call, in the graph's order; a norm outside the layers is in all of them.

    Norms of one module are those with the same gain and bias. A grafted graph may have several of them in each call.

    Args:
        norms: of a graph; none where nobody asks for them.
        calls: how often its layers are called.
        config: of the adapter.

    Raises:
        CompacterError: E604 if there are not as many different norms as the backbone has modules, each in every call.
    """
    if calls <= 1 or not norms:
        return [list(norms)] * calls
    places: dict[tuple[bytes, bytes], list[int]] = {}
    for index, norm in enumerate(norms):
        bias = b"" if norm.bias is None else norm.bias.array().tobytes()
        places.setdefault((norm.gain.array().tobytes(), bias), []).append(index)
    modules = 0 if config.backbone is None else len(config.backbone.norms)
    if len(places) != modules or any(len(where) > 1 and len(where) % calls for where in places.values()):
        raise CompacterError(
            ErrorCode.E604,
            f"the norms of layers that are called {calls} times cannot be told apart, or differ between calls",
            value=f"{len(places)} different norms",
            expected=str(modules),
            remedy="Graft into an export of a trained checkpoint.",
        )
    members: list[list[int]] = [[] for _ in range(calls)]
    for where in places.values():
        each = len(where) // calls
        for call, indices in enumerate(members):
            indices.extend(where[call * each : (call + 1) * each] if each else where)
    return [[norms[index] for index in sorted(indices)] for indices in members]
