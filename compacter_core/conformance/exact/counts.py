"""How many parameters a published method has, from formulas written down by hand (paper, sections 3.4 and 4.1).

With d the hidden size, k the bottleneck, n the dimension and r the rank of the Kronecker sums, S sites and both biases:

    dense       S (2 d k + k + d)
    low_rank    S (2 r (d + k) + k + d)
    phm         S (2 n^3 + 2 d k / n + k + d)           each projection owns its rule
    lphm        n^3 + S (2 r (d + k) + k + d)           one rule for all
"""

from compacter_core.vocabulary import ProjectionKind


def parameters(kind: ProjectionKind, *, d: int, k: int, sites: int, n: int = 1, r: int = 1) -> int:
    """The number of scalars of a method's adapter, each shared one once."""
    biases = k + d
    match kind:
        case ProjectionKind.DENSE:
            count = sites * (2 * d * k + biases)
        case ProjectionKind.LOW_RANK:
            count = sites * (2 * r * (d + k) + biases)
        case ProjectionKind.PHM:
            count = sites * (2 * n**3 + 2 * d * k // n + biases)
        case ProjectionKind.LPHM:
            count = n**3 + sites * (2 * r * (d + k) + biases)
    return count
