"""Does an adapter fit a PyTorch backbone? Everything is checked before anything is changed."""

from collections.abc import Iterator, Mapping

import numpy as np

from compacter_core import compatibility
from compacter_core.adapter import Adapter, Array
from compacter_core.config import AdapterConfig, Head
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.sketch import weight_name
from compacter_core.pytorch.bindings import BoundBackbone
from compacter_core.pytorch.distributed import whole_shape
from compacter_core.pytorch.quantised import is_quantised
from compacter_core.vocabulary import Pooling


def check_fit(adapter: Adapter, bound: BoundBackbone, sketches: Mapping[str, Array]) -> None:
    """The adapter was made for this backbone, and for this head.

    Args:
        adapter: to be put into the model.
        bound: the model; its type and sizes are the adapter's (`check_structure`).
        sketches: of the linears that the adapter recognises the backbone by, from when no adapter was active.

    Raises:
        CompacterError: E403 to E405, or E803 for a class of model whose head is not known.
    """
    linears = bound.sketched_linears(adapter.config)
    quantised = {weight_name(name) for name, linear in linears.items() if is_quantised(linear)}
    compatibility.check_weights(adapter, _samples(adapter, sketches), quantised=quantised)
    check_overrides(adapter, bound)
    check_head(adapter.config.head, bound)


def check_overrides(adapter: Adapter, bound: BoundBackbone) -> None:
    """Every override names a norm or a bias of the backbone, with the right shape.

    Raises:
        CompacterError: E404 or E405.
    """
    shapes = {name: whole_shape(parameter) for name, parameter in bound.base.named_parameters()}
    compatibility.check_overrides(adapter, shapes, bound.norm_parameters())


def check_head(wanted: Head | None, bound: BoundBackbone) -> None:
    """The model has the adapter's head, with as many labels.

    Raises:
        CompacterError: E404, or E803 for a class of model whose head is not known.
    """
    if wanted is None:
        return
    found = bound.task_head.like(wanted)
    if found is None or found.layers != wanted.layers or dict(found.shapes) != dict(wanted.shapes):
        raise CompacterError(
            ErrorCode.E404,
            f"the model has another head than the adapter's ({wanted.task})",
            value=None if found is None else dict(found.shapes),
            expected=str(dict(wanted.shapes)),
            remedy=f"Load the model for {wanted.task} with num_labels={len(wanted.labels) or 1}.",
        )


def check_replaceable(config: AdapterConfig, bound: BoundBackbone) -> None:
    """The norms, biases and the head that the adapter replaces can take its values.

    Raises:
        CompacterError: E003 if one of them is quantised.
    """
    replaced = {one.name: bound.base.get_parameter(one.name) for one in config.overrides}
    for name, parameter in (replaced | bound.task_head.parameters(config.head)).items():
        if not parameter.is_floating_point():
            raise CompacterError(
                ErrorCode.E003,
                f"{name} is quantised, so that it can be neither trained nor replaced",
                value=parameter.dtype,
                expected="a floating-point type",
                remedy="Keep its module out of the quantisation (llm_int8_skip_modules), or attach without the head.",
            )


def check_same_adapter(attached: AdapterConfig, loaded: AdapterConfig) -> None:
    """Both configurations build the same modules, so that one's tensors can go into the other's.

    Raises:
        CompacterError: E001.
    """
    names = ("hidden_size", "projection", "sites", "non_linearity", "bias_down", "bias_up", "scaling", "attach")
    pairs = {name: (getattr(attached, name), getattr(loaded, name)) for name in names}
    for what, (have, got) in {**pairs, "head.pooling": (_pooling(attached), _pooling(loaded))}.items():
        if have != got:
            raise CompacterError(
                ErrorCode.E001,
                f"{what} of the loaded adapter differs from the attached one",
                value=got,
                expected=str(have),
                remedy="Detach the present adapter and use from_pretrained.",
            )


def _pooling(config: AdapterConfig) -> Pooling | None:
    return None if config.head is None else config.head.pooling


def _samples(adapter: Adapter, sketches: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    """What the backbone has at the positions of each of the adapter's sketches: a sketch's own sketch is itself.

    An absent bias counts as zeros, as in a graph, whose exporter may have dropped it for that reason.
    """
    for name, sketch in adapter.sketches.items():
        yield name, sketches.get(name, np.zeros_like(sketch))
