"""Adapters against backbones: structure, sketched weights, overrides (SKT-1 to SKT-11)."""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self

from compacter_core.conformance.generate.files_bytes import JsonObject, RawFile, RawTensor, canonical_order, unpack
from compacter_core.conformance.generate.files_collector import Collector
from compacter_core.conformance.generate.files_samples import backbone_of, config_of, sample, site
from compacter_core.conformance.generate.files_sketches import positions

NORM: Final = "layer.0.norm"
WEIGHT: Final = "encoder.0.ffn.weight"
BIAS: Final = "encoder.0.ffn.bias"
ROUNDING: Final = 2.0**-8
SUBNORMAL: Final = 2.0**-24

CONFIG: Final[JsonObject] = config_of(
    sites=[site(0), site(1)],
    backbone=backbone_of(norms=[NORM]),
    overrides=[{"name": f"{NORM}.weight", "kind": "norm"}, {"name": "layer.0.dense.bias", "kind": "bias"}],
)


@dataclass(frozen=True, slots=True)
class Fit:
    """An adapter with sketches of a backbone, and that backbone.

    Args:
        file: the adapter.
        weights: linears of the sites and parameters by name.
        backbone: the argument `backbone`.
    """

    file: RawFile
    weights: Mapping[str, RawTensor]
    backbone: JsonObject

    @classmethod
    def of(cls, config: JsonObject, shape: Sequence[int], *, with_bias: bool = True) -> Self:
        """A backbone whose linears have weights of that shape; its parameters are those that are overridden."""
        weights: dict[str, RawTensor] = {}
        for index, one in enumerate(config["sites"]):
            weights[f"{one['id']}.weight"] = _f32(shape, draw(math.prod(shape), 2 * index))
            if with_bias:
                weights[f"{one['id']}.bias"] = _f32(shape[1:], draw(shape[1], 2 * index + 1))
        sketches = {f"sketch.{name}": sketch_of(tensor) for name, tensor in weights.items()}
        for override in config.get("overrides", []):
            weights[override["name"]] = _f32(shape[1:], draw(shape[1], 9))
        file = sample(config)
        file = replace(file, tensors=canonical_order({**file.tensors, **sketches}))
        described = config.get("backbone", backbone_of(hidden_size=config["hidden_size"]))
        keys = ("model_type", "hidden_size", "num_layers", "norm_style")
        return cls(file, weights, {key: described[key] for key in keys})

    def values(self, name: str) -> list[float]:
        """The values of a weight or a parameter."""
        tensor = self.weights[name]
        return unpack(tensor.dtype, tensor.data)

    def put(self, name: str, values: Sequence[float], shape: Sequence[int] | None = None) -> Self:
        """Another weight, in F32."""
        tensor = _f32(self.weights[name].shape if shape is None else shape, values)
        return replace(self, weights={**self.weights, name: tensor})

    def sketch(self, name: str, values: Sequence[float]) -> Self:
        """Another sketch of a weight."""
        full = f"sketch.{name}"
        tensors = {**self.file.tensors, full: _f32((len(values),), values)}
        return replace(self, file=replace(self.file, tensors=tensors))


def draw(count: int, seed: int) -> list[float]:
    """Values between -1 and 1 that F32 holds, of no pattern: the upper bits of a linear congruential generator."""
    state, values = 1234567 + 7919 * seed, []
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        values.append((state >> 44) / 2**19 - 1.0)
    return values


def sketch_of(tensor: RawTensor) -> RawTensor:
    """The sketch of a weight [in, out] or a bias [out]."""
    values = unpack(tensor.dtype, tensor.data)
    where = positions(tensor.shape)
    return RawTensor.of("F32", (len(where),), [values[i] for i in where])


def _f32(shape: Sequence[int], values: Sequence[float]) -> RawTensor:
    return RawTensor.of("F32", tuple(shape), values)


def _rounded(dtype: str, value: float) -> float:
    """To nearest, ties to even."""
    if dtype == "BF16":
        (bits,) = struct.unpack("<I", struct.pack("<f", value))
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
        return float(struct.unpack("<f", struct.pack("<I", bits))[0])
    code = {"F16": "<e", "F32": "<f"}[dtype]
    return float(struct.unpack(code, struct.pack(code, value))[0])


def add_backbones(cases: Collector) -> None:
    """Add the cases of `match`."""
    fit = Fit.of(CONFIG, (6, 4))
    _add_fitting(cases, fit)
    _add_tolerance(cases, fit)
    _add_positions(cases)
    _add_structure(cases, fit)
    _add_foreign_weights(cases, fit)
    _add_overrides(cases, fit)


def _add(
    cases: Collector, name: str, fit: Fit, comment: str, statements: Sequence[str], *, code: str | None = None
) -> None:
    cases.match(name, fit.file, fit.weights, fit.backbone, comment, code=code, statements=statements)


