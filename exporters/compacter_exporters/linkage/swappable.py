"""Open a backbone for one adapter at a time: its tensors become inputs of the graph that have defaults.

With the defaults the graph computes what the backbone computes, bit for bit (LNK-2). ONNX calls such inputs overridable
initialisers; ONNX Runtime also takes their values from an `.onnx_adapter` file. Every model of a directory has the
inputs of all of them, so that one file fits each: ONNX Runtime refuses tensors for inputs that a model lacks.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import onnx_ir as ir

from compacter_core.adapter import Adapter
from compacter_core.layout import Part
from compacter_core.linkage.description import Description
from compacter_core.linkage.kinds import Linkage
from compacter_core.linkage.swappable import names_apart, part_input, site_input
from compacter_exporters.activations import emit_activation
from compacter_exporters.forms import Form
from compacter_exporters.graph import Constant
from compacter_exporters.linkage.insertion import insert
from compacter_exporters.linkage.opened import Place, Places
from compacter_exporters.linkage.opening import Opener, OpenReport, open_file
from compacter_exporters.linkage.swappable_calls import call_sites
from compacter_exporters.linkage.swappable_head import open_head
from compacter_exporters.linkage.values import open_input, open_zeros, type_of
from compacter_exporters.rewire import replace_input


def graft_swappable(
    backbone: Path, template: Path | Adapter, output: Path, *, sums_apart: bool = False, form: Form = Form.AUTO
) -> OpenReport:
    """Write `output`: the backbone, with the places of the template open for adapters.

    Args:
        backbone: an exported ONNX model.
        template: an adapter, its file or directory; it decides sites, placement, activation, replaced norms and head.
            Its values do not matter: it is put in like any other adapter.
        output: the .onnx file to write; in the backbone's directory both share the external data.
        sums_apart: whether residual sums are kept from being fused with norms (`optimise.sums`).
        form: auto, or sublayer for calls of a function, for which there are kernels.

    Raises:
        CompacterError: as `graft`, E605 for placements and norms that cannot be opened, and E001 for another form.
    """
    return open_file(backbone, template, output, swappable(sums_apart=sums_apart), sums_apart=sums_apart, form=form)


def swappable(*, sums_apart: bool) -> Opener:
    """How the linkage opens models; `sums_apart` as `graft_swappable`."""
    return Opener(Linkage.SWAPPABLE, partial(_open_models, sums_apart=sums_apart), _can_call)


def _can_call(places: Places) -> bool:
    """Whether at every site a call can take the place of a bias (LNK-22)."""
    return all(place.reads_product and place.layer.last_add is not None for place in places.sites())


def _open_models(models: Sequence[Places], description: Description, *, sums_apart: bool) -> None:
    """Open models that take the same adapters.

    Where sums are kept apart from norms, no session fuses the bias of a linear into a norm, and it may as well take
    up the adapter's: a sum of two vectors in the place of one over all tokens (LNK-21).
    """
    defaults = {name: slots[0].constant for places in models for name, slots in places.slots.items()}
    for places in models:
        _open_slots(places, {name: defaults[name] for name in names_apart(description, defaults)})
        if description.has_calls:
            call_sites(places, description)
        else:
            tensors = {site.id: _site_inputs(places, site.id, description) for site in description.template.sites}
            for place in places.sites():
                _open_site(places, place, tensors[place.site.id], sums_apart=sums_apart)
        open_head(places)


def _open_slots(places: Places, defaults: Mapping[str, Constant]) -> None:
    """Before the sites, since some placements copy norms."""
    for name, constant in defaults.items():
        default = constant.exact()
        value = open_input(
            places.model.graph, part_input(Part.OVERRIDE, name), default, constant.dtype, [*default.shape]
        )
        for slot in places.slots.get(name, ()):
            replace_input(slot.node, slot.index, value)


def _site_inputs(places: Places, site_id: str, description: Description) -> dict[str, ir.Value]:
    """The inputs of a site by their names within it."""
    d, k = description.template.hidden_size, f"{site_id}.k"
    shapes = {"down.weight": (d, k), "down.bias": (k,), "up.weight": (k, d), "up.bias": (d,)}
    dtype = type_of(description)
    return {
        name: open_zeros(places.model.graph, site_input(site_id, name), dtype, shape) for name, shape in shapes.items()
    }


def _open_site(places: Places, place: Place, tensors: Mapping[str, ir.Value], *, sums_apart: bool) -> None:
    emitter, opset = places.emitter(place), places.model.graph.opset_imports.get("", 1)
    activation, in_bias = places.template.config.non_linearity, sums_apart and place.is_before_bias

    def delta(x: ir.Value) -> ir.Value:
        z = emitter.op("MatMul", [x, tensors["down.weight"]], "down")
        z = emitter.op("Add", [z, tensors["down.bias"]], "down/biased")
        a = emit_activation(emitter, activation, z, opset)
        v = emitter.op("MatMul", [a, tensors["up.weight"]], "up", like=x)
        return v if in_bias else emitter.op("Add", [v, tensors["up.bias"]], "up/biased", like=x)

    insert(emitter, place, delta, bias=tensors["up.bias"] if in_bias else None)
