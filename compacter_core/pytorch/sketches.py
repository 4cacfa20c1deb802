"""The sketches by which an adapter recognises a PyTorch backbone."""

from torch import nn

from compacter_core.adapter import Array
from compacter_core.config import AdapterConfig
from compacter_core.format.sketch import bias_name, sketch_bias, sketch_weight, weight_name
from compacter_core.pytorch.bindings import BoundBackbone, weight_in_out
from compacter_core.pytorch.convert import view_array


def sketches_of(bound: BoundBackbone, config: AdapterConfig) -> dict[str, Array]:
    """Sketches of the linears of an adapter's sites, and of its head's pooler, by their name in the file.

    Raises:
        CompacterError: E211 for a site that the backbone lacks.
    """
    sketches: dict[str, Array] = {}
    for name, linear in bound.sketched_linears(config).items():
        sketches[weight_name(name)] = sketch_weight(view_array(weight_in_out(linear)))
        if isinstance(linear.bias, nn.Parameter):
            sketches[bias_name(name)] = sketch_bias(view_array(linear.bias))
    return sketches
