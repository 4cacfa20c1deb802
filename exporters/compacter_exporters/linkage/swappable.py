"""Open a backbone for one adapter at a time: its tensors become inputs of the graph that have defaults.

With the defaults the graph computes what the backbone computes, bit for bit (LNK-2). ONNX calls such inputs overridable
initialisers; ONNX Runtime also takes their values from an `.onnx_adapter` file.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from compacter_core.adapter import Adapter, Array
from compacter_core.format.reader import load_adapter
from compacter_core.layout import Part
from compacter_core.linkage.description import Description
from compacter_core.linkage.kinds import Linkage
from compacter_core.linkage.swappable import part_input, site_input
from compacter_exporters.activations import emit_activation
from compacter_exporters.emitter import Emitter
from compacter_exporters.linkage.insertion import insert
from compacter_exporters.linkage.opened import Place, Places, describe, open_backbone
from compacter_exporters.linkage.swappable_head import open_head
from compacter_exporters.linkage.values import open_input
from compacter_exporters.rewire import replace_input
from compacter_exporters.saving import save_beside


@dataclass(frozen=True, slots=True)
class OpenReport:
    """What was opened.

    Args:
        linkage: swappable or bank.
        output: the model written.
        sites: the ids of the sites.
        inputs: names of the inputs for adapters.
        fingerprint: of the graph; adapters packed for it carry it.
        model_bytes: size of the .onnx file, external data not counted.
        data_files: external data files of the model, by name.
        shared: whether the model shares them with the backbone.
    """

    linkage: str
    output: str
    sites: tuple[str, ...]
    inputs: tuple[str, ...]
    fingerprint: str
    model_bytes: int
    data_files: tuple[str, ...]
    shared: bool

    def as_dict(self) -> dict[str, object]:
        """The report as JSON-compatible fields."""
        return asdict(self)


def graft_swappable(backbone: Path, template: Path | Adapter, output: Path) -> OpenReport:
    """Write `output`: the backbone, with the places of the template open for adapters.

    Args:
        backbone: an exported ONNX model.
        template: an adapter, its file or directory; it decides sites, placement, activation, replaced norms and head.
            Its values do not matter: it is put in like any other adapter.
        output: the .onnx file to write; in the backbone's directory both share the external data.

    Raises:
        CompacterError: as `graft`, and E605 for placements and norms that cannot be opened.
    """
    loaded = template if isinstance(template, Adapter) else load_adapter(template)
    places = open_backbone(Path(backbone), loaded)
    description = describe(places, Linkage.SWAPPABLE, {})
    opened = len(places.model.graph.inputs)
    # Before the sites, since some placements copy norms.
    _open_slots(places)
    for place in places.sites():
        _open_site(places, place)
    open_head(places)
    return write_open(places.model, description, Path(backbone), Path(output), opened=opened)


def write_open(model: ir.Model, description: Description, backbone: Path, output: Path, *, opened: int) -> OpenReport:
    """Write an opened model, whose inputs from number `opened` on are for adapters."""
    model.graph.sort()
    model.metadata_props.update(description.as_metadata())
    saved = save_beside(model, backbone, output)
    return OpenReport(
        linkage=description.linkage.value,
        output=str(output),
        sites=tuple(site.id for site in description.template.sites),
        inputs=tuple(str(value.name) for value in model.graph.inputs[opened:]),
        fingerprint=description.fingerprint,
        model_bytes=saved.model_bytes,
        data_files=saved.data_files,
        shared=saved.shared,
    )


def _open_site(places: Places, place: Place) -> None:
    home, dtype = places.model.graph, place.layer.dtype
    d, k, site_id = places.template.config.hidden_size, f"{place.site.id}.k", place.site.id

    def tensor(name: str, default: Array, *shape: int | str) -> ir.Value:
        return open_input(home, site_input(site_id, name), default, dtype, shape)

    down = tensor("down.weight", np.zeros((d, 0)), d, k)
    down_bias = tensor("down.bias", np.zeros(0), k)
    up = tensor("up.weight", np.zeros((0, d)), k, d)
    up_bias = tensor("up.bias", np.zeros(d), d)
    emitter = Emitter(place.graph, f"compacter/{site_id}", dtype, {"compacter.site": site_id}, home=home)
    opset = home.opset_imports.get("", 1)

    def delta(x: ir.Value) -> ir.Value:
        z = emitter.op("MatMul", [x, down], "down")
        z = emitter.op("Add", [z, down_bias], "down/biased")
        a = emit_activation(emitter, places.template.config.non_linearity, z, opset)
        v = emitter.op("MatMul", [a, up], "up", like=x)
        return emitter.op("Add", [v, up_bias], "up/biased", like=x)

    insert(emitter, place, delta)


def _open_slots(places: Places) -> None:
    for name, slot in places.slots.items():
        constant = slot.constant
        default = slot.array()
        value = open_input(
            places.model.graph, part_input(Part.OVERRIDE, name), default, constant.dtype, [*default.shape]
        )
        replace_input(slot.node, slot.index, value)
