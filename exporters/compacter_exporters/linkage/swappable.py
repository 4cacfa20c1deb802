"""Open a backbone for one adapter at a time: its tensors become inputs of the graph that have defaults.

With the defaults the graph computes what the backbone computes, bit for bit (LNK-2). ONNX calls such inputs overridable
initialisers; ONNX Runtime also takes their values from an `.onnx_adapter` file. Every model of a directory has the
inputs of all of them, so that one file fits each: ONNX Runtime refuses tensors for inputs that a model lacks.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnx_ir as ir

from compacter_core.adapter import Adapter
from compacter_core.layout import Part
from compacter_core.linkage.description import Description
from compacter_core.linkage.kinds import Linkage
from compacter_core.linkage.swappable import SITE_TENSORS, part_input, site_input
from compacter_exporters.activations import emit_activation
from compacter_exporters.calls import emit_open_sublayer
from compacter_exporters.emitter import Emitter
from compacter_exporters.forms import Form
from compacter_exporters.graph import Constant
from compacter_exporters.linkage.insertion import insert, whole_bias
from compacter_exporters.linkage.opened import Place, Places
from compacter_exporters.linkage.opening import OpenReport, check_form, open_file
from compacter_exporters.linkage.swappable_head import open_head
from compacter_exporters.linkage.values import open_input
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
    check_form(Linkage.SWAPPABLE, form)
    opener = partial(open_swappable, sums_apart=sums_apart, form=form)
    return open_file(backbone, template, output, Linkage.SWAPPABLE, opener, sums_apart=sums_apart)


def open_swappable(
    models: Sequence[Places], description: Description, *, sums_apart: bool, form: Form = Form.AUTO
) -> None:
    """Open models that take the same adapters.

    Where sums are kept apart from norms, no session fuses the bias of a linear into a norm, and it may as well take
    up the adapter's: a sum of two vectors in the place of one over all tokens (LNK-21).
    In the form sublayer a call takes that sum (LNK-22).
    """
    dtype = ir.DataType.from_numpy(description.dtype.memory)
    defaults = {name: slots[0].constant for places in models for name, slots in places.slots.items()}
    for places in models:
        _open_slots(places, defaults)
        tensors = {site.id: _site_inputs(places, site.id, dtype) for site in description.template.sites}
        for place in places.sites():
            _open_site(places, place, tensors[place.site.id], sums_apart=sums_apart, form=form)
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


def _site_inputs(places: Places, site_id: str, dtype: ir.DataType) -> list[ir.Value]:
    d, k = places.template.config.hidden_size, f"{site_id}.k"
    shapes: tuple[tuple[int | str, ...], ...] = ((d, k), (k,), (k, d), (d,))
    return [
        open_input(
            places.model.graph,
            site_input(site_id, name),
            np.zeros([size if isinstance(size, int) else 0 for size in shape]),
            dtype,
            shape,
        )
        for name, shape in zip(SITE_TENSORS, shapes, strict=True)
    ]


def _open_site(places: Places, place: Place, tensors: Sequence[ir.Value], *, sums_apart: bool, form: Form) -> None:
    home, labels = places.model, {"compacter.site": place.site.id}
    down, down_bias, up, up_bias = tensors
    emitter = Emitter(place.graph, f"compacter/{place.name}", place.layer.dtype, labels, home=home.graph)
    opset = home.opset_imports.get("", 1)
    activation, last = places.template.config.non_linearity, place.layer.last_add
    if form is Form.SUBLAYER and place.reads_product and last is not None:
        given = [down, down_bias, up, whole_bias(emitter, place, last, up_bias)]
        emit_open_sublayer(home, emitter, place.layer, given, activation=activation, around=place.around)
        return
    in_bias = sums_apart and place.is_before_bias

    def delta(x: ir.Value) -> ir.Value:
        z = emitter.op("MatMul", [x, down], "down")
        z = emitter.op("Add", [z, down_bias], "down/biased")
        a = emit_activation(emitter, activation, z, opset)
        v = emitter.op("MatMul", [a, up], "up", like=x)
        return v if in_bias else emitter.op("Add", [v, up_bias], "up/biased", like=x)

    insert(emitter, place, delta, bias=up_bias if in_bias else None)
