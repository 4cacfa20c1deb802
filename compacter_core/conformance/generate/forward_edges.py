"""Cases of `forward` at the edges: unusual sizes, shapes of inputs, NaNs, zeros and magnitudes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np

from compacter_core.adapter import DType
from compacter_core.config import Site
from compacter_core.conformance.generate import statements
from compacter_core.conformance.generate.builder import Builder
from compacter_core.conformance.generate.configurations import (
    FFN,
    NEXT_FFN,
    Biases,
    Choice,
    Rule,
    Scale,
    Sizes,
)
from compacter_core.conformance.generate.draw import with_tensors
from compacter_core.conformance.generate.forward import plan, rounded
from compacter_core.conformance.generate.numeric import EVERY_DTYPE, add
from compacter_core.conformance.generate.questions import Forward
from compacter_core.conformance.generate.source import Source
from compacter_core.conformance.words import Flag
from compacter_core.vocabulary import Activation, ProjectionKind

_EDGE: Final = frozenset({Flag.EDGE})
_COMPACTER: Final = Choice(kind=ProjectionKind.LPHM, rule=Rule.SHARED)
_PHM: Final = Choice(kind=ProjectionKind.PHM, rule=Rule.OWN)
_DENSE: Final = Choice(kind=ProjectionKind.DENSE, rule=Rule.NONE)
_LOW_RANK: Final = Choice(kind=ProjectionKind.LOW_RANK, rule=Rule.NONE)
_WIDE: Final = tuple(dtype for dtype in EVERY_DTYPE if dtype is not DType.F16)

_SIZES: Final = (
    ("one-summand", _COMPACTER, Sizes(n=1), "n = 1"),
    ("one-summand", _PHM, Sizes(n=1), "n = 1"),
    ("n-equals-d", _COMPACTER, Sizes(d=4, k=4, n=4, r=1), "n = d = k: blocks of one element"),
    ("n-equals-d", _PHM, Sizes(d=4, k=8, n=4), "n = d: blocks of one row"),
    ("n-equals-k", _COMPACTER, Sizes(d=12, k=3, n=3, r=1), "n = k: blocks of one column"),
    ("n-equals-k", _PHM, Sizes(d=12, k=3, n=3), "n = k: blocks of one column"),
    ("wide-bottleneck", _COMPACTER, Sizes(d=4, k=8, n=2, r=1), "k > d"),
    ("wide-bottleneck", _DENSE, Sizes(d=3, k=5), "k > d"),
    ("high-rank", _COMPACTER, Sizes(d=4, k=2, n=2, r=4), "r is larger than the sides of a block"),
    ("high-rank", _LOW_RANK, Sizes(d=4, k=3, r=6), "r > d and r > k"),
    ("narrow-bottleneck", _DENSE, Sizes(d=6, k=1), "k = 1"),
    ("narrow-bottleneck", _LOW_RANK, Sizes(d=6, k=1, r=1), "k = r = 1"),
    ("one-channel", _DENSE, Sizes(d=1, k=1), "d = k = 1"),
)

_SHAPES: Final = (
    ("rank-1", (), "one token without leading axes"),
    ("rank-2", (5,), "one leading axis"),
    ("rank-3", (2, 3), "two leading axes"),
    ("rank-4", (2, 1, 3), "three leading axes, one of them of length 1"),
    ("square", (8,), "as many tokens as channels"),
)


def add_edge_cases(builder: Builder) -> None:
    """All of them."""
    for word, choice, sizes, comment in _SIZES:
        config = choice.config(sizes)
        case_id = f"forward/sizes/{word}/{choice.kind.value}"
        # With one channel, or blocks of one element, some mistakes make no difference.
        usual = sizes.d > sizes.n and sizes.d > 1
        more = (statements.FREE_SIZES,)
        add(builder, plan(case_id, config, more, flags=_EDGE, comment=comment, notices=usual), rounded(config))
    for word, leading, comment in _SHAPES:
        config = _COMPACTER.config()
        add(builder, plan(f"forward/shape/{word}", config, flags=_EDGE, comment=comment), rounded(config, leading))
    for word, leading in (("no-token", (0,)), ("no-token-in-a-batch", (2, 0))):
        config = _COMPACTER.config()
        case = plan(
            f"forward/shape/{word}",
            config,
            (statements.EMPTY_INPUT,),
            flags=_EDGE,
            comment="an axis of length 0",
            notices=False,
        )
        add(builder, case, rounded(config, leading))
    _add_sites(builder)
    _add_outputs(builder)
    _add_nans(builder)
    _add_zeros(builder)
    _add_magnitudes(builder)


def _add_sites(builder: Builder) -> None:
    """Sites of every stack and sublayer, and of different widths; the case asks for the last one."""
    ids = ("encoder.0.self_attn", "encoder.11.ffn", "decoder.0.self_attn", "decoder.0.cross_attn", "decoder.99999.ffn")
    for choice in (_COMPACTER, _PHM):
        config = choice.config(sites=ids)
        case = plan(f"forward/sites/five/{choice.kind.value}", config, ("PLC-1",), comment="five sites")
        add(builder, case, _at_last_site(rounded(config)))
    config = replace(
        _COMPACTER.config(),
        sites=(Site(id=FFN, bottleneck_size=6), Site(id=NEXT_FFN, bottleneck_size=2)),
    )
    case = plan(
        "forward/sites/widths", config, (statements.FREE_SIZES,), comment="sites with different k", notices=False
    )
    add(builder, case, _at_last_site(rounded(config)))


def _at_last_site(make: Callable[[Source], Forward]) -> Callable[[Source], Forward]:
    def last(source: Source) -> Forward:
        question = make(source)
        return replace(question, site=question.adapter.config.sites[-1].id)

    return last


def _add_outputs(builder: Builder) -> None:
    config = _COMPACTER.config()
    for output in ("delta", "y"):
        case = plan(
            f"forward/outputs/{output}", config, ("CNF-12",), comment=f"only {output} is asked for", notices=False
        )
        add(builder, case, rounded(config, outputs=(output,)))


def _add_nans(builder: Builder) -> None:
    for activation in Activation:
        config = replace(_COMPACTER, activation=activation).config()
        case = plan(
            f"forward/nan/{activation.value}",
            config,
            (statements.NAN_ROWS,),
            flags=_EDGE,
            comment="one token has a NaN, and only this token's outputs are NaN",
            notices=False,
        )
        add(builder, case, _with_nan(rounded(config)))


def _with_nan(make: Callable[[Source], Forward]) -> Callable[[Source], Forward]:
    """With a NaN in the last channel of the second token."""

    def spoilt(source: Source) -> Forward:
        question = make(source)
        x = question.x.copy()
        x[1, -1] = np.nan
        return replace(question, x=x)

    return spoilt


def _add_zeros(builder: Builder) -> None:
    for word, choice, suffixes in (
        ("rule", _COMPACTER, ("phm_rule",)),
        ("rule", _PHM, ("phm_rule",)),
        ("weights", _DENSE, ("W",)),
        ("weights", _COMPACTER, ("W_left",)),
        ("scaling", replace(_COMPACTER, scale=Scale.LEARNED), ("scaling",)),
    ):
        config = choice.config()
        case = plan(
            f"forward/zero/{word}/{choice.kind.value}",
            config,
            flags=_EDGE,
            comment=f"{', '.join(suffixes)} is 0",
            notices=False,
        )
        add(builder, case, _with_zeros(rounded(config), suffixes))


def _with_zeros(make: Callable[[Source], Forward], suffixes: tuple[str, ...]) -> Callable[[Source], Forward]:
    def empty(source: Source) -> Forward:
        question = make(source)
        zeros = {
            name: np.zeros_like(array)
            for name, array in question.adapter.tensors.items()
            if name.rsplit(".", 1)[1] in suffixes
        }
        return replace(question, adapter=with_tensors(question.adapter, zeros))

    return empty


def _add_magnitudes(builder: Builder) -> None:
    """Inputs of 2^e; without biases, so that nothing hides small outputs."""
    for exponent, dtypes in ((-6, EVERY_DTYPE), (6, EVERY_DTYPE), (-60, _WIDE), (60, _WIDE)):
        for activation in (Activation.IDENTITY, Activation.GELU_NEW):
            config = replace(_COMPACTER, activation=activation, biases=Biases.NONE).config()
            sign = "minus-" if exponent < 0 else ""
            case = plan(
                f"forward/magnitude/2-to-{sign}{abs(exponent)}/{activation.value}",
                config,
                flags=_EDGE,
                dtypes=dtypes,
                comment=f"inputs of about 2^{exponent}",
                notices=False,
            )
            add(builder, case, rounded(config, exponent=exponent))
    config = replace(_DENSE, activation=Activation.IDENTITY, biases=Biases.NONE).config()
    case = plan(
        "forward/magnitude/underflow/dense",
        config,
        flags=_EDGE,
        dtypes=_WIDE,
        comment="products of weights and inputs lie below the normal numbers of F32 and BF16",
        notices=False,
    )
    add(builder, case, _with_tiny_weights(rounded(config, exponent=-100, outputs=("delta",))))


def _with_tiny_weights(make: Callable[[Source], Forward]) -> Callable[[Source], Forward]:
    def tiny(source: Source) -> Forward:
        question = make(source)
        scaled = {name: array * 2.0**-30 for name, array in question.adapter.tensors.items() if ".down." in name}
        return replace(question, adapter=with_tensors(question.adapter, scaled))

    return tiny
