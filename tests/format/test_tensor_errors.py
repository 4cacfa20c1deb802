"""E301 to E309, and the codes E110 and E404 that tensors raise together with their configuration."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from compacter_core.adapter import Adapter, Array, DType
from compacter_core.config import Override, Projection
from compacter_core.errors import ErrorCode
from compacter_core.format.codec import cast
from compacter_core.format.container import TensorInfo
from compacter_core.format.reader import load_adapter, parse_adapter
from compacter_core.format.tensors import check_infos
from compacter_core.format.writer import adapter_bytes, save_adapter
from compacter_core.layout import adapter_layout
from compacter_core.vocabulary import OverrideKind, ProjectionKind
from tests.format.builders import CONFIG, NORM, RawFile, RawTensor, make_adapter, rejected, with_config

RULE = "shared.phm_rule"
W_LEFT = "site.encoder.0.ffn.down.W_left"
SKETCH = "sketch.encoder.0.ffn.weight"
BIAS_SKETCH = "sketch.encoder.0.ffn.bias"


def f32(*shape: int) -> RawTensor:
    return RawTensor("F32", list(shape), np.zeros(shape, dtype="<f4").tobytes())


def both_ways(code: ErrorCode, raw: RawFile, adapter: Adapter) -> None:
    """The reader refuses the file, and the writer refuses to make it."""
    with rejected(code):
        parse_adapter(raw.put_together())
    with rejected(code):
        adapter_bytes(adapter)


def changed(change: Callable[[dict[str, Array]], object], adapter: Adapter | None = None) -> Adapter:
    adapter = adapter or make_adapter()
    tensors = {name: array.copy() for name, array in adapter.tensors.items()}
    change(tensors)
    return replace(adapter, tensors=tensors)


@pytest.mark.spec("FMT-19")
@pytest.mark.parametrize("name", sorted(set(make_adapter().tensors) - {RULE}))
def test_e301_missing_tensor(name: str) -> None:
    raw = RawFile.take_apart(adapter_bytes(make_adapter()))
    del raw.tensors[name]
    both_ways(ErrorCode.E301, raw, changed(lambda tensors: tensors.pop(name)))


@pytest.mark.spec("SKT-4")
def test_e301_sketch_missing_for_one_of_the_sites() -> None:
    raw = RawFile.take_apart(adapter_bytes(make_adapter()))
    del raw.tensors[SKETCH]
    adapter = make_adapter()
    sketches = {name: array for name, array in adapter.sketches.items() if name != SKETCH}
    both_ways(ErrorCode.E301, raw, replace(adapter, sketches=sketches))


@pytest.mark.spec("SKT-4")
def test_sketches_may_be_absent_altogether_and_bias_sketches_one_by_one() -> None:
    adapter = make_adapter()
    weights = {name: array for name, array in adapter.sketches.items() if name != BIAS_SKETCH}
    for sketches in ({}, weights):
        assert set(parse_adapter(adapter_bytes(replace(adapter, sketches=sketches))).sketches) == set(sketches)


RULES = {
    "shared": (Projection.compacter(phm_dim=2), RULE),
    "own": (Projection(phm_dim=2, phm_rank=1), "site.encoder.1.ffn.up.phm_rule"),
    "shared factor": (
        Projection(phm_dim=2, phm_rank=1, shared_phm_rule=True, factorized_phm_rule=True),
        "shared.phm_rule_left",
    ),
    "own factor": (
        Projection(kind=ProjectionKind.PHM, phm_dim=2, factorized_phm_rule=True),
        "site.encoder.0.ffn.down.phm_rule_right",
    ),
}


@pytest.mark.spec("FMT-19")
@pytest.mark.parametrize(("projection", "name"), RULES.values(), ids=RULES.keys())
def test_e302_missing_rule(projection: Projection, name: str) -> None:
    adapter = make_adapter(with_config(projection=projection))
    raw = RawFile.take_apart(adapter_bytes(adapter))
    del raw.tensors[name]
    both_ways(ErrorCode.E302, raw, changed(lambda tensors: tensors.pop(name), adapter))


@pytest.mark.spec("FMT-20")
@pytest.mark.parametrize(
    "name",
    [
        "site.encoder.0.ffn.down.W_middle",
        "site.encoder.0.self_attn.down.b",
        "site.encoder.0.ffn.scaling",
        "shared.down.W_left",
        "override.encoder.layer.1.output.LayerNorm.weight",
        "head.classifier.scale",
        "sketch.encoder.0.self_attn.weight",
        "sketch.encoder.0.ffn.scale",
        "optimizer.state",
        "phm_rule",
    ],
)
def test_e303_unexpected_tensor(name: str) -> None:
    raw = RawFile.take_apart(adapter_bytes(make_adapter()))
    raw.tensors[name] = f32(8)
    adapter = make_adapter()
    extra = {name: np.zeros(8, dtype=np.float32)}
    if name.startswith("sketch."):
        adapter = replace(adapter, sketches={**adapter.sketches, **extra})
    else:
        adapter = replace(adapter, tensors={**adapter.tensors, **extra})
    both_ways(ErrorCode.E303, raw, adapter)


@pytest.mark.spec("FMT-20")
def test_e303_own_copy_of_a_shared_rule() -> None:
    raw = RawFile.take_apart(adapter_bytes(make_adapter()))
    raw.tensors["site.encoder.0.ffn.down.phm_rule"] = raw.tensors[RULE]
    with rejected(ErrorCode.E303):
        parse_adapter(raw.put_together())


def test_e303_sketches_and_tensors_exchanged_in_memory() -> None:
    adapter = make_adapter()
    for wrong in (
        replace(adapter, tensors={**adapter.tensors, **adapter.sketches}, sketches={}),
        replace(adapter, tensors={}, sketches={**adapter.tensors, **adapter.sketches}),
    ):
        with rejected(ErrorCode.E303):
            adapter_bytes(wrong)


@pytest.mark.spec("FMT-22")
@pytest.mark.parametrize("name", [*sorted(adapter_layout(CONFIG)), "head.classifier.weight"])
def test_e304_shape(name: str) -> None:
    raw = RawFile.take_apart(adapter_bytes(make_adapter()))
    raw.tensors[name].shape.append(1)
    adapter = changed(lambda tensors: tensors.update({name: tensors[name][..., None]}))
    both_ways(ErrorCode.E304, raw, adapter)


@pytest.mark.spec("FMT-22")
def test_e304_transposed_weight_of_the_same_size() -> None:
    raw = RawFile.take_apart(adapter_bytes(make_adapter()))
    raw.tensors[W_LEFT].shape.reverse()
    with rejected(ErrorCode.E304):
        parse_adapter(raw.put_together())


@pytest.mark.spec("SKT-3")
@pytest.mark.parametrize(("name", "shape"), [(SKETCH, (257,)), (SKETCH, (16, 16)), (BIAS_SKETCH, (7,))])
def test_e304_sketch(name: str, shape: tuple[int, ...]) -> None:
    adapter = make_adapter()
    raw = RawFile.take_apart(adapter_bytes(adapter))
    raw.tensors[name] = f32(*shape)
    sketches = {**adapter.sketches, name: np.zeros(shape, dtype=np.float32)}
    both_ways(ErrorCode.E304, raw, replace(adapter, sketches=sketches))


@pytest.mark.spec("FMT-23")
@pytest.mark.parametrize("name", [RULE, "head.classifier.bias", f"override.{NORM}.weight"])
def test_e305_mixed_types(name: str) -> None:
    raw = RawFile.take_apart(adapter_bytes(make_adapter()))
    tensor = raw.tensors[name]
    tensor.dtype, tensor.data = "F64", np.frombuffer(tensor.data, dtype="<f4").astype("<f8").tobytes()
    adapter = changed(lambda tensors: tensors.update({name: tensors[name].astype(np.float64)}))
    both_ways(ErrorCode.E305, raw, adapter)


def test_e305_arrays_of_another_type_than_the_adapter_says() -> None:
    for dtype in (DType.F64, DType.F16):
        with rejected(ErrorCode.E305):
            adapter_bytes(replace(make_adapter(), dtype=dtype))


@pytest.mark.spec("SKT-2")
def test_sketches_keep_float32_beside_any_type() -> None:
    data = adapter_bytes(make_adapter(dtype=DType.BF16))
    raw = RawFile.take_apart(data)
    assert {tensor.dtype for name, tensor in raw.tensors.items() if name.startswith("sketch.")} == {"F32"}
    assert {tensor.dtype for name, tensor in raw.tensors.items() if not name.startswith("sketch.")} == {"BF16"}


@pytest.mark.spec("SKT-2")
def test_e110_sketch_of_another_type() -> None:
    raw = RawFile.take_apart(adapter_bytes(make_adapter()))
    tensor = raw.tensors[SKETCH]
    tensor.dtype, tensor.data = "F16", np.frombuffer(tensor.data, dtype="<f4").astype("<f2").tobytes()
    with rejected(ErrorCode.E110):
        parse_adapter(raw.put_together())


@pytest.mark.spec("FMT-24")
@pytest.mark.parametrize("dtype", DType)
@pytest.mark.parametrize("name", [W_LEFT, SKETCH])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_e306_not_finite(dtype: DType, name: str, value: float) -> None:
    adapter = make_adapter(dtype=dtype)
    raw = RawFile.take_apart(adapter_bytes(adapter))
    tensor = raw.tensors[name]
    pattern = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}.get(tensor.dtype)
    bad = np.array([value], dtype=pattern or "<f4").tobytes()
    bad = bad if pattern else bad[2:]
    tensor.data = tensor.data[: -len(bad)] + bad
    sketches, tensors = dict(adapter.sketches), dict(adapter.tensors)
    arrays = sketches if name == SKETCH else tensors
    arrays[name] = arrays[name].copy()
    arrays[name][..., -1] = value
    both_ways(ErrorCode.E306, raw, replace(adapter, tensors=tensors, sketches=sketches))


def test_e306_cast_beyond_the_range() -> None:
    adapter = changed(lambda tensors: tensors[W_LEFT].fill(1e6))
    assert cast(adapter, DType.BF16).dtype is DType.BF16
    with rejected(ErrorCode.E306):
        cast(adapter, DType.F16)


@pytest.mark.spec("FMT-25")
def test_e307_override_and_head_of_the_same_tensor_disagree() -> None:
    config = with_config(overrides=(Override(name="classifier.bias", kind=OverrideKind.HEAD),))
    adapter = make_adapter(config)
    tensors = {**adapter.tensors, "override.classifier.bias": adapter.tensors["head.classifier.bias"].copy()}
    agreeing = replace(adapter, tensors=tensors)
    raw = RawFile.take_apart(adapter_bytes(agreeing))
    raw.tensors["override.classifier.bias"].data = bytes(12)
    disagreeing = changed(lambda arrays: arrays["override.classifier.bias"].fill(0), agreeing)
    both_ways(ErrorCode.E307, raw, disagreeing)


@pytest.mark.spec("FMT-21")
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("site.encoder.0.ffn.down.W", (2, 4, 2)),
        ("shared.phm_rule_left", (2, 2, 1)),
        ("shared.phm_rule_right", (2, 1, 2)),
    ],
)
def test_e308_dense_and_factored_form(name: str, shape: tuple[int, ...]) -> None:
    raw = RawFile.take_apart(adapter_bytes(make_adapter()))
    raw.tensors[name] = f32(*shape)
    adapter = changed(lambda tensors: tensors.update({name: np.zeros(shape, dtype=np.float32)}))
    both_ways(ErrorCode.E308, raw, adapter)


@pytest.mark.spec("FMT-21")
def test_e308_spares_backbone_tensors_of_the_same_names() -> None:
    """A head's or an override's own names mean nothing here."""
    names = ("dense.W", "dense.W_left")
    config = with_config(overrides=tuple(Override(name=name, kind=OverrideKind.HEAD) for name in names))
    assert parse_adapter(adapter_bytes(make_adapter(config))).config == config


@pytest.mark.spec("FMT-26")
def test_e309_element_budget(tmp_path: Path) -> None:
    adapter = make_adapter()
    data = adapter_bytes(adapter)
    elements = sum(array.size for array in {**adapter.tensors, **adapter.sketches}.values())
    parse_adapter(data, max_elements=elements)
    with rejected(ErrorCode.E309):
        parse_adapter(data, max_elements=elements - 1)
    save_adapter(adapter, tmp_path / "a.safetensors")
    with rejected(ErrorCode.E309):
        load_adapter(tmp_path / "a.safetensors", max_elements=elements - 1)


@pytest.mark.spec("FMT-26", "SEC-3")
def test_e309_default_budget_is_checked_on_the_table_alone() -> None:
    infos = {"a": TensorInfo(DType.F16, (2**14, 2**14)), "b": TensorInfo(DType.F16, (1,))}
    with rejected(ErrorCode.E309):
        check_infos(CONFIG, infos)


@pytest.mark.spec("FMT-22")
@pytest.mark.parametrize("kind", [OverrideKind.NORM, OverrideKind.BIAS])
def test_e404_norm_or_bias_override_that_is_no_vector(kind: OverrideKind) -> None:
    config = with_config(overrides=(Override(name=f"{NORM}.bias", kind=kind),))
    adapter = make_adapter(config)
    name = f"override.{NORM}.bias"
    raw = RawFile.take_apart(adapter_bytes(adapter))
    raw.tensors[name].shape = [2, 4]
    both_ways(ErrorCode.E404, raw, changed(lambda arrays: arrays.update({name: arrays[name].reshape(2, 4)}), adapter))
