"""The four projections x -> x W + b, and their gradients.

A weight W [in, out] of the family is (paper, equations 4 to 7; FWD-3 to FWD-8)

    dense       W
    low_rank    s t                          s = W_left [in, r],        t = W_right [r, out]
    phm         sum_i A_i (x) W_i            A = phm_rule [n, n, n],    W_i [in/n, out/n]
    lphm        sum_i A_i (x) (s_i t_i)      s_i [in/n, r],             t_i [r, out/n]

where (x) is the Kronecker product: with the input index split as (a, p) and the output index as (b, j), a and b
counting the n blocks, its element is A_i[a, b] W_i[p, j]. A factored rule is A_i = phm_rule_left_i phm_rule_right_i.

Index letters, used in every einsum below: i summand, a/b input/output block, p/j place within the block, r rank.
"""

import numpy as np

from compacter_core.adapter import Array, ProjectionParameters
from compacter_core.errors import CompacterError, ErrorCode


def rule(p: ProjectionParameters) -> Array:
    """The rule A [n, n, n] of a phm or lphm projection, multiplied out if it is stored in factors.

    Raises:
        CompacterError: E302 if the projection has none.
    """
    if p.phm_rule is not None:
        return p.phm_rule
    if p.phm_rule_left is None or p.phm_rule_right is None:
        raise CompacterError(ErrorCode.E302, f"a {p.kind.value} projection has no phm_rule")
    A: Array = np.matmul(p.phm_rule_left, p.phm_rule_right)
    return A


def fast_weight(p: ProjectionParameters) -> Array:
    """What stands at the place of W: W itself, or the product W_left W_right; [in, out] or [n, in/n, out/n].

    Raises:
        CompacterError: E301 if a tensor is missing.
    """
    if p.kind.has_rank:
        product: Array = np.matmul(_present(p.W_left, "W_left", p), _present(p.W_right, "W_right", p))
        return product
    return _present(p.W, "W", p)


def weight(p: ProjectionParameters) -> Array:
    """The weight W [in, out], multiplied out (paper, equation 5).

    Raises:
        CompacterError: E301 or E302 if a tensor is missing.
    """
    fast = fast_weight(p)
    if not p.kind.has_rule:
        return fast
    n, rows, columns = fast.shape
    blocks: Array = np.einsum("iab,ipj->apbj", rule(p), fast)
    return blocks.reshape(n * rows, n * columns)


def project(p: ProjectionParameters, x: Array) -> Array:
    """The projection x W + b of x [..., in]: [..., out].

    Raises:
        CompacterError: E002 if the last axis of x is not of the projection's size; E301, E302 if a tensor is missing.
    """
    W = weight(p)
    if x.ndim == 0 or x.shape[-1] != W.shape[0]:
        raise CompacterError(
            ErrorCode.E002, "the input does not fit the projection", value=x.shape, expected=f"[..., {W.shape[0]}]"
        )
    y = x @ W
    return y if p.b is None else y + p.b


def project_vjp(p: ProjectionParameters, x: Array, g: Array) -> tuple[Array, dict[str, Array]]:
    """Gradients of sum(g * project(p, x)) (GRD-2 to GRD-8): of x, and of each tensor of `p` by its short name.

    With T tokens stacked as rows, dx = g W^T, db = sum_T g, and M = x^T g is the gradient of the multiplied-out W. Then
    dense: dW = M; low_rank: ds = M t^T, dt = s^T M; with a rule and M as [a, p, b, j]:

        dA_i[a, b] = sum_pj M[a, p, b, j] W_i[p, j],      dW_i[p, j] = sum_ab M[a, p, b, j] A_i[a, b],

    from where s_i t_i = W_i and left_i right_i = A_i are treated as in the low_rank case.

    Args:
        p: the projection.
        x: [..., in].
        g: [..., out], the cotangent.

    Returns:
        dx of the shape of x, and the gradients by name, each of the shape of its tensor.
    """
    W = weight(p)
    rows, cotangents = x.reshape(-1, W.shape[0]), g.reshape(-1, W.shape[1])
    gradients = _weight_vjp(p, rows.T @ cotangents)
    if p.b is not None:
        gradients["b"] = cotangents.sum(axis=0)
    return g @ W.T, gradients


def _weight_vjp(p: ProjectionParameters, M: Array) -> dict[str, Array]:
    """Gradients of sum(M * weight(p)) by the tensors' names."""
    if not p.kind.has_rule:
        return _fast_vjp(p, M)
    fast, A = fast_weight(p), rule(p)
    n, rows, columns = fast.shape
    blocks = M.reshape(n, rows, n, columns)
    d_rule = np.einsum("apbj,ipj->iab", blocks, fast)
    d_fast = np.einsum("apbj,iab->ipj", blocks, A)
    return _rule_vjp(p, d_rule) | _fast_vjp(p, d_fast)


def _rule_vjp(p: ProjectionParameters, d_rule: Array) -> dict[str, Array]:
    if p.phm_rule_left is None or p.phm_rule_right is None:
        return {"phm_rule": d_rule}
    return {
        "phm_rule_left": np.matmul(d_rule, np.swapaxes(p.phm_rule_right, 1, 2)),
        "phm_rule_right": np.matmul(np.swapaxes(p.phm_rule_left, 1, 2), d_rule),
    }


def _fast_vjp(p: ProjectionParameters, d_fast: Array) -> dict[str, Array]:
    if not p.kind.has_rank:
        return {"W": d_fast}
    s, t = _present(p.W_left, "W_left", p), _present(p.W_right, "W_right", p)
    return {
        "W_left": np.matmul(d_fast, np.swapaxes(t, -1, -2)),
        "W_right": np.matmul(np.swapaxes(s, -1, -2), d_fast),
    }


def _present(tensor: Array | None, name: str, p: ProjectionParameters) -> Array:
    if tensor is None:
        raise CompacterError(ErrorCode.E301, f"a {p.kind.value} projection needs {name}")
    return tensor
