"""A directory that AdapterHub saved, as an adapter of this format."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from compacter_core.adapter import Array, DType
from compacter_core.config import ATTACH_PRESETS, AdapterConfig, Attach, Projection, Site
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.importers.adapterhub.files import (
    WEIGHTS,
    HubConfig,
    read_config,
    read_head_weights,
    read_interface,
    read_json,
)
from compacter_core.importers.adapterhub.heads import HEAD_CONFIG_FILE, read_head
from compacter_core.importers.adapterhub.options import CONFIG_FILE
from compacter_core.importers.adapterhub.plan import Plan, make_plan
from compacter_core.importers.adapterhub.tensors import (
    activation_of,
    bottleneck_size,
    projection_of,
    take_tensors,
    tensor_keys,
)
from compacter_core.importers.assembly import assemble
from compacter_core.importers.checkpoint import read_state, read_weights
from compacter_core.importers.heads import ImportedHead
from compacter_core.importers.result import ImportedAdapter, KnownBackbone
from compacter_core.importers.state import SourceState
from compacter_core.importers.stored import StoredTensors
from compacter_core.layout import Part
from compacter_core.vocabulary import ProjectionKind, ScalingKind, Sublayer

_LOST_RULE: Final = (
    "AdapterHub does not save the shared tensors of models without a base-model prefix (BertModel, "
    "T5ForConditionalGeneration), and loads random ones in their place. While the model is in memory, save them with "
    'safetensors.torch.save_file(dict(model.base_model.shared_parameters[NAME]), "shared.safetensors") and give that '
    "file as --shared-parameters."
)
_OUTSIDE_NAMES: Final = re.compile(r"[^A-Za-z0-9_-]")
_OLD_OWNERS: Final = re.compile(r"\b(?:attention|layer)_text_(?:task|lang)_adapters\b")


def from_adapterhub(
    directory: Path | str,
    *,
    backbone: KnownBackbone | None = None,
    allow_pickle: bool = False,
    with_head: bool = True,
    shared_parameters: Path | None = None,
) -> ImportedAdapter:
    """The adapter in a directory that `save_adapter` of AdapterHub wrote.

    Args:
        directory: with `adapter_config.json` and the weights.
        backbone: what the adapter was trained on. With it, the result recognises its backbone and can be grafted, and
            the checkpoint is checked for completeness; heads and plugin models need it.
        allow_pickle: read `.bin` files too.
        with_head: take the head over, if one was saved.
        shared_parameters: safetensors file with shared tensors that the checkpoint lacks, named `phm_rule` and so on.

    Raises:
        CompacterError: E501 for what is no such directory, E502 for what this format cannot express, E503 for what that
            library computes wrongly, E302 for a shared rule that it lost, E301, E303, E304, E306 and E307 for tensors
            that are missing, unknown, of another shape, not finite or contradictory, E401 for another backbone, E001 if
            the backbone is needed, and the codes of `compacter_core.importers.checkpoint.read_state`.
    """
    folder = Path(directory)
    config = read_config(folder)
    _check_backbone(config, backbone)
    weights = read_weights(folder, WEIGHTS, allow_pickle=allow_pickle)
    state = SourceState(_modern(weights), weights.place)
    plan = make_plan(config, read_interface(folder), state, backbone)
    if shared_parameters is not None:
        _supply(state, read_state(shared_parameters), plan.shared)
    result, notes = _configure(config, state, plan, backbone)
    tensors = take_tensors(state, tensor_keys(result, plan.owners, config.name, plan.shared), _LOST_RULE)
    state.finish()
    head_weights = read_head_weights(folder, allow_pickle=allow_pickle) if with_head else None
    head = _head(head_weights, read_json(folder, HEAD_CONFIG_FILE) if head_weights else {}, backbone)
    dtype = _common({weights.dtype()} | ({head_weights.dtype()} if head_weights and head.tensors else set()))
    own = {**tensors, **{f"{Part.HEAD}.{name}": array for name, array in head.tensors.items()}}
    adapter = assemble(replace(result, head=head.head), own, dtype, backbone)
    return ImportedAdapter(adapter=adapter, notes=(*notes, *head.notes))


def _configure(
    config: HubConfig, state: SourceState, plan: Plan, backbone: KnownBackbone | None
) -> tuple[AdapterConfig, list[str]]:
    """The configuration without a head, and notes."""
    options = config.options
    projection = projection_of(options)
    activation, notes = activation_of(options, config.version)
    usual = next(iter(plan.attach.values()))
    sites = []
    for site_id, owner in plan.owners.items():
        k = bottleneck_size(state, projection, owner, config.name, plan.shared)
        _check_width(site_id, k, plan.widths.get(site_id, k))
        attach = plan.attach[site_id]
        sites.append(Site(id=site_id, bottleneck_size=k, attach=None if attach == usual else attach))
    name = _OUTSIDE_NAMES.sub("_", config.name)[:64] or "adapter"
    if name != config.name:
        notes.append(f"the adapter's name {config.name!r} became {name}, since names are [A-Za-z0-9_-]{{1,64}}")
    if backbone is None:
        notes.append("without the backbone it cannot be checked that no layer is missing")
    has_bias = options.phm_bias or not options.phm_layer
    result = AdapterConfig(
        method=_label(projection, sites, usual),
        name=name,
        hidden_size=config.hidden_size,
        projection=projection,
        sites=tuple(sites),
        non_linearity=activation,
        bias_down=has_bias,
        bias_up=has_bias,
        scaling=ScalingKind(options.scaling) if isinstance(options.scaling, str) else options.scaling,
        attach=usual,
        backbone=None if backbone is None else backbone.description,
        training={"adapterhub": {"version": config.version, **options.training}},
    )
    return result, notes


def _head(weights: StoredTensors | None, config: Mapping[str, Any], backbone: KnownBackbone | None) -> ImportedHead:
    if weights is None:
        return ImportedHead(None, {})
    if backbone is None:
        raise CompacterError(
            ErrorCode.E001,
            "the adapter was saved with a head, which cannot be placed without the backbone",
            value=weights.place,
            remedy="Give the backbone (--backbone), or leave the head out (--without-head).",
        )
    return read_head(SourceState(weights, weights.place), config, backbone)


def _check_backbone(config: HubConfig, backbone: KnownBackbone | None) -> None:
    if backbone is None:
        return
    actual = backbone.description
    for what, wanted, found in (
        ("model_type", config.model_type, actual.model_type),
        ("hidden_size", config.hidden_size, actual.hidden_size),
    ):
        if wanted != found:
            raise CompacterError(
                ErrorCode.E401, f"{what} of the backbone", value=found, expected=f"{wanted}, as {CONFIG_FILE} says"
            )


def _check_width(site_id: str, k: int, expected: int) -> None:
    if k != expected:
        raise CompacterError(
            ErrorCode.E304,
            f"width of the bottleneck at {site_id}",
            value=k,
            expected=f"{expected}, by the reduction_factor of {CONFIG_FILE}",
        )


def _modern(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Tensors under their present names; adapter-transformers 1 told task from language adapters."""
    renamed: dict[str, Array] = {}
    for key, array in tensors.items():
        modern = _OLD_OWNERS.sub("adapters", key)
        if modern in renamed:
            raise CompacterError(ErrorCode.E307, "two tensors of the checkpoint have one meaning", value=modern)
        renamed[modern] = array
    return renamed