def _add_fitting(cases: Collector, fit: Fit) -> None:
    everything = ("SKT-7", "SKT-8", "SKT-9", "SKT-10", "SKT-11")
    _add(cases, "everything", fit, "Structure, weights, biases and overrides are right.", everything)
    without = {name: tensor for name, tensor in fit.file.tensors.items() if not name.startswith("sketch.")}
    silent = replace(fit, file=replace(fit.file, tensors=without)).put(WEIGHT, draw(24, 77))
    _add(cases, "no-sketches", silent, "Without sketches, weights are not compared.", ("SKT-9",))
    free = {key: value for key, value in CONFIG.items() if key != "backbone"}
    other = replace(Fit.of(free, (6, 4)), backbone=backbone_of(model_type="gpt", norm_style="pre"))
    _add(
        cases,
        "no-backbone",
        other,
        "Without a backbone in the file, its structure is not compared.",
        ("SKT-7", "SKT-8"),
    )
    bare = Fit.of(CONFIG, (6, 4), with_bias=False)
    _add(cases, "linears-without-bias", bare, "The linears have no bias, and there are no sketches of it.", ("SKT-4",))
    for dtype in ("F64", "F16", "BF16"):
        weights = {name: _cast(dtype, tensor) for name, tensor in fit.weights.items()}
        comment = f"The backbone was cast to {dtype}."
        _add(cases, f"cast-to-{dtype.lower()}", replace(fit, weights=weights), comment, ("SKT-5", "SKT-9"))


def _cast(dtype: str, tensor: RawTensor) -> RawTensor:
    values = unpack(tensor.dtype, tensor.data)
    return RawTensor.of(dtype, tensor.shape, values if dtype == "F64" else [_rounded(dtype, v) for v in values])


def _add_tolerance(cases: Collector, fit: Fit) -> None:
    """One value at, and one just beyond, what a rounding to bfloat16 may do."""
    beyond = ROUNDING + 2.0 * SUBNORMAL
    for name, sketched, value, code in (
        ("relative-at", 1.0, 1.0 + ROUNDING, None),
        ("relative-beyond", 1.0, 1.0 + beyond, "E403"),
        ("relative-below", -1.0, -1.0 + beyond, "E403"),
        ("relative-large", 1024.0, 1024.0 + 1024.0 * ROUNDING, None),
        ("absolute-at", 0.0, SUBNORMAL, None),
        ("absolute-beyond", 0.0, SUBNORMAL * 1.5, "E403"),
    ):
        right = [sketched, *fit.values(WEIGHT)[1:]]
        changed = fit.sketch(WEIGHT, right).put(WEIGHT, [value, *right[1:]])
        comment = f"A value {value!r} where the sketch has {sketched!r}."
        _add(cases, f"tolerance-{name}", changed, comment, ("SKT-5",), code=code)


def _add_positions(cases: Collector) -> None:
    """Weights of more than 256 elements: what stands at other positions does not matter."""
    wide = config_of(hidden_size=16, projection={"kind": "dense"}, bias_up=False)
    for shape in ((20, 16), (16, 16), (17, 16), (64, 16)):
        fit = Fit.of(wide, shape, with_bias=False)
        kept = set(positions(shape))
        garbage = [value if i in kept else 1e6 for i, value in enumerate(fit.values(WEIGHT))]
        comment = f"A weight {list(shape)} with the sketched values at the sketched positions and others elsewhere."
        _add(cases, f"positions-{shape[0]}x{shape[1]}", fit.put(WEIGHT, garbage), comment, ("SKT-1", "SKT-3", "SKT-9"))
    fit = Fit.of(wide, (20, 16), with_bias=False)
    for label, index in (("first", 0), ("last", -1)):
        values = fit.values(WEIGHT)
        values[positions((20, 16))[index]] += 1.0
        comment = f"Only the {label} sketched position has another value."
        _add(cases, f"position-{label}", fit.put(WEIGHT, values), comment, ("SKT-1", "SKT-9"), code="E403")
    reshaped = fit.put(WEIGHT, draw(20 * 16, 0), (40, 8))
    comment = "The same values in another shape have their sketch elsewhere."
    _add(cases, "reshaped", replace(reshaped, backbone=fit.backbone), comment, ("SKT-1", "SKT-9"), code="E403")
    long_bias = config_of(hidden_size=300, projection={"kind": "dense"}, sites=[site(0, 1)], bias_up=False)
    fit = Fit.of(long_bias, (2, 300))
    kept = set(positions((300,)))
    bias = [value if i in kept else -1e6 for i, value in enumerate(fit.values(BIAS))]
    comment = "A bias of 300 elements, right at the sketched positions."
    _add(cases, "positions-of-a-bias", fit.put(BIAS, bias), comment, ("SKT-1", "SKT-3", "SKT-9"))


