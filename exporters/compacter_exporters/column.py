"""The number at which the activation's column in the form column stands, and what it becomes there.

Of the k + 1 columns of the down-projection's result the last is a constant, whatever x is; the up-projection multiplies
it with the row c_u / act(z) of its matrix, so that c_u is added within the product.
"""

from typing import Final

import numpy as np

from compacter_core.reference.activations import activate
from compacter_core.vocabulary import Activation

AT: Final = 8.0
"""z: where all activations are within rounding of their limits, and exact in every type (ONX-53)."""


def activated(kind: Activation) -> float:
    """act(z), in float64."""
    return float(activate(kind, np.array([AT]))[0])
