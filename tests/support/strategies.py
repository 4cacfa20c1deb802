"""Hypothesis strategies: what the tests draw, so that no test is tied to chosen shapes or values.

Finite choices (kinds, activations, types) can be fixed by arguments, to be parametrised by the test.
"""

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from compacter_core.adapter import Adapter, Array, DType, SiteParameters
from compacter_core.config import (
    ATTACH_PRESETS,
    AdapterConfig,
    Backbone,
    Head,
    Override,
    Projection,
    Site,
    SiteModules,
)
from compacter_core.layout import adapter_layout, head_layout, override_names
from compacter_core.vocabulary import (
    Activation,
    NormStyle,
    OverrideKind,
    Pooling,
    ProjectionKind,
    ScalingKind,
    Stack,
    Sublayer,
)
from tests.support.arrays import round_to

SITE_NAMES = [f"{stack}.{layer}.{sublayer}" for stack in Stack for layer in range(3) for sublayer in Sublayer]

_names = st.text(alphabet="abcXYZ019_-", min_size=1, max_size=12)


@st.composite
def arrays(
    draw: st.DrawFn, shape: Sequence[int], *, dtype: DType = DType.F64, max_exponent: int = 2, integers: bool = False
) -> Array:
    """Finite values that are exact in `dtype`, of its memory type.

    Normal variates times a power of two, 2^-max_exponent to 2^max_exponent; or integers of -2 to 2, zeros included.
    """
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if integers or draw(st.integers(0, 4)) == 0:
        return generator.integers(-2, 3, size=shape).astype(dtype.memory)
    scale = 2.0 ** draw(st.integers(-max_exponent, max_exponent))
    return round_to(scale * generator.standard_normal(shape), dtype)


@st.composite
def projections(draw: st.DrawFn, *, kind: ProjectionKind | None = None) -> Projection:
    """Any valid kind and sizes, small."""
    kind = kind or draw(st.sampled_from(ProjectionKind))
    return Projection(
        kind=kind,
        phm_dim=draw(st.integers(1, 4)) if kind.has_rule else None,
        phm_rank=draw(st.integers(1, 3)) if kind.has_rank else None,
        shared_phm_rule=kind.has_rule and draw(st.booleans()),
        factorized_phm_rule=kind.has_rule and draw(st.booleans()),
        shared_W=draw(st.booleans()),
    )


@st.composite
def adapter_configs(
    draw: st.DrawFn,
    *,
    kind: ProjectionKind | None = None,
    non_linearity: Activation | None = None,
    max_sites: int = 3,
    max_blocks: int = 5,
    with_backbone: bool | None = None,
) -> AdapterConfig:
    """Any valid configuration of small sizes.

    Args:
        draw: given by Hypothesis.
        kind: of the projection; None draws it.
        non_linearity: None draws it.
        max_sites: largest number of sites.
        max_blocks: largest hidden and bottleneck size in units of phm_dim.
        with_backbone: whether backbone, norm overrides and a head are declared; None draws it.
    """
    projection = draw(projections(kind=kind))
    unit = projection.phm_dim or 1
    d = unit * draw(st.integers(1, max_blocks))
    ids = draw(st.lists(st.sampled_from(SITE_NAMES), min_size=1, max_size=max_sites, unique=True))
    bottlenecks = st.integers(1, max_blocks).map(lambda blocks: unit * blocks)
    shared_k = draw(bottlenecks)
    attach = st.sampled_from(sorted(ATTACH_PRESETS)).map(ATTACH_PRESETS.__getitem__)
    sites = tuple(
        Site(
            id=id_,
            bottleneck_size=shared_k if projection.shared_W else draw(bottlenecks),
            attach=draw(st.none() | attach),
        )
        for id_ in ids
    )
    whole = draw(st.booleans()) if with_backbone is None else with_backbone
    return AdapterConfig(
        method=draw(_names),
        name=draw(_names),
        hidden_size=d,
        projection=projection,
        sites=sites,
        non_linearity=non_linearity or draw(st.sampled_from(Activation)),
        bias_down=draw(st.booleans()),
        bias_up=draw(st.booleans()),
        scaling=draw(st.sampled_from([1.0, -0.5, 0.3, *ScalingKind])),
        attach=draw(attach),
        backbone=draw(backbones(d, ids)) if whole else None,
        overrides=draw(overrides()) if whole else (),
        head=draw(heads(d)) if whole else None,
    )


