"""Names that other libraries have for the adapter's non-linearity."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.vocabulary import Activation

ACTIVATIONS: Final[Mapping[str, Activation]] = MappingProxyType(
    {
        "gelu": Activation.GELU,
        "gelu_new": Activation.GELU_NEW,
        "gelu_python": Activation.GELU,
        "gelu_pytorch_tanh": Activation.GELU_NEW,
        "linear": Activation.IDENTITY,
        "relu": Activation.RELU,
        "silu": Activation.SILU,
        "swish": Activation.SILU,
        "tanh": Activation.TANH,
    }
)
"""Those of transformers' `get_activation`, as far as this format has them."""


def activation_named(name: object, place: str, also: Mapping[str, Activation] | None = None) -> Activation:
    """The activation of that name, which is read in lower case.

    Args:
        name: from a configuration.
        place: where it stands, for messages.
        also: names that one library has besides.

    Raises:
        CompacterError: E501 if it is no name, E502 for an activation that this format lacks.
    """
    known = {**ACTIVATIONS, **(also or {})}
    if not isinstance(name, str):
        raise CompacterError(ErrorCode.E501, f"non_linearity of {place}", value=name, expected="a name")
    if name.lower() not in known:
        raise CompacterError(
            ErrorCode.E502,
            f"non_linearity of {place} is one that this format lacks",
            value=name,
            expected=", ".join(sorted(known)),
        )
    return known[name.lower()]
