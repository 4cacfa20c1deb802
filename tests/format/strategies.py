"""Hypothesis strategies: adapters of every kind of projection, with arbitrary values of every data type."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from compacter_core.adapter import Adapter, Array, DType
from compacter_core.config import ATTACH_PRESETS, AdapterConfig, Backbone, Head, Override, Site
from compacter_core.format.codec import round_to
from compacter_core.format.sketch import SKETCH_SIZE, bias_name, weight_name
from compacter_core.layout import adapter_layout, head_layout
from compacter_core.vocabulary import Activation, NormStyle, OverrideKind, ScalingKind, Stack
from tests.support.strategies import projections

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(1 - 2**53, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    # Surrogates are no characters, and files refuse them.
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('aβ"\\\n', max_size=3), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def configs(draw: st.DrawFn) -> AdapterConfig:
    """A configuration that uses any of the optional parts."""
    projection = draw(projections())
    n = projection.phm_dim or 1
    d = n * draw(st.integers(1, 3))
    k = n * draw(st.integers(1, 2))
    ids = draw(
        st.lists(
            st.sampled_from([f"encoder.{i}.{s}" for i in range(3) for s in ("self_attn", "ffn")]),
            min_size=1,
            max_size=3,
            unique=True,
        )
    )
    attaches = st.sampled_from(list(ATTACH_PRESETS.values()))
    sites = tuple(Site(id=site, bottleneck_size=k, attach=draw(st.none() | attaches)) for site in ids)
    norms = ("embeddings.LayerNorm", "encoder.LayerNorm")
    backbone = Backbone(
        model_type="bert",
        hidden_size=d,
        num_layers={Stack.ENCODER: 3},
        norm_style=draw(st.sampled_from(NormStyle)),
        norms=norms,
    )
    labels = draw(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=3))
    head = Head(task="t", layers=("out",), shapes={"out.weight": (len(labels) or 1, d)}, labels=tuple(labels))
    return AdapterConfig(
        method=draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=9)),
        name=draw(st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)),
        hidden_size=d,
        projection=projection,
        sites=sites,
        non_linearity=draw(st.sampled_from(Activation)),
        bias_down=draw(st.booleans()),
        bias_up=draw(st.booleans()),
        scaling=draw(st.sampled_from(ScalingKind) | st.floats(allow_nan=False, allow_infinity=False)),
        attach=draw(attaches),
        backbone=draw(st.none() | st.just(backbone)),
        overrides=draw(st.sampled_from([(), (Override(name=f"{norms[0]}.bias", kind=OverrideKind.NORM),)])),
        head=draw(st.none() | st.just(head)),
        training=draw(st.dictionaries(st.text("ab", max_size=2), json_values, max_size=2)),
        extensions=draw(st.sampled_from([{}, {"tool": {"must_understand": False, "x": [1.5, None]}}])),
    )


@st.composite
def adapters(draw: st.DrawFn) -> Adapter:
    """A configuration with tensors of one of the data types, of any finite values, and perhaps sketches."""
    config = draw(configs())
    dtype = draw(st.sampled_from(DType))
    shapes = adapter_layout(config) | head_layout(config)
    shapes |= {f"override.{override.name}": (config.hidden_size,) for override in config.overrides}
    sketches: dict[str, Array] = {}
    if draw(st.booleans()):
        for site in config.sites:
            sketches[weight_name(site.id)] = draw(_values(DType.F32, (min(SKETCH_SIZE, 4 * config.hidden_size),)))
            sketches[bias_name(site.id)] = draw(_values(DType.F32, (min(SKETCH_SIZE, config.hidden_size),)))
    tensors = {name: draw(_values(dtype, shape)) for name, shape in shapes.items()}
    return Adapter(config=config, tensors=tensors, sketches=sketches, dtype=dtype)


def _values(dtype: DType, shape: tuple[int, ...]) -> st.SearchStrategy[Array]:
    """Arrays of finite values, subnormal numbers and signed zeros included."""
    arrays = npst.arrays(
        dtype.memory, shape, elements=npst.from_dtype(dtype.memory, allow_nan=False, allow_infinity=False)
    )
    if dtype is not DType.BF16:
        return arrays
    return arrays.map(lambda array: round_to(array, dtype)).filter(lambda array: bool(np.isfinite(array).all()))
