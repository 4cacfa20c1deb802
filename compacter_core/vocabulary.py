"""The finite choices of the specification, as enums whose values are the words of the file format."""

from enum import StrEnum


class ProjectionKind(StrEnum):
    """How a projection's weight (in x out) is made of its tensors."""

    DENSE = "dense"
    """W"""
    LOW_RANK = "low_rank"
    """W_left W_right"""
    PHM = "phm"
    """sum_i kron(A_i, W_i)"""
    LPHM = "lphm"
    """sum_i kron(A_i, W_left_i W_right_i), Compacter's"""

    @property
    def has_rule(self) -> bool:
        """Whether the weight is a sum of Kronecker products, with a rule A."""
        return self in (ProjectionKind.PHM, ProjectionKind.LPHM)

    @property
    def has_rank(self) -> bool:
        """Whether the weight is a product of two factors of rank r."""
        return self in (ProjectionKind.LOW_RANK, ProjectionKind.LPHM)


class Activation(StrEnum):
    """The adapter's non-linearity; the file's key is `non_linearity`."""

    GELU_NEW = "gelu_new"
    GELU = "gelu"
    RELU = "relu"
    SILU = "silu"
    TANH = "tanh"
    IDENTITY = "identity"


class ScalingKind(StrEnum):
    """A trained scaling: one number per site, or one per channel. A fixed scaling is a plain float instead."""

    LEARNED = "learned"
    CHANNEL = "channel"


class Input(StrEnum):
    """What the adapter reads: h, N(r + h) or r."""

    SUBLAYER_OUTPUT = "sublayer_output"
    NORMED_SUM = "normed_sum"
    RESIDUAL = "residual"


class Skip(StrEnum):
    """What the adapter's output is added to: h, r + h or N(r + h)."""

    SUBLAYER_OUTPUT = "sublayer_output"
    RESIDUAL_SUM = "residual_sum"
    NORMED_SUM = "normed_sum"


class Stack(StrEnum):
    """The half of a transformer a site is in. Decoder-only models use `decoder`."""

    ENCODER = "encoder"
    DECODER = "decoder"


class Sublayer(StrEnum):
    """The sublayer whose output a site adapts."""

    SELF_ATTN = "self_attn"
    CROSS_ATTN = "cross_attn"
    FFN = "ffn"


class NormStyle(StrEnum):
    """Whether the norm N stands after the residual sum (post) or before the sublayer (pre, N is then the identity)."""

    PRE = "pre"
    POST = "post"


class Pooling(StrEnum):
    """What a head reads where it does not read what the backbone's own module makes of the last hidden states."""

    MEAN = "mean"
    """their mean over the tokens that the attention mask admits"""


class OverrideKind(StrEnum):
    """What a replaced backbone tensor is. Embeddings and projections are never replaced."""

    NORM = "norm"
    BIAS = "bias"
    HEAD = "head"
