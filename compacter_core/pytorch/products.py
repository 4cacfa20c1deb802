"""Products of hidden states with what is narrow, in the forms that BLAS libraries compute fastest, rounded once."""

from typing import Final

import torch
from torch import Tensor

_ONE_PANEL: Final = 128
"""With wide laid out by column, BLAS libraries sum up so many products in registers before they add the sum to what it
goes onto, so that y is rounded once (NUM-8). Laid out by row, or for a longer sum, pieces may go onto skip one after
the other, each rounded at the size of skip: seen with oneMKL, also for large matrices."""

_FEW: Final = 16
"""Up to so many columns, BLAS libraries let one thread sum up all rows."""

_SINGLE: Final = 4
"""Bytes of the shortest type that sums are kept in."""


def cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor as that type; a call into PyTorch only where it has another, for these calls add up."""
    return tensor if tensor.dtype is dtype else tensor.to(dtype)


def product(narrow: Tensor, wide: Tensor) -> Tensor:
    """Narrow times wide; with wide laid out by column, BLAS libraries on CPUs are several times faster here."""
    return narrow @ _by_column(wide)


def product_onto(skip: Tensor | None, narrow: Tensor, wide: Tensor, like: Tensor) -> Tensor:
    """Skip + narrow wide, in the shape of `like`; the product is rounded to the type of `like`, the sum to skip's."""
    # Of a single number the two layouts are one.
    in_one_go = narrow.shape[1] <= _ONE_PANEL and like.numel() > 1
    if skip is not None and skip.dtype is like.dtype is wide.dtype and in_one_go:
        return torch.addmm(skip.reshape(-1, wide.shape[1]), narrow, _by_column(wide)).view(like.shape)
    return onto(skip, cast(product(narrow, wide).view(like.shape), like.dtype))


def _by_column(wide: Tensor) -> Tensor:
    return wide.t().contiguous().t()


def onto(skip: Tensor | None, y: Tensor) -> Tensor:
    """Y + skip in the type of skip; nobody else holds y."""
    if skip is None:
        return y
    return y.add_(skip) if y.dtype is skip.dtype else y.to(skip.dtype) + skip


def sum_over_rows(narrow: Tensor, wide: Tensor, blocks: int) -> Tensor:
    """Narrow^T wide, [w, m], with narrow [N c, w], wide [N c, m] and c blocks in a row.

    Where narrow has few columns there is one product for each block, and threads share them out. In half precision,
    where a product is rounded to less than sums are kept in, there is only one.
    """
    if blocks == 1 or narrow.shape[1] > _FEW or wide.dtype.itemsize < _SINGLE:
        return narrow.t() @ wide
    by_block = narrow.view(-1, blocks, narrow.shape[1]).permute(1, 2, 0)
    return torch.bmm(by_block, wide.view(-1, blocks, wide.shape[1]).transpose(0, 1)).sum(0)
