"""Does an adapter fit a PyTorch backbone? Everything is checked before anything is changed."""

from collections.abc import Iterator

import numpy as np
from torch import nn

from compacter_core import compatibility
from compacter_core.adapter import Adapter, Array
from compacter_core.config import AdapterConfig, Head
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.sketch import bias_name, weight_name
from compacter_core.pytorch.bindings import BoundBackbone, weight_in_out
from compacter_core.pytorch.convert import view_array


def check_weights(adapter: Adapter, bound: BoundBackbone) -> None:
    """The backbone's weights are those that the adapter's sketches were taken of.

    A site without a sketch is not checked.

    Raises:
        CompacterError: E403.
    """
    compatibility.check_weights(adapter, _sketched_arrays(adapter, bound))


def check_overrides(adapter: Adapter, bound: BoundBackbone) -> None:
    """Every override names a norm or a bias of the backbone, with the right shape.

    Raises:
        CompacterError: E404 or E405.
    """
    shapes = {name: tuple(parameter.shape) for name, parameter in bound.base.named_parameters()}
    compatibility.check_overrides(adapter, shapes, bound.norm_parameters())


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


def _sketched_arrays(adapter: Adapter, bound: BoundBackbone) -> Iterator[tuple[str, Array]]:
    """The weights [in, out] and biases that sketches are of, by the sketch's name, made one at a time.

    An absent bias counts as zeros, as in a graph, whose exporter may have dropped it for that reason.
    """
    for name, linear in bound.sketched_linears(adapter.config).items():
        weight = view_array(weight_in_out(linear))
        yield weight_name(name), weight
        if isinstance(linear.bias, nn.Parameter):
            yield bias_name(name), view_array(linear.bias)
        else:
            yield bias_name(name), np.zeros(weight.shape[1], dtype=np.float32)
