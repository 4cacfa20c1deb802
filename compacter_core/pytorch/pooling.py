"""What a head reads in place of its backbone's pooler: the mean of the last hidden states (ONX-50).

    p = sum_t m_t h_t / sum_t m_t

with h_t [d] the hidden state of token t, m_t its number in the attention mask. Two hooks do it: one sees the mask that
the base model gets, the other puts p in the place of what the pooler makes of the hidden states. So the model has the
same modules and parameters as before.
"""

from typing import Any, Final

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.pytorch.bindings import BoundBackbone, bind
from compacter_core.pytorch.switching import Switch
from compacter_core.vocabulary import Pooling

_MASK: Final = "attention_mask"
_MASK_RANK: Final = 2


class MeanPooling:
    """The hooks of one head, which act while its switch is on."""

    def __init__(self, switch: Switch) -> None:
        self._switch = switch
        self._mask: Tensor | None = None

    def register(self, bound: BoundBackbone) -> list[RemovableHandle]:
        """Puts the hooks into the base model and its pooler.

        Raises:
            CompacterError: E803, as `TaskHead.pooler_module`.
        """
        pooler = bound.task_head.pooler_module()
        return [
            bound.base.register_forward_pre_hook(self._switch.gate(self.keep_mask), with_kwargs=True),
            pooler.register_forward_hook(self._switch.gate(self.pool)),
        ]

    def keep_mask(self, base: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Sees the attention mask, [N, T]; all tokens count where there is none.

        Raises:
            CompacterError: E001 for a mask of another rank.
        """
        mask = kwargs.get(_MASK, args[1] if len(args) > 1 else None)
        if mask is not None and mask.dim() != _MASK_RANK:
            raise CompacterError(
                ErrorCode.E001,
                f"{_MASK} of a head that reads the mean",
                value=tuple(mask.shape),
                expected="[rows, tokens]",
            )
        self._mask = mask

    def pool(self, pooler: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        """P [N, d], in place of the pooler's output; args[0] are the hidden states [N, T, d]."""
        mask, self._mask = self._mask, None
        return mean_of_tokens(args[0], mask)


def mean_of_tokens(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """P [N, d] of hidden states [N, T, d] and a mask [N, T] or None, in the type of the hidden states."""
    if mask is None:
        return hidden.mean(1)
    weights = mask.to(hidden.dtype).unsqueeze(-1)
    return (hidden * weights).sum(1) / weights.sum(1)


def pool_before_head(model: nn.Module, pooling: Pooling | None) -> None:
    """Makes the head of a model without an adapter read what `pooling` says, from now on; None changes nothing.

    It is no part of the checkpoint: a model that is loaded again needs it again.

    Raises:
        CompacterError: E803 for a model whose binding knows no such head.
    """
    if pooling is Pooling.MEAN:
        MeanPooling(Switch(on=True)).register(bind(model))