@st.composite
def backbones(draw: st.DrawFn, hidden_size: int, site_ids: Sequence[str]) -> Backbone:
    """A backbone that has all `SITE_NAMES`, with module names for the sites that are used."""
    style = draw(st.sampled_from(NormStyle))
    return Backbone(
        model_type=draw(st.sampled_from(["bert", "roberta", "distilbert"])),
        hidden_size=hidden_size,
        num_layers=dict.fromkeys(Stack, 3),
        norm_style=style,
        id=draw(st.none() | st.just("some/model")),
        modules={
            id_: SiteModules(linear=f"{id_}.dense", norm=f"{id_}.norm" if style is NormStyle.POST else None)
            for id_ in site_ids
        },
        norms=tuple(f"{id_}.norm" for id_ in site_ids),
    )


def overrides() -> st.SearchStrategy[tuple[Override, ...]]:
    """Some replaced norm tensors."""
    names = st.sampled_from([f"layer.{i}.norm.{part}" for i in range(3) for part in ("weight", "bias")])
    return st.lists(names, max_size=4, unique=True).map(
        lambda chosen: tuple(Override(name=name, kind=OverrideKind.NORM) for name in chosen)
    )


@st.composite
def heads(draw: st.DrawFn, hidden_size: int) -> Head:
    """A classifier with two to five labels."""
    labels = tuple(f"label {i}" for i in range(draw(st.integers(2, 5))))
    shapes: dict[str, tuple[int, ...]] = {"classifier.weight": (len(labels), hidden_size)}
    if draw(st.booleans()):
        shapes["classifier.bias"] = (len(labels),)
    pooling = draw(st.sampled_from([None, *Pooling]))
    return Head(task="text-classification", layers=("classifier",), shapes=shapes, labels=labels, pooling=pooling)


@st.composite
def adapters(
    draw: st.DrawFn,
    config: AdapterConfig | None = None,
    *,
    dtype: DType | None = None,
    max_exponent: int = 2,
    integers: bool = False,
) -> Adapter:
    """An adapter with all tensors of its configuration; a drawn configuration and type where none are given."""
    config = draw(adapter_configs()) if config is None else config
    dtype = draw(st.sampled_from(DType)) if dtype is None else dtype
    norms = dict.fromkeys(override_names(config), (config.hidden_size,))
    shapes = adapter_layout(config) | head_layout(config) | norms
    tensors = {
        name: draw(arrays(shape, dtype=dtype, max_exponent=max_exponent, integers=integers))
        for name, shape in shapes.items()
    }
    return Adapter(config=config, tensors=tensors, dtype=dtype)


@st.composite
def site_parameters(
    draw: st.DrawFn,
    *,
    kind: ProjectionKind | None = None,
    non_linearity: Activation | None = None,
    dtype: DType = DType.F64,
    max_exponent: int = 2,
    max_blocks: int = 5,
    integers: bool = False,
) -> SiteParameters:
    """The tensors of one site, exact in `dtype`; the hidden size is that of `hidden_size(site)`."""
    config = draw(
        adapter_configs(kind=kind, non_linearity=non_linearity, max_sites=1, max_blocks=max_blocks, with_backbone=False)
    )
    adapter = draw(adapters(config, dtype=dtype, max_exponent=max_exponent, integers=integers))
    return adapter.site(config.sites[0].id)


def hidden_size(site: SiteParameters) -> int:
    """The d of a site."""
    down = site.down
    rows = down.W_left if down.W_left is not None else down.W
    if rows is None:
        raise AssertionError("a projection without W and W_left")
    return int(rows.shape[-2]) * (int(rows.shape[0]) if down.kind.has_rule else 1)


@st.composite
def site_inputs(
    draw: st.DrawFn,
    site: SiteParameters,
    *,
    count: int = 1,
    dtype: DType = DType.F64,
    max_exponent: int = 2,
    integers: bool = False,
) -> tuple[Array, ...]:
    """`count` arrays [..., d] of one shape (x and skip, or x and a cotangent), leading axes of any size, 0 included."""
    leading = draw(st.lists(st.integers(0, 3), max_size=2))
    shape = (*leading, hidden_size(site))
    return tuple(draw(arrays(shape, dtype=dtype, max_exponent=max_exponent, integers=integers)) for _ in range(count))
