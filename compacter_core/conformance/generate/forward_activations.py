"""Cases of `forward` for the activations alone: both weights are the identity, so that z = x and delta = act(x)."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from compacter_core.adapter import Array, DType
from compacter_core.config import AdapterConfig
from compacter_core.conformance.generate import statements
from compacter_core.conformance.generate.builder import Builder
from compacter_core.conformance.generate.configurations import FFN, Biases, Choice, Rule, Sizes
from compacter_core.conformance.generate.draw import integer_adapter, with_tensors
from compacter_core.conformance.generate.forward import plan
from compacter_core.conformance.generate.numeric import EVERY_DTYPE, add
from compacter_core.conformance.generate.questions import Forward
from compacter_core.conformance.generate.source import Source
from compacter_core.conformance.words import Flag
from compacter_core.vocabulary import Activation, ProjectionKind

_D: Final = 8
_WIDE: Final = tuple(dtype for dtype in EVERY_DTYPE if dtype is not DType.F16)

_BENDS: Final = (
    *(-2.703125, -2.6875, -2.71875, -2.5, -1.28125, -0.75, -0.5, 0.0),
    *(2.703125, 2.6875, 2.71875, 2.5, 1.28125, 0.75, 0.5, 1.0),
    *(-4.0, -3.0, -2.0, -1.0, 2.0, 3.0, 4.0, 5.0),
    *(2.0**-4, -(2.0**-4), 2.0**-7, -(2.0**-7), 2.0**-10, -(2.0**-10), 2.0**-14, -(2.0**-14)),
    *(-5.0, -6.0, -8.0, 6.0, 8.0, -1.5, 1.5, 0.25),
)
"""Around the extrema of the activations, where the two GELUs differ most (-2.70), and down to small numbers."""

_LARGE: Final = (
    *(16.0, -16.0, 24.0, -24.0, 40.0, -40.0, 64.0, -64.0),
    *(88.0, -88.0, 96.0, -96.0, 128.0, -128.0, 1024.0, -1024.0),
)
"""Where z^3 leaves F16 and exp(-z) leaves F16 and F32."""

_HUGE: Final = tuple(sign * 2.0**exponent for exponent in (43, 50, 60, 100) for sign in (1, -1))
"""Where z^3 leaves F32."""

_GIANT: Final = tuple(sign * 2.0**exponent for exponent in (342, 400, 500, 1000) for sign in (1, -1))
"""Where z^3 leaves F64."""


def add_activation_cases(builder: Builder) -> None:
    """All of them."""
    for activation in Activation:
        config = choice_of(activation).config(Sizes(d=_D, k=_D), sites=(FFN,))
        name = f"forward/activation/{activation.value}"
        add(builder, plan(f"{name}/bends", config), _Values(config, _BENDS))
        for word, values, dtypes in (
            ("large", _LARGE, EVERY_DTYPE),
            ("huge", _HUGE, _WIDE),
            ("giant", _GIANT, (DType.F64,)),
        ):
            case = plan(
                f"{name}/{word}",
                config,
                (statements.LARGE_ARGUMENTS,),
                flags=frozenset({Flag.EDGE}),
                dtypes=dtypes,
                comment="a formula whose intermediate results overflow would give a NaN or an infinity",
                notices=False,
            )
            add(builder, case, _Values(config, values, outputs=("delta",)))


def choice_of(activation: Activation) -> Choice:
    """Nothing but an activation between two dense weights."""
    return Choice(kind=ProjectionKind.DENSE, rule=Rule.NONE, biases=Biases.NONE, activation=activation)


class _Values:
    """A question that asks for the activation of given values."""

    def __init__(
        self, config: AdapterConfig, values: Sequence[float], outputs: tuple[str, ...] = ("delta", "y")
    ) -> None:
        self._config = config
        self._values: Array = np.array(values, dtype=np.float64).reshape(-1, _D)
        self._outputs = outputs

    def __call__(self, source: Source) -> Forward:
        identity = {name: np.eye(_D) for name in (f"site.{FFN}.down.W", f"site.{FFN}.up.W")}
        return Forward(
            adapter=with_tensors(integer_adapter(self._config, source), identity),
            site=FFN,
            x=self._values,
            skip=source.dyadic(self._values.shape, -1),
            outputs=self._outputs,
        )
