"""The projections x W + b of all four kinds, and their gradients, element by element.

Every kind is a Kronecker sum: dense and low_rank weights have the one summand kron([1], W). With m = in/n, q = out/n,

    W[a m + p, b q + j] = sum_i A_i[a, b] F_i[p, j],       F_i = W_i or s_i t_i,     A_i whole or left_i right_i.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from compacter_core.adapter import ProjectionParameters
from compacter_core.conformance.exact.numbers import Matrix, Vector, added, dot, exact, product, transposed


@dataclass(frozen=True, slots=True)
class Projection:
    """A projection's tensors as fractions: for each summand i the rule A_i and the fast matrix F_i, and the factors.

    Args:
        tensors: nested lists by short name, as in the file.
        A: n matrices [n, n]; [[1]] without a rule.
        F: n matrices [in/n, out/n].
    """

    tensors: dict[str, Any]
    A: list[Matrix]
    F: list[Matrix]

    @property
    def has_rule(self) -> bool:
        """Whether there are tensors for A."""
        return any(name.startswith("phm_rule") for name in self.tensors)

    def summands(self, name: str) -> list[Matrix]:
        """A weight's tensor with an axis of summands, which dense and low_rank tensors lack in the file."""
        tensor = self.tensors[name]
        return tensor if self.has_rule else [tensor]


def read(p: ProjectionParameters) -> Projection:
    """The projection in fractions."""
    names = ("W", "W_left", "W_right", "phm_rule", "phm_rule_left", "phm_rule_right", "b")
    tensors = {name: exact(getattr(p, name)) for name in names if getattr(p, name) is not None}
    if "phm_rule_left" in tensors:
        A = _products(tensors["phm_rule_left"], tensors["phm_rule_right"])
    else:
        A = tensors.get("phm_rule", [[[Fraction(1)]]])
    bare = Projection(tensors, A, [])
    fast = bare.summands("W") if "W" in tensors else _products(bare.summands("W_left"), bare.summands("W_right"))
    return Projection(tensors, A, fast)


def weight(p: Projection) -> Matrix:
    """The multiplied-out weight [in, out]."""
    n, m, q = len(p.F), len(p.F[0]), len(p.F[0][0])
    matrix = [[Fraction(0)] * (n * q) for _ in range(n * m)]
    for A, fast in zip(p.A, p.F, strict=True):
        for u, row in enumerate(matrix):
            for v in range(n * q):
                row[v] += A[u // m][v // q] * fast[u % m][v % q]
    return matrix


def project(p: Projection, x: Matrix) -> Matrix:
    """The rows x W + b."""
    y = product(x, weight(p))
    if "b" not in p.tensors:
        return y
    b: Vector = p.tensors["b"]
    return [added(row, b) for row in y]


def gradients(p: Projection, x: Matrix, g: Matrix) -> tuple[Matrix, dict[str, Any]]:
    """Gradients of sum(g * (x W + b)): for x, and for each tensor by short name, in the shape of the tensor."""
    W = weight(p)
    # Not `transposed`: without rows there are columns still, empty ones.
    x_columns = [[row[u] for row in x] for u in range(len(W))]
    g_columns = [[row[v] for row in g] for v in range(len(W[0]))]
    M = [[dot(column, other) for other in g_columns] for column in x_columns]
    found = _weight_gradients(p, M)
    if "b" in p.tensors:
        found["b"] = [sum(column, Fraction(0)) for column in g_columns]
    return product(g, transposed(W)), found


def _weight_gradients(p: Projection, M: Matrix) -> dict[str, Any]:
    """From the gradient M of the multiplied-out weight to those of its tensors."""
    n, m, q = len(p.F), len(p.F[0]), len(p.F[0][0])
    d_rule = [[[Fraction(0)] * n for _ in range(n)] for _ in range(n)]
    d_fast = [[[Fraction(0)] * q for _ in range(m)] for _ in range(n)]
    for i in range(n):
        for u, row in enumerate(M):
            for v, element in enumerate(row):
                d_rule[i][u // m][v // q] += element * p.F[i][u % m][v % q]
                d_fast[i][u % m][v % q] += element * p.A[i][u // m][v // q]
    found: dict[str, Any] = {}
    if "phm_rule" in p.tensors:
        found["phm_rule"] = d_rule
    if "phm_rule_left" in p.tensors:
        left, right = p.tensors["phm_rule_left"], p.tensors["phm_rule_right"]
        found["phm_rule_left"], found["phm_rule_right"] = _factor_gradients(left, right, d_rule)
    if "W" in p.tensors:
        found["W"] = d_fast if p.has_rule else d_fast[0]
    if "W_left" in p.tensors:
        ds, dt = _factor_gradients(p.summands("W_left"), p.summands("W_right"), d_fast)
        found["W_left"], found["W_right"] = (ds, dt) if p.has_rule else (ds[0], dt[0])
    return found


def _products(left: list[Matrix], right: list[Matrix]) -> list[Matrix]:
    return [product(a, b) for a, b in zip(left, right, strict=True)]


def _factor_gradients(
    left: list[Matrix], right: list[Matrix], of_product: list[Matrix]
) -> tuple[list[Matrix], list[Matrix]]:
    """Gradients of the factors of left_i right_i, given those of the products."""
    return (
        [product(d, transposed(b)) for d, b in zip(of_product, right, strict=True)],
        [product(transposed(a), d) for a, d in zip(left, of_product, strict=True)],
    )
