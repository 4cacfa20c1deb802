"""A backbone's model with its places found, ready to be opened: sites, replaced tensors, head."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import onnx_ir as ir

from compacter_core.adapter import Adapter, Array, DType
from compacter_core.config import AdapterConfig, Attach, Site
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.layout import Part
from compacter_core.linkage.description import Description
from compacter_core.linkage.kinds import Linkage
from compacter_core.linkage.swappable import site_norms
from compacter_core.vocabulary import Input, NormStyle, Skip, Stack
from compacter_exporters.checks import Numbers
from compacter_exporters.emitter import Emitter
from compacter_exporters.graph import Slot
from compacter_exporters.heads import HeadLayer, check_count, check_head_input, head_layers
from compacter_exporters.linears import Linear
from compacter_exporters.loaded_graph import LoadedGraph
from compacter_exporters.overrides import override_slots
from compacter_exporters.present import Present
from compacter_exporters.sites import check_biases
from compacter_exporters.surroundings import Surroundings, surroundings_of

_TYPES: Final = frozenset({ir.DataType.DOUBLE, ir.DataType.FLOAT, ir.DataType.FLOAT16})


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """One site in the backbone.

    Args:
        site: the site.
        attach: its placement.
        layer: the sublayer's last linear.
        around: what follows it.
        graph: the graph it is in.
        call: which call of the layers it is in, where the backbone calls them several times.
    """

    site: Site
    attach: Attach
    layer: Linear
    around: Surroundings
    graph: ir.Graph
    call: int = 0

    @property
    def name(self) -> str:
        """What the names of its nodes begin with, behind what those of all do."""
        return name_of_call(self.site.id, self.call)

    @property
    def is_before_bias(self) -> bool:
        """Whether the adapter's output is added to the product m = a W, before the bias, instead of to h = m + b.

        All that optimisers fuse in the backbone is then still there to be fused.
        """
        return self.attach.skip is Skip.SUBLAYER_OUTPUT and self.layer.bias_add is not None

    @property
    def reads_product(self) -> bool:
        """Whether the adapter reads m; the bias of its down-projection then carries what is missing."""
        return self.is_before_bias and self.attach.input is Input.SUBLAYER_OUTPUT


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Everything of a backbone's model that an adapter changes.

    Args:
        model: the model, with one graph or several.
        template: the adapter that decides what is opened.
        present: its stacks in the graphs of the model.
        slots: where each replaced tensor is consumed: in one place of every graph that holds its stack, and of each
            call of the layers there.
        head: the layers of the head.
    """

    model: ir.Model
    template: Adapter
    present: Sequence[Present]
    slots: Mapping[str, Sequence[Slot]]
    head: Sequence[HeadLayer]

    @property
    def types(self) -> dict[str, ir.DataType]:
        """The type in which the graph takes what an adapter gives, by what it is for."""
        sites = {site_id: found.linear.dtype for one in self.present for site_id, found in one.sites.items()}
        norms = {name: slot.constant.dtype for name, slots in self.slots.items() for slot in slots}
        return {**sites, **norms, **{layer.name: layer.linear.dtype for layer in self.head}}

    @property
    def stacks(self) -> tuple[Stack, ...] | None:
        """The stacks in the model; None if these are all that the template has."""
        here = {site.stack for one in self.present for site in one.adapter.config.sites}
        everywhere = {site.stack for site in self.template.config.sites}
        return None if here == everywhere else tuple(stack for stack in Stack if stack in here)

    def emitter(self, place: Place) -> Emitter:
        """Of the nodes of one site."""
        labels = {"compacter.site": place.site.id}
        return Emitter(place.graph, f"compacter/{place.name}", place.layer.dtype, labels, home=self.model.graph)

    def sites(self) -> Iterator[Place]:
        """The sites, each as the graph is when it is asked for: what was done to one before may surround the next."""
        for one in self.present:
            for site_id in one.sites:
                yield _place(one, site_id)


def find_places(loaded: LoadedGraph, template: Adapter) -> Places:
    """Find in a backbone's model whatever an adapter changes.

    Raises:
        CompacterError: as `graft`; E605 for what cannot be opened.
    """
    _check_attach(template.config)
    slots: dict[str, list[Slot]] = {}
    for one in loaded.present:
        check_biases(one.sites, one.adapter)
        layers = {site_id: found.linear for site_id, found in one.sites.items()}
        for name, (slot, _) in override_slots(one.adapter, one.norms, layers).items():
            slots.setdefault(name, []).append(slot)
    head: list[HeadLayer] = []
    if template.config.head is not None:
        head = head_layers(loaded.model.graph, template.config.head)
        check_head_input(template, head)
        for layer in head:
            check_count(layer, template.config.head.shapes[f"{layer.name}.weight"][0])
    return Places(loaded.model, template, loaded.present, slots, head)


