"""Files whose tensors do not fit their configuration, in one place each (FMT-19 to FMT-26, SKT-2 to SKT-4)."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from compacter_core.conformance.generate.files_bytes import (
    JsonObject,
    RawFile,
    RawTensor,
    Recipe,
    canonical_order,
    length_field,
    minified,
    pack,
    raw,
    text,
    unpack,
)
from compacter_core.conformance.generate.files_collector import Collector
from compacter_core.conformance.generate.files_samples import (
    COMPACTER,
    config_of,
    head_of,
    numbers,
    sample,
    site,
)
from compacter_core.conformance.words import Flag

CONFIG: Final[JsonObject] = config_of(
    sites=[site(0), site(1)],
    scaling="learned",
    overrides=[{"name": "norm.weight", "kind": "norm"}],
    head=head_of(pooler="pooler"),
)
FILE: Final = sample(CONFIG, sketches=True)

RULE: Final = "shared.phm_rule"
LEFT: Final = "site.encoder.0.ffn.down.W_left"
RIGHT: Final = "site.encoder.1.ffn.up.W_right"
BIAS: Final = "site.encoder.0.ffn.up.b"
SKETCH: Final = "sketch.encoder.0.ffn.weight"
BIAS_SKETCH: Final = "sketch.encoder.0.ffn.bias"

MAX_ELEMENTS: Final = 2**28


def add_tensors(cases: Collector) -> None:
    """Add the files refused with E301 to E309, and with E110 and E404 for what a tensor is."""
    _add_missing(cases)
    _add_unexpected(cases)
    _add_shapes(cases)
    _add_types(cases)
    _add_values(cases)
    _add_forms(cases)
    _add_budget(cases)


def _without(file: RawFile, *names: str) -> RawFile:
    return replace(file, tensors={name: tensor for name, tensor in file.tensors.items() if name not in names})


def _put(file: RawFile, name: str, tensor: RawTensor) -> RawFile:
    """The file with a tensor added or replaced, in canonical order again."""
    return replace(file, tensors=canonical_order({**file.tensors, name: tensor}))


def _f32(*shape: int) -> RawTensor:
    return RawTensor.of("F32", shape, numbers(math.prod(shape), 1))


def _add_missing(cases: Collector) -> None:
    for name in FILE.tensors:
        if name == RULE or name.startswith("sketch.") or ".1." in name:
            continue
        cases.refuse("E301", name.lower().replace("encoder.0.ffn", "x"), _without(FILE, name), f"{name} is missing.")
    for name in (SKETCH, "sketch.pooler.weight"):
        left = _without(FILE, name)
        cases.refuse("E301", name.lower(), left, "A sketch is missing while others are there.", statements=("SKT-4",))
    only_bias = _without(FILE, *(name for name in FILE.tensors if name.startswith("sketch.") and name != BIAS_SKETCH))
    cases.refuse("E301", "bias-sketch-alone", only_bias, "A bias sketch without any weight's.", statements=("SKT-4",))
    shared = sample(config_of(projection={**COMPACTER, "shared_W": True}))
    cases.refuse("E301", "shared-weight", _without(shared, "shared.up.W_right"), "A shared weight is missing.")
    rules: Mapping[str, tuple[JsonObject, str]] = {
        "shared": (dict(COMPACTER), RULE),
        "own": ({"kind": "lphm", "phm_dim": 2, "phm_rank": 1}, "site.encoder.0.ffn.up.phm_rule"),
        "shared-factor": ({**COMPACTER, "factorized_phm_rule": True}, "shared.phm_rule_left"),
        "own-factor": (
            {"kind": "phm", "phm_dim": 2, "factorized_phm_rule": True},
            "site.encoder.0.ffn.down.phm_rule_right",
        ),
    }
    for label, (projection, name) in rules.items():
        file = sample(config_of(projection=projection))
        cases.refuse("E302", label, _without(file, name), f"{name} is missing.")


def _add_unexpected(cases: Collector) -> None:
    tensors = {
        "other-weight": "site.encoder.0.ffn.down.W_middle",
        "other-site": "site.encoder.0.self_attn.down.b",
        "other-side": "site.encoder.0.ffn.left.b",
        "site-twice": "site.encoder.00.ffn.down.b",
        "shared-weight": "shared.down.W_left",
        "shared-bias": "shared.down.b",
        "own-rule-beside-shared": "site.encoder.0.ffn.down.phm_rule",
        "override": "override.norm.bias",
        "head": "head.classifier.scale",
        "optimiser": "optimizer.state",
        "no-part": "phm_rule",
        "part-alone": "site",
    }
    for label, name in tensors.items():
        shape = (2, 2, 2) if name.endswith("phm_rule") else (4,)
        cases.refuse("E303", label, _put(FILE, name, _f32(*shape)), f"{name} belongs to nothing.")
    unscaled = sample(config_of())
    extra = _put(unscaled, "site.encoder.0.ffn.scaling", _f32(1))
    cases.refuse("E303", "scaling", extra, "A trained scaling although scaling is a number.")
    biased = _put(sample(config_of(bias_up=False)), BIAS, _f32(4))
    cases.refuse("E303", "bias", biased, "A bias although bias_up is false.")
    for label, name in (("other-sketch", "sketch.encoder.0.self_attn.weight"), ("sketch-part", "sketch.pooler.scale")):
        file = _put(FILE, name, _f32(4))
        cases.refuse("E303", label, file, f"{name} belongs to nothing.", statements=("SKT-4",))
    pooler = _put(sample(config_of(), sketches=True), "sketch.pooler.weight", _f32(16))
    comment = "A sketch of a pooler that the configuration does not name."
    cases.refuse("E303", "pooler-sketch", pooler, comment, statements=("SKT-4",))


def _add_shapes(cases: Collector) -> None:
    for name in (RULE, LEFT, RIGHT, BIAS, "site.encoder.0.ffn.scaling", "head.classifier.weight"):
        tensor = FILE.tensors[name]
        file = _put(FILE, name, replace(tensor, shape=(*tensor.shape, 1)))
        cases.refuse("E304", f"rank/{name.lower()}", file, f"{name} has an axis of 1 too many.")
    left, right = FILE.tensors[LEFT], FILE.tensors[RIGHT]
    for label, name, tensor, comment in (
        ("transposed", LEFT, replace(left, shape=(1, 2, 2)), "Axes in another order."),
        ("flat", RIGHT, replace(right, shape=(4,)), "Right bytes as a vector."),
        ("larger", BIAS, _f32(5), "A bias of d + 1 elements."),
        ("smaller", BIAS, _f32(2), "A bias of k elements where d are right."),
        ("rule", RULE, replace(FILE.tensors[RULE], shape=(2, 4)), "A rule as n x n^2."),
        ("head-transposed", "head.classifier.weight", _f32(4, 3), "The head's weight as [in, out]."),
    ):
        cases.refuse("E304", label, _put(FILE, name, tensor), comment)
    channel = _put(sample(config_of(scaling="channel")), "site.encoder.0.ffn.scaling", _f32(1))
    cases.refuse("E304", "channel-of-one", channel, "A scaling per channel with one element.")
    for label, name, shape in (
        ("sketch-257", SKETCH, (257,)),
        ("sketch-matrix", SKETCH, (8, 4)),
        ("sketch-scalar", SKETCH, ()),
        ("bias-sketch-short", BIAS_SKETCH, (3,)),
        ("bias-sketch-long", BIAS_SKETCH, (5,)),
        ("pooler-bias-sketch", "sketch.pooler.bias", (1,)),
    ):
        file = _put(FILE, name, _f32(*shape))
        cases.refuse("E304", label, file, f"{name} of the shape {list(shape)}.", statements=("SKT-3",))
    for kind in ("norm", "bias"):
        file = sample(config_of(overrides=[{"name": "x.bias", "kind": kind}]))
        for label, shape in (("matrix", (2, 2)), ("scalar", ())):
            wrong = _put(file, "override.x.bias", _f32(*shape))
            comment = f"An override of kind {kind} that is a {label}."
            cases.refuse("E404", f"{kind}-{label}", wrong, comment, statements=("FMT-22",))


def _add_types(cases: Collector) -> None:
    for name in (RULE, "head.classifier.bias", "override.norm.weight", "site.encoder.0.ffn.scaling"):
        tensor = FILE.tensors[name]
        for dtype in ("F64", "F16"):
            other = RawTensor.of(dtype, tensor.shape, unpack(tensor.dtype, tensor.data))
            cases.refuse(
                "E305", f"{dtype.lower()}/{name.lower()}", _put(FILE, name, other), f"{name} alone is {dtype}."
            )
    halves = sample(CONFIG, dtype="F16", sketches=True)
    other = RawTensor.of("BF16", (2, 2, 2), numbers(8, 0))
    cases.refuse("E305", "bf16-among-f16", _put(halves, RULE, other), "Two types of one size.")
    for label, name, dtype in (("weight", SKETCH, "F16"), ("bias", BIAS_SKETCH, "F64")):
        tensor = FILE.tensors[name]
        other = RawTensor.of(dtype, tensor.shape, unpack("F32", tensor.data))
        comment = f"A sketch of type {dtype}."
        cases.refuse("E110", f"sketch-{label}", _put(FILE, name, other), comment, statements=("SKT-2",))


def _add_values(cases: Collector) -> None:
    for dtype in ("F64", "F32", "F16", "BF16"):
        file = sample(config_of(), dtype=dtype, sketches=True)
        for label, value in (("nan", math.nan), ("infinity", math.inf), ("minus-infinity", -math.inf)):
            if label == "minus-infinity" and dtype != "F32":
                continue
            name = LEFT if label == "nan" else BIAS
            comment = f"The last value of {name} is {value}."
            cases.refuse("E306", f"{dtype.lower()}-{label}", _spoilt(file, name, _special(dtype, value)), comment)
    for label, bits in (("signalling", b"\x01\x00\x80\x7f"), ("negative", b"\x00\x00\xc0\xff")):
        spoilt = _spoilt(FILE, RULE, bits)
        cases.refuse("E306", f"nan-{label}", spoilt, f"A {label} NaN.")
    for name in ("override.norm.weight", "head.classifier.weight", SKETCH):
        spoilt = _spoilt(FILE, name, _special("F32", math.nan))
        cases.refuse("E306", name.lower(), spoilt, f"A NaN in {name}.")
    alias = sample(config_of(head=head_of(), overrides=[{"name": "classifier.bias", "kind": "head"}]))
    for label, last in (("one-value", 100.0), ("last-bit", math.nextafter(2.0, 3.0))):
        tensors = dict(alias.tensors)
        values = [2.0, 2.0, 2.0]
        tensors["head.classifier.bias"] = RawTensor.of("F64", (3,), values)
        tensors["override.classifier.bias"] = RawTensor.of("F64", (3,), [*values[:2], last])
        wide = {name: _as_f64(tensor) for name, tensor in tensors.items()}
        file = replace(alias, tensors=canonical_order(wide))
        cases.refuse("E307", label, file, "override.X and head.X differ in one value.")


def _as_f64(tensor: RawTensor) -> RawTensor:
    return RawTensor.of("F64", tensor.shape, unpack(tensor.dtype, tensor.data))


def _special(dtype: str, value: float) -> bytes:
    """The bytes of a NaN or an infinity."""
    if math.isnan(value):
        return {"F64": b"\0" * 6 + b"\xf8\x7f", "F32": b"\0\0\xc0\x7f", "F16": b"\0\x7e", "BF16": b"\xc0\x7f"}[dtype]
    return pack(dtype, [value])


def _spoilt(file: RawFile, name: str, value: bytes) -> RawFile:
    """The file with other bytes in the place of a tensor's last value."""
    tensor = file.tensors[name]
    return _put(file, name, replace(tensor, data=tensor.data[: -len(value)] + value))


