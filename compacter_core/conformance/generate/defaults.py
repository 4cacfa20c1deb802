"""Cases with numbers whose adapter file leaves out every key that has a default (CFG-5)."""

from typing import Final

from compacter_core.config import Attach
from compacter_core.conformance.generate import gradient, statements, sublayer
from compacter_core.conformance.generate.builder import Builder
from compacter_core.conformance.generate.configurations import Choice, Rule, Sizes
from compacter_core.conformance.generate.forward import rounded
from compacter_core.conformance.generate.numeric import Plan, add
from compacter_core.vocabulary import Input, ProjectionKind, Skip

_COMMENT: Final = "the configuration has no key that may be left out"
_TINY: Final = Sizes(d=4, k=2, n=2, r=1)
_PLACEMENTS: Final = (
    ("attach", None, None, _COMMENT),
    ("attach-skip", Attach(input=Input.RESIDUAL), None, "attach has input alone"),
    ("attach-input", Attach(skip=Skip.RESIDUAL_SUM, post=False), None, "attach has skip and post alone"),
    (
        "own-attach",
        Attach(input=Input.RESIDUAL, skip=Skip.RESIDUAL_SUM, post=False),
        Attach(),
        "the site's attach is empty: all defaults, whatever the adapter's says",
    ),
)
"""Name, the adapter's placement, the site's own, and a comment."""


def add_default_cases(builder: Builder) -> None:
    """All of them; the other defaults are those of a `Choice`."""
    for kind in ProjectionKind:
        choice = Choice(kind=kind, rule=Rule.OWN if kind.has_rule else Rule.NONE)
        config = choice.config()
        cited = (statements.DEFAULTS, *statements.forward(config), *statements.FORWARD_BOUNDS)
        case = Plan(id=f"forward/defaults/{kind.value}", statements=cited, comment=_COMMENT, sparse=True)
        add(builder, case, rounded(config))
        cited = (statements.DEFAULTS, *statements.gradient(config), *statements.GRADIENT_BOUNDS)
        case = Plan(id=f"gradient/defaults/{kind.value}", statements=cited, comment=_COMMENT, sparse=True)
        add(builder, case, gradient.rounded(config))
    for name, attach, own, comment in _PLACEMENTS:
        config = Choice(kind=ProjectionKind.LPHM, rule=Rule.OWN).config(_TINY, attach=attach, site_attach=own)
        more = () if own is None else (statements.OWN_ATTACH,)
        cited = (
            statements.DEFAULTS,
            *statements.sublayer(config, config.attach_of(config.sites[0])),
            statements.SUBLAYER_BOUND,
            *more,
        )
        case = Plan(id=f"sublayer/defaults/{name}", statements=cited, comment=comment, sparse=True)
        add(builder, case, sublayer.rounded(config))
