"""The adapter's equations on PyTorch tensors, without ever building a Kronecker product.

Same symbols as the reference: y = x W + b with W [in, out], A the phm_rule [n, n, n], m = in / n, q = out / n. For a
weight that is a sum of Kronecker products, W[a m + p, b q + j] = sum_i A[i, a, b] V_i[p, j], the product with a row
vector x, read as a matrix X [n, m], is

    Y[b, j] = sum_i sum_a A[i, a, b] (X V_i)[a, j]        with Y [n, q]                                       (1)

so X is contracted with the small V_i (or, for lphm, with its factors s_i and t_i in turn) and mixed with A in between.
That costs n^2 r (m + n + q) multiplications per row instead of in * out, and keeps n^2 r numbers for the backward pass.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from compacter_core.layout import RULE, RULE_LEFT, RULE_RIGHT
from compacter_core.vocabulary import Activation, ProjectionKind


def activate(kind: Activation, z: Tensor) -> Tensor:
    """The non-linearity, elementwise; gelu_new is the tanh form, gelu the one with erf (FWD-14, FWD-15)."""
    match kind:
        case Activation.GELU_NEW:
            return functional.gelu(z, approximate="tanh")
        case Activation.GELU:
            return functional.gelu(z)
        case Activation.RELU:
            return functional.relu(z)
        case Activation.SILU:
            return functional.silu(z)
        case Activation.TANH:
            return torch.tanh(z)
        case Activation.IDENTITY:
            return z


def rule(tensors: Mapping[str, Tensor]) -> Tensor:
    """A [n, n, n]; when it is factored, A_i is the outer product of a column and a row."""
    if RULE in tensors:
        return tensors[RULE]
    return tensors[RULE_LEFT] * tensors[RULE_RIGHT]


def weight(kind: ProjectionKind, tensors: Mapping[str, Tensor]) -> Tensor:
    """W [in, out] with its Kronecker products carried out: for export and for tests, never for training."""
    match kind:
        case ProjectionKind.DENSE:
            return tensors["W"]
        case ProjectionKind.LOW_RANK:
            return tensors["W_left"] @ tensors["W_right"]
        case ProjectionKind.PHM:
            small = tensors["W"]
        case ProjectionKind.LPHM:
            small = tensors["W_left"] @ tensors["W_right"]
    blocks = torch.einsum("iab,ipj->apbj", rule(tensors), small)
    n, m, _, q = blocks.shape
    return blocks.reshape(n * m, n * q)


def project(kind: ProjectionKind, tensors: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Y = x W, without the bias.

    Args:
        kind: how W is made.
        tensors: by short name, as in `compacter_core.layout`.
        x: [..., in], of the tensors' data type.

    Returns:
        [..., out].
    """
    match kind:
        case ProjectionKind.DENSE:
            return x @ tensors["W"]
        case ProjectionKind.LOW_RANK:
            return x @ tensors["W_left"] @ tensors["W_right"]
        case ProjectionKind.PHM:
            return _project_phm(rule(tensors), tensors["W"], x)
        case ProjectionKind.LPHM:
            return _project_lphm(rule(tensors), tensors["W_left"], tensors["W_right"], x)


def _project_lphm(A: Tensor, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
    n, m, r = s.shape
    X = x.reshape(*x.shape[:-1], n, m)
    narrow = X @ s.transpose(0, 1).reshape(m, n * r)
    mixed = torch.einsum("...air,iab->...bir", narrow.reshape(*narrow.shape[:-1], n, r), A)
    return (mixed.flatten(-2) @ t.flatten(0, 1)).flatten(-2)


def _project_phm(A: Tensor, W: Tensor, x: Tensor) -> Tensor:
    n, m, q = W.shape
    X = x.reshape(*x.shape[:-1], n, m)
    if q <= m:
        # Down: after W the rows are short, so A mixes n * out numbers.
        narrow = X @ W.transpose(0, 1).reshape(m, n * q)
        return torch.einsum("...aij,iab->...bj", narrow.reshape(*narrow.shape[:-1], n, q), A).flatten(-2)
    # Up: before W the rows are short, so A mixes n * in numbers.
    mixed = torch.einsum("...ap,iab->...bip", X, A)
    return (mixed.flatten(-2) @ W.flatten(0, 1)).flatten(-2)
