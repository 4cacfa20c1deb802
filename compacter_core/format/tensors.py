"""The tensors of an adapter against its configuration: the set of names is closed, shapes and types are exact.

Names, shapes and types are checked on the header, before any value is read; values afterwards.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Final

import numpy as np

from compacter_core.adapter import Array, DType
from compacter_core.config import AdapterConfig
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.container import TensorInfo
from compacter_core.format.sketch import POOLER, SKETCH_SIZE, bias_name, weight_name
from compacter_core.layout import RULE, RULE_LEFT, RULE_RIGHT, Part, Shape, head_layout, layout_items, override_names
from compacter_core.vocabulary import OverrideKind

MAX_ELEMENTS: Final = 2**28
"""Default budget of scalars in one file: 1 GiB of float32."""

_CHUNK: Final = 2**16

_FORMS: Final = (("W", ("W_left", "W_right")), (RULE, (RULE_LEFT, RULE_RIGHT)))
"""A dense tensor and the factors that may stand in its place."""


def check_infos(config: AdapterConfig, infos: Mapping[str, TensorInfo], *, max_elements: int = MAX_ELEMENTS) -> DType:
    """Check names, shapes and types of all tensors; the adapter's data type is the result.

    Raises:
        CompacterError: E110, E301 to E305, E308, E309 or E404.
    """
    elements = sum(info.elements for info in infos.values())
    if elements > max_elements:
        raise CompacterError(
            ErrorCode.E309,
            "too many tensor elements",
            value=elements,
            expected=f"at most {max_elements}",
            remedy="Raise max_elements if you trust the file.",
        )
    sketches = {name: info for name, info in infos.items() if part_of(name) == Part.SKETCH}
    own = {name: info for name, info in infos.items() if name not in sketches}
    _check_forms(own)
    layout = _present_layout(config, own)
    _check_names(own, [*layout, *override_names(config)])
    for name, shape in layout.items():
        _check_shape(name, own[name].shape, shape)
    _check_override_shapes(config, own)
    _check_sketches(config, sketches)
    return _one_dtype(own)


def check_values(tensors: Mapping[str, Array]) -> None:
    """Every value is finite, and tensors that stand for the same backbone tensor agree.

    The latter are `override.X` and `head.X`.

    Raises:
        CompacterError: E306 or E307.
    """
    for name, array in tensors.items():
        infinite = sum(part.size - int(np.count_nonzero(np.isfinite(part))) for part in _parts(array))
        if infinite:
            raise CompacterError(
                ErrorCode.E306,
                f"tensor {name}",
                value=f"{infinite} values that are NaN or infinite",
                expected="finite values",
            )
    for name, array in tensors.items():
        part, _, rest = name.partition(".")
        alias = f"{Part.HEAD}.{rest}"
        if part == Part.OVERRIDE and alias in tensors and not _equal(array, tensors[alias]):
            raise CompacterError(
                ErrorCode.E307, f"{name} and {alias} replace the same tensor of the backbone by different values"
            )


def _parts(array: Array) -> Iterator[Array]:
    """The values in order, a few at a time, so that what is computed of them stays small."""
    flat = array.reshape(-1)
    return (flat[begin : begin + _CHUNK] for begin in range(0, flat.size, _CHUNK))


def _equal(one: Array, other: Array) -> bool:
    return one.shape == other.shape and all(map(np.array_equal, _parts(one), _parts(other)))


def part_of(name: str) -> str:
    """The first component of a tensor's name."""
    return name.partition(".")[0]


def _check_forms(names: Iterable[str]) -> None:
    present = set(names)
    for name in present:
        prefix, _, short = name.rpartition(".")
        for dense, factors in _FORMS:
            if part_of(name) in (Part.SHARED, Part.SITE) and short == dense:
                both = [factor for factor in factors if f"{prefix}.{factor}" in present]
                if both:
                    raise CompacterError(
                        ErrorCode.E308,
                        f"{name} is present, and so are its factors",
                        value=both,
                        expected=f"either {dense} or {' and '.join(factors)}",
                    )


def _present_layout(config: AdapterConfig, present: Mapping[str, TensorInfo]) -> dict[str, Shape]:
    """Names and shapes of the adapter's and the head's tensors; never more of them than the file has."""
    layout: dict[str, Shape] = {}
    for name, shape in chain(layout_items(config), head_layout(config).items()):
        _require(name, present)
        layout[name] = shape
    return layout


def _require(name: str, present: Mapping[str, TensorInfo]) -> None:
    if name not in present:
        is_rule = name.rpartition(".")[2].startswith(RULE)
        raise CompacterError(
            ErrorCode.E302 if is_rule and part_of(name) in (Part.SHARED, Part.SITE) else ErrorCode.E301,
            f"tensor {name} is missing",
            remedy="The file is incomplete: save the adapter again.",
        )


def _check_names(present: Mapping[str, TensorInfo], expected: list[str]) -> None:
    for name in expected:
        _require(name, present)
    unexpected = sorted(set(present) - set(expected))
    if unexpected:
        raise CompacterError(
            ErrorCode.E303, "tensors that the configuration does not ask for", value=unexpected, expected="none"
        )


def _check_shape(name: str, shape: Shape, expected: Shape) -> None:
    if shape != expected:
        raise CompacterError(ErrorCode.E304, f"shape of tensor {name}", value=shape, expected=str(expected))


def _check_override_shapes(config: AdapterConfig, infos: Mapping[str, TensorInfo]) -> None:
    for override, name in zip(config.overrides, override_names(config), strict=True):
        shape = infos[name].shape
        if override.kind is not OverrideKind.HEAD and len(shape) != 1:
            raise CompacterError(
                ErrorCode.E404,
                f"shape of override {override.name}",
                value=shape,
                expected=f"a vector, since its kind is {override.kind.value}",
            )


def _check_sketches(config: AdapterConfig, infos: Mapping[str, TensorInfo]) -> None:
    """Either no linear has a weight sketch, or all have one; biases follow the backbone's linears."""
    if not infos:
        return
    linears = [site.id for site in config.sites]
    if config.head is not None and config.head.pooler is not None:
        linears.append(POOLER)
    weights = [weight_name(linear) for linear in linears]
    biases = {bias_name(linear) for linear in linears}
    _check_names({name: info for name, info in infos.items() if name not in biases}, weights)
    for name, info in infos.items():
        if info.dtype is not DType.F32:
            raise CompacterError(
                ErrorCode.E110, f"data type of {name}", value=info.dtype.value, expected="F32, whatever the adapter has"
            )
        if name in biases:
            _check_shape(name, info.shape, (min(SKETCH_SIZE, config.hidden_size),))
        elif len(info.shape) != 1 or info.elements > SKETCH_SIZE:
            raise CompacterError(
                ErrorCode.E304, f"shape of tensor {name}", value=info.shape, expected=f"at most ({SKETCH_SIZE},)"
            )


def _one_dtype(infos: Mapping[str, TensorInfo]) -> DType:
    """The type that all tensors but the sketches have."""
    dtypes = {info.dtype: name for name, info in infos.items()}
    if len(dtypes) != 1:
        raise CompacterError(
            ErrorCode.E305,
            "tensors of different data types",
            value=[f"{name}: {dtype.value}" for dtype, name in dtypes.items()],
            expected="one type for all tensors but the sketches",
        )
    return next(iter(dtypes))
