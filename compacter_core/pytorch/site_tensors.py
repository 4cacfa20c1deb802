"""What the computation at one site takes: its tensors, and what is not a tensor."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from compacter_core.pytorch.factors import Factors
from compacter_core.vocabulary import Activation


class SiteTensors(NamedTuple):
    """The tensors of one site, or their gradients.

    Args:
        down: of the down-projection.
        down_bias: bd [k].
        up: of the up-projection.
        up_bias: bu [d].
        scaling: a trained scaling, [1] or [d].
    """

    down: Factors
    down_bias: Tensor | None
    up: Factors
    up_bias: Tensor | None
    scaling: Tensor | None

    @property
    def shares_rule(self) -> bool:
        """Whether both projections have the same rule."""
        return self.up.rule is self.down.rule

    def flat(self) -> tuple[Tensor | None, ...]:
        """As arguments of a function of PyTorch's; None in place of a rule that is there already."""
        rule, left, right = self.up
        rule = None if self.shares_rule else rule
        return (*self.down, self.down_bias, rule, left, right, self.up_bias, self.scaling)

    @classmethod
    def of(cls, flat: tuple[Any, ...]) -> "SiteTensors":
        """The inverse of `flat`."""
        rule, left, right, bias, up_rule, *up, up_bias, scaling = flat
        up_factors = Factors(rule if up_rule is None else up_rule, *up)
        return cls(Factors(rule, left, right), bias, up_factors, up_bias, scaling)

    def with_rules_summed(self) -> "SiteTensors":
        """Of gradients: that of a rule which both projections share."""
        if self.down.rule is None or self.up.rule is None:
            return self
        rule = self.down.rule + self.up.rule
        return self._replace(down=self.down._replace(rule=rule), up=self.up._replace(rule=rule))


class Options(NamedTuple):
    """What is not a tensor.

    Args:
        activation: the non-linearity.
        scale: a fixed scaling; 1 beside a trained one.
        product_type: data type of the products with x and into y. What is narrow has the type of the tensors.
    """

    activation: Activation
    scale: float
    product_type: torch.dtype
