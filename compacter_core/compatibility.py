"""Does an adapter fit a backbone? Asked of a description and of arrays, so that all back ends ask the same question."""

from collections.abc import Collection, Iterable, Mapping

from compacter_core.adapter import Adapter, Array
from compacter_core.config import AdapterConfig, Backbone, Override
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.sketch import THRESHOLD, correlation, is_sketched
from compacter_core.layout import Part, Shape
from compacter_core.vocabulary import OverrideKind


def check_structure(expected: Backbone | None, actual: Backbone) -> None:
    """Model type, sizes and norm style are those that the adapter was made for; without a description nothing is known.

    Raises:
        CompacterError: E401 or E402.
    """
    if expected is None:
        return
    for what in ("model_type", "hidden_size", "num_layers"):
        wanted, found = getattr(expected, what), getattr(actual, what)
        if wanted != found:
            raise CompacterError(
                ErrorCode.E401, f"{what} of the model", value=found, expected=f"{wanted}, as the adapter was made for"
            )
    if expected.norm_style is not actual.norm_style:
        raise CompacterError(
            ErrorCode.E402,
            "norm style of the model",
            value=actual.norm_style.value,
            expected=f"{expected.norm_style.value}, as the adapter was made for",
        )


def check_sites(config: AdapterConfig, actual: Backbone) -> None:
    """The adapter's vectors have the backbone's size, and each of its sites is in one of the backbone's layers.

    Raises:
        CompacterError: E401 or E211.
    """
    if config.hidden_size != actual.hidden_size:
        raise CompacterError(
            ErrorCode.E401, "hidden_size of the model", value=actual.hidden_size, expected=str(config.hidden_size)
        )
    for site in config.sites:
        layers = actual.num_layers.get(site.stack, 0)
        if site.layer >= layers:
            raise CompacterError(
                ErrorCode.E211,
                "the model has no such site",
                value=site.id,
                expected=f"layers 0 to {layers - 1} of the {site.stack.value}" if layers else "another stack",
            )


def check_weights(adapter: Adapter, linears: Iterable[tuple[str, Array]], *, quantised: Collection[str] = ()) -> None:
    """The backbone's linears are those that the adapter's sketches were taken of (SKT-9, SKT-13).

    Args:
        adapter: a linear that it has no sketch of is not checked.
        linears: name of the sketch, and the weight [in, out] or bias [out] that it should be of; one after the other,
            so that at most one of them need be in memory.
        quantised: names of sketches whose weight the backbone stores quantised, which rounds more than a cast does.

    Raises:
        CompacterError: E403.
    """
    for name, array in linears:
        sketch = adapter.sketches.get(name)
        if sketch is None or matches(sketch, array, is_quantised=name in quantised):
            continue
        origin = adapter.config.backbone.id if adapter.config.backbone else None
        raise CompacterError(
            ErrorCode.E403,
            f"the backbone is not the one that the adapter was trained on: {name} does not match",
            value=f"correlation {correlation(sketch, array):.3f}",
            expected="the sketched values",
            remedy=f"Load the checkpoint the adapter was trained on{f' ({origin})' if origin else ''}.",
        )


def matches(sketch: Array, array: Array, *, is_quantised: bool) -> bool:
    """Whether the array is the sketched one (SKT-5) or, where it is quantised, comes from it (SKT-6)."""
    return correlation(sketch, array) >= THRESHOLD if is_quantised else is_sketched(sketch, array)


def check_overrides(adapter: Adapter, shapes: Mapping[str, Shape], norms: Collection[str]) -> None:
    """Every override names a norm or a bias of the backbone, with the right shape.

    Args:
        adapter: the adapter.
        shapes: of the backbone's parameters, by name.
        norms: names of those that are gains and biases of norms.

    Raises:
        CompacterError: E404 or E405.
    """
    for override in adapter.config.overrides:
        shape = adapter.tensors[f"{Part.OVERRIDE}.{override.name}"].shape
        found = shapes.get(override.name)
        if found != shape:
            raise CompacterError(
                ErrorCode.E404,
                f"override {override.name} with shape {shape}",
                value=found,
                expected="a tensor of the backbone with that name and shape",
            )
        if not _is_allowed(override, norms):
            raise CompacterError(
                ErrorCode.E405,
                f"override {override.name}",
                value=override.kind.value,
                expected="a norm or a bias of the backbone",
            )


def _is_allowed(override: Override, norms: Collection[str]) -> bool:
    match override.kind:
        case OverrideKind.BIAS:
            return override.name.endswith(".bias")
        case OverrideKind.NORM:
            return override.name in norms
        case OverrideKind.HEAD:
            return False