def _add_forms(cases: Collector) -> None:
    for label, name, shape in (
        ("weight", "site.encoder.0.ffn.down.W", (2, 2, 1)),
        ("rule-left", "shared.phm_rule_left", (2, 2, 1)),
        ("rule-right", "shared.phm_rule_right", (2, 1, 2)),
    ):
        cases.refuse("E308", label, _put(FILE, name, _f32(*shape)), f"{name} beside its other form.")
    dense = sample(config_of(projection={"kind": "dense"}))
    factor = _put(dense, "site.encoder.0.ffn.up.W_right", _f32(1, 4))
    cases.refuse("E308", "factor", factor, "One factor beside the dense weight.")
    shared = sample(config_of(projection={**COMPACTER, "shared_W": True}))
    cases.refuse("E308", "shared-weight", _put(shared, "shared.up.W", _f32(2, 1, 2)), "Both forms of a shared weight.")


def _add_budget(cases: Collector) -> None:
    """One element too many, in a file whose bytes are all there."""
    rows = MAX_ELEMENTS // 2**14
    shapes = {"big.weight": [rows, 2**14], "big.bias": [1]}
    config = config_of(head=head_of(layers=["big"], shapes=shapes), projection={"kind": "dense"})
    file = sample(config_of(head=head_of(layers=["big"], shapes={"big.weight": [1, 1]}), projection={"kind": "dense"}))
    small = {name: replace(tensor, data=b"") for name, tensor in file.tensors.items() if not name.startswith("head.")}
    position, entries = 0, {}
    for name, shape in [
        *((n, list(t.shape)) for n, t in small.items()),
        *((f"head.{n}", s) for n, s in shapes.items()),
    ]:
        end = position + 2 * math.prod(shape)
        entries[name] = {"dtype": "F16", "shape": shape, "data_offsets": [position, end]}
        position = end
    metadata = replace(file, config=config).all_metadata
    header = minified({"__metadata__": metadata, **entries})
    recipe = Recipe((raw(length_field(len(header))), text(header), raw(b"\0", position)))
    comment = "Over 2^28 elements. All bytes are there, half a gigabyte of zeros, but none has to be read."
    statements = ("FMT-26", "SEC-3", "SEC-8")
    cases.refuse("E309", "over-the-budget", recipe, comment, statements=statements, flags=frozenset({Flag.LIMITS}))
