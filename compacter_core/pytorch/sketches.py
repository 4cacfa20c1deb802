"""The sketches by which an adapter recognises a PyTorch backbone."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from compacter_core.adapter import Array
from compacter_core.compatibility import matches
from compacter_core.config import AdapterConfig
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.sketch import bias_name, correlation, sketch_indices, weight_name
from compacter_core.pytorch.binding_files import Binding
from compacter_core.pytorch.bindings import BoundBackbone, bind, weight_in_out
from compacter_core.pytorch.distributed import whole
from compacter_core.pytorch.quantised import is_known, is_quantised


def sketches_of(
    bound: BoundBackbone, config: AdapterConfig, original: Mapping[str, Array] | None = None
) -> dict[str, Array]:
    """Sketches of the linears of an adapter's sites, and of its head's pooler, by their name in the file.

    Args:
        bound: the backbone. A weight that it stores quantised is dequantised.
        config: of the adapter.
        original: sketches of the same backbone before it was quantised, to be taken instead.

    Raises:
        CompacterError: E211 for a site that the backbone lacks, E003 if a weight is quantised in a form that is not
            known here and is not among the originals, E403 if an original is of another weight.
    """
    sketches: dict[str, Array] = {}
    for name, linear in bound.sketched_linears(config).items():
        given = None if original is None else original.get(weight_name(name))
        if given is None:
            sketches[weight_name(name)] = _sample(weight_in_out(linear))
        else:
            _check_original(name, given, linear)
            sketches[weight_name(name)] = given
        if isinstance(linear.bias, nn.Parameter):
            sketches[bias_name(name)] = _sample(whole(linear.bias))
    return sketches


def sketch_backbone(model: nn.Module, config: AdapterConfig, *, binding: Binding | None = None) -> dict[str, Array]:
    """Sketches of a model, for an adapter that is to be attached to a quantised form of it.

    The adapter then fits the original as well; with sketches of the dequantised weights it fits only the quantised one.

    Args:
        model: the original, in floating point, with the head that the quantised one will have.
        config: of the adapter.
        binding: as for `attach`.

    Raises:
        CompacterError: E803 if there is no binding or the head is not known, E211 for a site that the model lacks.
    """
    bound = bind(model, binding)
    return sketches_of(bound, replace(config, backbone=bound.description, head=bound.task_head.describe()))


def _sample(tensor: Tensor) -> Array:
    """What `sketch_weight` and `sketch_bias` give, without moving more than those values off the device."""
    where = np.unravel_index(sketch_indices(tuple(tensor.shape)), tuple(tensor.shape))
    found = tensor[tuple(torch.from_numpy(index).to(tensor.device) for index in where)]
    return found.to("cpu", torch.float32).numpy()


def _check_original(name: str, original: Array, linear: nn.Module) -> None:
    if not is_known(linear):
        return
    found = _sample(weight_in_out(linear))
    if not matches(original, found, is_quantised=is_quantised(linear)):
        raise CompacterError(
            ErrorCode.E403,
            f"the sketch of {name} is of another weight",
            value=f"correlation {correlation(original, found):.3f}",
            expected="a sketch of the same model before it was quantised",
        )
