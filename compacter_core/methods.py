"""Published adapter methods as configurations of one family: a table, and the function that reads it.

A method is a kind of projection, a set of sublayers and a placement; nothing else sets one apart (paper, section 4).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from compacter_core.config import ATTACH_PRESETS, AdapterConfig, Attach, Backbone, Projection, Site
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.vocabulary import Activation, ProjectionKind, ScalingKind, Sublayer


class Method(StrEnum):
    """A published adapter method; the value is the label stored in the file."""

    COMPACTER = "compacter"
    COMPACTER_PLUS_PLUS = "compacter++"
    ADAPTER = "adapter"
    PFEIFFER = "pfeiffer"
    LOW_RANK = "low_rank"
    PHM_ADAPTER = "phm_adapter"
    PARALLEL = "parallel"
    ADAPTER_DROP = "adapter_drop"


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodSpec:
    """What makes a method.

    Args:
        kind: of the projections.
        sublayers: which sublayers of every layer get a site, in execution order.
        attach: a key of `ATTACH_PRESETS`.
        shared_phm_rule: whether one rule serves the whole adapter.
        first_layer: the first layer of each stack that gets sites.
    """

    kind: ProjectionKind
    sublayers: tuple[Sublayer, ...]
    attach: str = "houlsby"
    shared_phm_rule: bool = False
    first_layer: int = 0


_BOTH = (Sublayer.SELF_ATTN, Sublayer.FFN)
_FFN = (Sublayer.FFN,)

METHODS: Final[Mapping[Method, MethodSpec]] = MappingProxyType(
    {
        # Paper, section 3.2: low-rank factors, one rule for all layers, after both sublayers.
        Method.COMPACTER: MethodSpec(kind=ProjectionKind.LPHM, sublayers=_BOTH, shared_phm_rule=True),
        # Paper, section 4.2: the same without the adapter after the self-attention.
        Method.COMPACTER_PLUS_PLUS: MethodSpec(kind=ProjectionKind.LPHM, sublayers=_FFN, shared_phm_rule=True),
        # Houlsby et al. 2019.
        Method.ADAPTER: MethodSpec(kind=ProjectionKind.DENSE, sublayers=_BOTH),
        # Pfeiffer et al. 2021.
        Method.PFEIFFER: MethodSpec(kind=ProjectionKind.DENSE, sublayers=_FFN, attach="pfeiffer"),
        # Paper, section 4.1: Adapter-LowRank.
        Method.LOW_RANK: MethodSpec(kind=ProjectionKind.LOW_RANK, sublayers=_BOTH),
        # Paper, section 4.1: PHM-Adapter; every projection owns its rule (the paper's parameter counts say so).
        Method.PHM_ADAPTER: MethodSpec(kind=ProjectionKind.PHM, sublayers=_BOTH),
        # He et al. 2022.
        Method.PARALLEL: MethodSpec(kind=ProjectionKind.DENSE, sublayers=_FFN, attach="parallel"),
        # Rücklé et al. 2021, as the paper trains it: no adapters in the first five layers of each stack.
        Method.ADAPTER_DROP: MethodSpec(kind=ProjectionKind.DENSE, sublayers=_BOTH, first_layer=5),
    }
)


def create_config(
    backbone: Backbone,
    *,
    method: Method | str = Method.COMPACTER,
    name: str = "default",
    reduction_factor: int = 32,
    bottleneck_size: int | None = None,
    phm_dim: int = 4,
    phm_rank: int = 1,
    non_linearity: Activation = Activation.GELU_NEW,
    scaling: float | ScalingKind = 1.0,
    attach: Attach | None = None,
    layers: Sequence[int] | None = None,
    sites: Sequence[str] | None = None,
) -> AdapterConfig:
    """The configuration of a published method on a backbone.

    Args:
        backbone: from `compacter_core.pytorch.describe_backbone`, or made by hand.
        method: which method, as the enum or its label.
        name: the adapter's name.
        reduction_factor: k is d // reduction_factor, rounded down to a multiple of phm_dim where the projection has
            one, and never below that multiple. So every hidden size that phm_dim divides works.
        bottleneck_size: k itself; then reduction_factor is not used.
        phm_dim: n; used by the kinds with a rule.
        phm_rank: r; used by the kinds with factors.
        non_linearity: the activation.
        scaling: a fixed number or the kind of a trained one.
        attach: placement, instead of the method's.
        layers: indices of the layers that get sites; the method's by default.
        sites: the exact site ids, instead of those that the method and `layers` give.

    Raises:
        CompacterError: E001 for an unknown method or a reduction factor below 1, and every code of `AdapterConfig`.
    """
    spec = METHODS[_method(method)]
    kind = spec.kind
    n = phm_dim if kind.has_rule else None
    projection = Projection(
        kind=kind,
        phm_dim=n,
        phm_rank=phm_rank if kind.has_rank else None,
        shared_phm_rule=spec.shared_phm_rule,
    )
    k = _bottleneck(backbone.hidden_size, reduction_factor, n or 1) if bottleneck_size is None else bottleneck_size
    site_ids = sites if sites is not None else _site_ids(backbone, spec, layers)
    return AdapterConfig(
        method=_method(method).value,
        name=name,
        hidden_size=backbone.hidden_size,
        projection=projection,
        sites=tuple(Site(id=site_id, bottleneck_size=k) for site_id in site_ids),
        non_linearity=non_linearity,
        scaling=scaling,
        attach=attach or ATTACH_PRESETS[spec.attach],
        backbone=backbone,
    )


def _method(method: Method | str) -> Method:
    try:
        return Method(method)
    except ValueError:
        known = ", ".join(Method)
        raise CompacterError(ErrorCode.E001, "unknown method", value=method, expected=known) from None


def _bottleneck(hidden_size: int, reduction_factor: int, multiple: int) -> int:
    if reduction_factor < 1:
        raise CompacterError(ErrorCode.E001, "reduction_factor", value=reduction_factor, expected="at least 1")
    return max(1, hidden_size // reduction_factor // multiple) * multiple


def _site_ids(backbone: Backbone, spec: MethodSpec, layers: Sequence[int] | None) -> list[str]:
    return [
        f"{stack.value}.{layer}.{sublayer.value}"
        for stack, count in backbone.num_layers.items()
        for layer in (range(spec.first_layer, count) if layers is None else layers)
        for sublayer in spec.sublayers
    ]
