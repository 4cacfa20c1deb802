"""Whether an adapter belongs on a given backbone, before it is put there (specs, file format, backbone).

A framework's back end describes the backbone it has; the comparison itself is the same for all of them.
"""

from collections.abc import Callable, Mapping

from compacter_core.adapter import Adapter, Array
from compacter_core.config import Backbone
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.sketch import THRESHOLD, bias_name, correlation, weight_name
from compacter_core.layout import Part, Shape

_REMEDY = "Load the backbone that the adapter was trained on: {}."


def check_backbone(adapter: Adapter, actual: Backbone) -> None:
    """Compare architecture and sizes with those the adapter was trained on, as far as the adapter states them.

    Raises:
        CompacterError: E401 for another type, hidden size or number of layers; E402 for another norm style.
    """
    expected = adapter.config.backbone
    if expected is None:
        _require(ErrorCode.E401, adapter, "hidden_size", actual.hidden_size, adapter.config.hidden_size)
        return
    _require(ErrorCode.E401, adapter, "model_type", actual.model_type, expected.model_type)
    _require(ErrorCode.E401, adapter, "hidden_size", actual.hidden_size, expected.hidden_size)
    _require(ErrorCode.E401, adapter, "num_layers", dict(actual.num_layers), dict(expected.num_layers))
    _require(ErrorCode.E402, adapter, "norm_style", actual.norm_style, expected.norm_style)


def check_weights(adapter: Adapter, linear: Callable[[str], tuple[Array, Array | None]]) -> None:
    """Compare every site's Linear with the adapter's sketches, where it has any.

    Args:
        adapter: the adapter.
        linear: site id to the weight [in, out] and the bias [out], if there is one; only a few entries are read.

    Raises:
        CompacterError: E403 if a weight or bias is not the sketched one.
    """
    for site in adapter.config.sites:
        for name, array in zip((weight_name(site.id), bias_name(site.id)), linear(site.id), strict=True):
            sketch = adapter.sketches.get(name)
            if sketch is None:
                continue
            likeness = 0.0 if array is None else correlation(sketch, array)
            if likeness < THRESHOLD:
                raise CompacterError(
                    ErrorCode.E403,
                    f"the Linear of site {site.id} is not the one the adapter was trained on",
                    value=f"{name.rpartition('.')[2]} correlation {likeness:.3f}",
                    expected=f"at least {THRESHOLD}",
                    remedy=_REMEDY.format(_origin(adapter)),
                )


def check_overrides(adapter: Adapter, shapes: Mapping[str, Shape]) -> None:
    """Compare the overrides with the backbone's tensors.

    Args:
        adapter: the adapter.
        shapes: name to shape of the backbone's tensors.

    Raises:
        CompacterError: E404 if an override names no tensor, or one of another shape.
    """
    for name, array in adapter.part(Part.OVERRIDE).items():
        if shapes.get(name) != array.shape:
            raise CompacterError(
                ErrorCode.E404,
                f"override {name}",
                value=array.shape,
                expected=f"shape {shapes[name]}" if name in shapes else "the name of a tensor of the backbone",
                remedy=_REMEDY.format(_origin(adapter)),
            )


def _require(code: ErrorCode, adapter: Adapter, what: str, value: object, expected: object) -> None:
    if value != expected:
        raise CompacterError(
            code,
            f"{what} of the backbone",
            value=value,
            expected=str(expected),
            remedy=_REMEDY.format(_origin(adapter)),
        )


def _origin(adapter: Adapter) -> str:
    backbone = adapter.config.backbone
    return (backbone.id or backbone.model_type) if backbone else f"hidden_size {adapter.config.hidden_size}"
