"""Does an adapter fit a backbone? Structure, weights and overrides are checked before anything is changed."""

from torch import nn

from compacter_core.adapter import Adapter
from compacter_core.config import AdapterConfig, Backbone, Head
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.sketch import bias_name, correlation, is_sketched, weight_name
from compacter_core.pytorch.bindings import BoundBackbone
from compacter_core.pytorch.convert import view_array
from compacter_core.vocabulary import OverrideKind


def check_structure(expected: Backbone | None, actual: Backbone) -> None:
    """Model type, sizes and norm style.

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


def check_weights(adapter: Adapter, bound: BoundBackbone) -> None:
    """The backbone's weights are those that the adapter's sketches were taken of.

    A site without a sketch is not checked.

    Raises:
        CompacterError: E403.
    """
    for name, linear in bound.sketched_linears(adapter.config).items():
        arrays = {weight_name(name): view_array(linear.get_parameter("weight")).T}
        if isinstance(linear.bias, nn.Parameter):
            arrays[bias_name(name)] = view_array(linear.bias)
        for sketch_name, array in arrays.items():
            sketch = adapter.sketches.get(sketch_name)
            if sketch is None or is_sketched(sketch, array):
                continue
            origin = adapter.config.backbone.id if adapter.config.backbone else None
            raise CompacterError(
                ErrorCode.E403,
                f"the backbone is not the one that the adapter was trained on: {sketch_name} does not match",
                value=f"correlation {correlation(sketch, array):.3f}",
                expected="the sketched values",
                remedy=f"Load the checkpoint the adapter was trained on{f' ({origin})' if origin else ''}.",
            )


def check_overrides(adapter: Adapter, bound: BoundBackbone) -> None:
    """Every override names a norm or a bias of the backbone, with the right shape.

    Raises:
        CompacterError: E404 or E405.
    """
    parameters = dict(bound.base.named_parameters())
    norms = bound.norm_parameters()
    for override in adapter.config.overrides:
        array = adapter.tensors[f"override.{override.name}"]
        found = parameters.get(override.name)
        if found is None or tuple(found.shape) != array.shape:
            raise CompacterError(
                ErrorCode.E404,
                f"override {override.name} with shape {array.shape}",
                value=None if found is None else tuple(found.shape),
                expected="a tensor of the backbone with that name and shape",
            )
        is_bias = override.kind is OverrideKind.BIAS and override.name.endswith(".bias")
        if not is_bias and not (override.kind is OverrideKind.NORM and override.name in norms):
            raise CompacterError(
                ErrorCode.E405,
                f"override {override.name}",
                value=override.kind.value,
                expected="a norm or a bias of the backbone",
            )


def check_head(wanted: Head | None, bound: BoundBackbone) -> None:
    """The model has the adapter's head, with as many labels.

    Raises:
        CompacterError: E404, or E803 for a class of model whose head is not known.
    """
    if wanted is None:
        return
    found = bound.head(with_pooler=wanted.pooler is None)
    if found is None or found.layers != wanted.layers or dict(found.shapes) != dict(wanted.shapes):
        raise CompacterError(
            ErrorCode.E404,
            f"the model has another head than the adapter's ({wanted.task})",
            value=None if found is None else dict(found.shapes),
            expected=str(dict(wanted.shapes)),
            remedy=f"Load the model for {wanted.task} with num_labels={len(wanted.labels) or 1}.",
        )


def check_same_adapter(attached: AdapterConfig, loaded: AdapterConfig) -> None:
    """Both configurations build the same modules, so that one's tensors can go into the other's.

    Raises:
        CompacterError: E001.
    """
    for what in ("hidden_size", "projection", "sites", "non_linearity", "bias_down", "bias_up", "scaling", "attach"):
        have, got = getattr(attached, what), getattr(loaded, what)
        if have != got:
            raise CompacterError(
                ErrorCode.E001,
                f"{what} of the loaded adapter differs from the attached one",
                value=got,
                expected=str(have),
                remedy="Detach the present adapter and use from_pretrained.",
            )
