"""Where an adapter sits in a sublayer (specs/placement.md).

With r the residual stream, h the output of the sublayer and N the norm that follows (the identity on pre-norm models),

    o = skip + delta(input),     the sublayer's result is N(r + o) if post, else o,

where input is h, N(r + h) or r, and skip is h, r + h or N(r + h). The paper's placement (Figure 1, after Houlsby et
al.) is input = skip = h, post.
"""

from collections.abc import Callable

import numpy as np

from compacter_core.adapter import Array, SiteParameters
from compacter_core.config import Attach
from compacter_core.reference.adapter import forward
from compacter_core.vocabulary import Input, Skip

Norm = Callable[[Array], Array]


def sublayer(attach: Attach, site: SiteParameters, r: Array, h: Array, norm: Norm) -> Array:
    """The sublayer's result with its adapter in place (PLC-2 to PLC-5).

    Args:
        attach: the placement.
        site: the adapter.
        r: residual stream, [..., d].
        h: output of the sublayer's last linear, [..., d].
        norm: N, a map of [..., d] to itself.
    """
    match attach.input:
        case Input.SUBLAYER_OUTPUT:
            x = h
        case Input.NORMED_SUM:
            x = norm(r + h)
        case Input.RESIDUAL:
            x = r
    match attach.skip:
        case Skip.SUBLAYER_OUTPUT:
            skip = h
        case Skip.RESIDUAL_SUM:
            skip = r + h
        case Skip.NORMED_SUM:
            skip = norm(r + h)
    o = forward(site, x, skip)
    return norm(r + o) if attach.post else o


def layer_norm(x: Array, gain: Array, bias: Array | None, eps: float) -> Array:
    """(x - mean) / sqrt(variance + eps) * gain + bias over the last axis; variance with divisor d (Ba et al., 2016).

    Args:
        x: [..., d].
        gain: [d].
        bias: [d] or None.
        eps: added to the variance.
    """
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    y: Array = centred / np.sqrt(variance + eps) * gain
    return y if bias is None else y + bias