def _add_structure(cases: Collector, fit: Fit) -> None:
    for name, changes, comment in (
        ("model_type", {"model_type": "roberta"}, "Another architecture."),
        ("num_layers", {"num_layers": {"encoder": 3}}, "Another number of layers."),
        ("stack", {"num_layers": {"encoder": 2, "decoder": 2}}, "A stack more."),
        ("stack-missing", {"num_layers": {"decoder": 2}}, "Another stack."),
    ):
        changed = replace(fit, backbone={**fit.backbone, **changes})
        _add(cases, name, changed, comment, ("SKT-7",), code="E401")
    wide = Fit.of({**CONFIG, "hidden_size": 8, "backbone": backbone_of(hidden_size=8, norms=[NORM])}, (6, 8))
    other = replace(fit, weights=wide.weights, backbone=wide.backbone)
    _add(cases, "hidden_size", other, "A wider backbone.", ("SKT-7",), code="E401")
    pre = replace(fit, backbone={**fit.backbone, "norm_style": "pre"})
    _add(cases, "pre-norm", pre, "The norms stand before the sublayers.", ("SKT-8",), code="E402")
    _add_unnamed(cases)


def _add_unnamed(cases: Collector) -> None:
    """Adapters that do not say what their backbone is."""
    for code, name, one, hidden_size, comment in (
        ("E401", "hidden_size-alone", site(0), 8, "Without a backbone in the file, its hidden_size still counts."),
        ("E211", "layer", site(2), 4, "A site in a layer that the backbone does not have."),
        ("E211", "stack", {"id": "decoder.0.ffn", "bottleneck_size": 2}, 4, "A site in a stack that it does not have."),
    ):
        file = sample(config_of(sites=[one]))
        weights = {WEIGHT: _f32((6, hidden_size), draw(6 * hidden_size, 0))}
        fit = Fit(file, weights, backbone_of(hidden_size=hidden_size))
        _add(cases, name, fit, comment, ("SKT-12",), code=code)


def _add_foreign_weights(cases: Collector, fit: Fit) -> None:
    weight, bias = fit.values(WEIGHT), fit.values(BIAS)
    trained = [value * (1.0 + 0.015625 * (-1) ** i) for i, value in enumerate(weight)]
    changes: dict[str, tuple[str, list[float], str]] = {
        "other-weight": (WEIGHT, draw(24, 50), "Another checkpoint."),
        "trained-further": (WEIGHT, [_rounded("F32", v) for v in trained], "Correlated over 0.999, but other values."),
        "scaled": (WEIGHT, [_rounded("F32", v * 1.0625) for v in weight], "Perfectly correlated, but other values."),
        "negated": (WEIGHT, [-value for value in weight], "The weight with its sign changed."),
        "zeros": (WEIGHT, [0.0] * 24, "A weight of zeros."),
        "one-value": (WEIGHT, [*weight[:-1], weight[-1] + 1.0], "One value differs."),
        "other-bias": (BIAS, draw(4, 51), "The right weight with another bias."),
        "bias-zero": (BIAS, [0.0] * 4, "The right weight with a bias of zeros."),
        "bias-one-value": (BIAS, [*bias[:3], bias[3] + 0.5], "One value of the bias differs."),
        "second-site": ("encoder.1.ffn.weight", draw(24, 52), "The first site is right and the second one is not."),
    }
    for name, (tensor, values, comment) in changes.items():
        _add(cases, name, fit.put(tensor, values), comment, ("SKT-5", "SKT-9"), code="E403")
    swapped = {**fit.weights, WEIGHT: fit.weights["encoder.1.ffn.weight"], "encoder.1.ffn.weight": fit.weights[WEIGHT]}
    _add(cases, "sites-exchanged", replace(fit, weights=swapped), "Two layers exchanged.", ("SKT-9",), code="E403")
    square = Fit.of(CONFIG, (4, 4))
    values = square.values(WEIGHT)
    transposed = [values[4 * column + row] for row in range(4) for column in range(4)]
    _add(
        cases, "transposed", square.put(WEIGHT, transposed), "The weight as [out, in].", ("SKT-1", "SKT-9"), code="E403"
    )
    shorter = fit.put(WEIGHT, weight[:20], (5, 4))
    _add(cases, "smaller", shorter, "A weight with fewer positions than the sketch.", ("SKT-5", "SKT-9"), code="E403")


def _add_overrides(cases: Collector, fit: Fit) -> None:
    name = f"{NORM}.weight"
    gone = {key: tensor for key, tensor in fit.weights.items() if key != name}
    _add(cases, "norm-missing", replace(fit, weights=gone), "The backbone has no such norm.", ("SKT-10",), code="E404")
    gone = {key: tensor for key, tensor in fit.weights.items() if key != "layer.0.dense.bias"}
    _add(cases, "bias-missing", replace(fit, weights=gone), "The backbone has no such bias.", ("SKT-10",), code="E404")
    longer = fit.put(name, draw(5, 9), (5,))
    _add(cases, "longer", longer, "The backbone's tensor has another length.", ("SKT-10",), code="E404")
    matrix = fit.put(name, draw(4, 9), (1, 4))
    _add(cases, "matrix", matrix, "The backbone's tensor has an axis more.", ("SKT-10",), code="E404")
    config: dict[str, Any] = {**CONFIG, "overrides": [{"name": "lm_head.scale", "kind": "head"}]}
    _add(cases, "head", Fit.of(config, (6, 4)), "An override of kind head.", ("SKT-11",), code="E405")