def _supply(state: SourceState, supplied: Mapping[str, Array], shared: str) -> None:
    """Adds shared tensors that the checkpoint lacks.

    Raises:
        CompacterError: E307 if the checkpoint has one with other values.
    """
    for key, array in supplied.items():
        name = f"{shared}{key.rpartition('.')[2]}"
        if name in state and not np.array_equal(state.peek(name), array):
            raise CompacterError(ErrorCode.E307, f"{key} that was supplied differs from {name} of {state.place}")
        state.add(name, array)


def _common(dtypes: set[DType]) -> DType:
    """The smallest type of the file that holds all of these exactly."""
    if len(dtypes) == 1:
        return next(iter(dtypes))
    return DType.F64 if DType.F64 in dtypes else DType.F32


def _label(projection: Projection, sites: list[Site], attach: Attach) -> str:
    """The method's name; it decides nothing."""
    if projection.kind is ProjectionKind.LPHM:
        return "compacter++" if all(site.sublayer is Sublayer.FFN for site in sites) else "compacter"
    if projection.kind is ProjectionKind.PHM:
        return "phm_adapter"
    presets = {preset: name for name, preset in ATTACH_PRESETS.items()} | {ATTACH_PRESETS["houlsby"]: "adapter"}
    return presets.get(attach, "adapter")