def describe(models: Sequence[Places], linkage: Linkage, *, has_calls: bool = False) -> Description:
    """The description of the models of one backbone, none of which is opened yet: all hold the same adapters.

    Args:
        models: each model's places.
        linkage: how they will be opened.
        has_calls: whether their sites will be calls.

    Raises:
        CompacterError: E605 for graphs that would take what an adapter gives in several types.
    """
    first, dtype = models[0], _common_type(models)
    biases = {
        f"bias.{place.site.id}": np.asarray(place.layer.bias, dtype.memory)
        for places in models
        for place in places.sites()
        if place.reads_product
    }
    config = first.template.config
    head = None if config.head is None else replace(config.head, labels=())
    return Description(
        linkage=linkage,
        has_calls=has_calls,
        template=replace(config, head=head, name="template", training=type(config.training)()),
        dtype=dtype,
        backbone={**first.template.sketches, **biases, **_replaced(models, linkage, dtype, has_calls=has_calls)},
    )


def _replaced(models: Sequence[Places], linkage: Linkage, dtype: DType, *, has_calls: bool) -> dict[str, Array]:
    """What stands where an adapter replaces nothing, in tensors that hold several: the backbone's own."""
    if linkage is Linkage.BANK:
        return backbone_tensors(models, dtype)
    norms = site_norms(models[0].template.config) if has_calls else {}
    if not norms:
        return {}
    kept = {f"{Part.OVERRIDE}.{name}" for names in norms.values() for name in names}
    return {name: array for name, array in backbone_tensors(models, dtype).items() if name in kept}


def _common_type(models: Sequence[Places]) -> DType:
    """The type of all tensors that an adapter gives (LNK-3)."""
    types = {name: dtype for places in models for name, dtype in places.types.items()}
    if len({*types.values()}) > 1 or not {*types.values()} <= _TYPES:
        raise CompacterError(
            ErrorCode.E605,
            "the backbone would take what an adapter gives in several types, or in one that NumPy lacks",
            value=", ".join(f"{name}: {dtype}" for name, dtype in types.items()),
            expected="sites, replaced tensors and head all in F64, all in F32 or all in F16",
            remedy="Use another precision, a template without overrides, or the linkage merged.",
        )
    return Numbers.of(next(iter(types.values()))).storage


def backbone_tensors(models: Sequence[Places], dtype: DType) -> dict[str, Array]:
    """What the backbone has in the places of replaced tensors and of the head, by part and name."""
    tensors: dict[str, Array] = {}
    for places in models:
        tensors |= {f"{Part.OVERRIDE}.{name}": slots[0].array().reshape(-1) for name, slots in places.slots.items()}
        for layer in places.head:
            tensors[f"{Part.HEAD}.{layer.name}.weight"] = np.asarray(layer.linear.values().T)
            if f"{layer.name}.bias" in head_shapes(places.template.config):
                tensors[f"{Part.HEAD}.{layer.name}.bias"] = np.asarray(layer.linear.bias_or_zero)
    return {name: np.ascontiguousarray(array, dtype.memory) for name, array in tensors.items()}


def name_of_call(site_id: str, call: int) -> str:
    """A name of a site in one call of the layers: the site's, and of the second call and those behind it its number."""
    return f"{site_id}/call{call + 1}" if call else site_id


def head_shapes(config: AdapterConfig) -> Mapping[str, tuple[int, ...]]:
    """The shapes of the head's tensors, none without a head."""
    return {} if config.head is None else config.head.shapes


def _place(present: Present, site_id: str) -> Place:
    config, found = present.adapter.config, present.sites[site_id]
    around = surroundings_of(site_id, found.linear.output, present.norms, config.backbone)
    return Place(found.site, config.attach_of(found.site), found.linear, around, present.region.graph, present.call)


def _check_attach(config: AdapterConfig) -> None:
    """Refuse a placement that drops the backbone's norm: without an adapter the graph would not be the backbone."""
    post_norm = config.backbone is None or config.backbone.norm_style is NormStyle.POST
    for site in config.sites:
        attach = config.attach_of(site)
        if post_norm and attach.skip is Skip.RESIDUAL_SUM:
            raise CompacterError(
                ErrorCode.E605,
                f"the placement of {site.id} leaves out the norm behind it, with an adapter or without",
                value=str(attach),
                expected="skip = sublayer_output or normed_sum",
                remedy="Use the linkage merged.",
            )
