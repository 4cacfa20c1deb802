"""Checkpoints of the paper's own code (rabeehk/compacter): a whole T5 with adapters, and the options of its training.

Its sublayers compute r + dropout(f + D(f)): the placement of Houlsby et al. on T5's self-attention and feed-forward
layers, never on cross-attention. A shared rule, and shared weights, stand in the file once at the root and once for
each projection that uses them. The norms train with the adapter; where they differ from the backbone's, they replace
them (`compacter_core.importers.remainder`).

`training_config.json` is what the user gave to the program, so options that it leaves out have that program's defaults.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from compacter_core.config import ATTACH_PRESETS, AdapterConfig, Backbone, Projection
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.importers.activations import activation_named
from compacter_core.importers.assembly import assemble, require_backbone
from compacter_core.importers.checkpoint import read_weights
from compacter_core.importers.options import ForeignOptions, read_options
from compacter_core.importers.remainder import take_remainder
from compacter_core.importers.result import ImportedAdapter, KnownBackbone
from compacter_core.importers.samplers import (
    SamplerKeys,
    check_widths,
    make_sites,
    method_label,
    require_rank_one,
    take_tensors,
)
from compacter_core.importers.state import SourceState
from compacter_core.layout import RULE, RULE_LEFT, RULE_RIGHT, Part, Side
from compacter_core.vocabulary import ProjectionKind, Stack, Sublayer

CONFIG_FILE: Final = "training_config.json"
WEIGHTS: Final = ("model.safetensors", "pytorch_model.bin")
MODEL_CLASS: Final = "T5ForConditionalGeneration"

_HEAD: Final = "lm_head"
_DEFAULTS: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "add_adapter_in_feed_forward": True,
        "add_adapter_in_self_attention": True,
        "add_layer_norm_after_adapter": True,
        "add_layer_norm_before_adapter": False,
        "bitfit": False,
        "factorized_phm": False,
        "factorized_phm_rule": False,
        "hypercomplex_adapters": False,
        "hypercomplex_division": 8,
        "intrinsic_model": False,
        "low_rank_adapters": False,
        "low_rank_rank": 1,
        "non_linearity": "swish",
        "phm_rank": 1,
        "prefix_tuning": False,
        "shared_W_phm": False,
        "shared_phm_rule": False,
        "task_adapter_in_decoder": True,
        "task_adapter_layers_decoder": None,
        "task_adapter_layers_encoder": None,
        "task_reduction_factor": 16,
        "train_task_adapters": False,
    }
)
_REFUSED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "add_layer_norm_after_adapter": "adds a norm of its own behind the bottleneck",
        "add_layer_norm_before_adapter": "adds a norm of its own before the bottleneck",
        "bitfit": "gives T5 biases that it does not have",
        "intrinsic_model": "trains one vector that is projected on all weights",
        "prefix_tuning": "trains a prefix of the input",
    }
)
_TRAINING: Final = frozenset(
    {"hypercomplex_nonlinearity", "learn_phm", "low_rank_w_init", "phm_c_init", "phm_init_range", "task_name"}
)
_KEY: Final = re.compile(
    r"(?:encoder|decoder)\.block\.[0-9]+\.layer\.[0-9]+\.adapter_controller\.adapters\.(?P<task>.+)"
    r"\.(?:down|up)_sampler\.\w+"
)
_SIDES: Final = MappingProxyType({Side.DOWN: "down_sampler", Side.UP: "up_sampler"})
_ROOTS: Final[Mapping[str, str]] = MappingProxyType(
    {f"{Part.SHARED}.{rule}": rule for rule in (RULE, RULE_LEFT, RULE_RIGHT)}
    | {
        f"{Part.SHARED}.{side}.{short}": f"W_{side}{short.removeprefix('W')}"
        for side in Side
        for short in ("W", "W_left", "W_right")
    }
)
_LAYERS: Final = MappingProxyType({Stack.ENCODER: (0, None, 1), Stack.DECODER: (0, 1, 2)})
"""Position in a block of self-attention, cross-attention and feed-forward layer."""


def from_compacter_paper(
    directory: Path | str,
    *,
    backbone: KnownBackbone | None = None,
    allow_pickle: bool = False,
    with_head: bool = True,
) -> ImportedAdapter:
    """The adapter in a directory that the paper's code wrote.

    Args:
        directory: with `training_config.json` and the weights of the whole model.
        backbone: the T5 that the training began with; what differs from it was trained, so it is needed.
        allow_pickle: read `pytorch_model.bin` too, which is all that the paper's code writes.
        with_head: check that the language model's head is the backbone's; otherwise it is passed over.

    Raises:
        CompacterError: E001 without a backbone; E401 for one that is no T5; E501 for what is no such directory; E502
            for what this format cannot express, and for a trained weight that is neither adapter nor norm; E503 for a
            rank of low-rank adapters above 1, which that code multiplies elementwise; E301 to E304 for tensors that are
            missing, unknown or of another shape; E306 for values that are not finite; E307 for names of one shared
            tensor that disagree; and the codes of `compacter_core.importers.checkpoint.read_state`.
    """
    folder = Path(directory)
    known = require_backbone(backbone, "the paper's checkpoint")
    if known.description.model_type != "t5":
        raise CompacterError(
            ErrorCode.E401, "model_type of the backbone", value=known.description.model_type, expected="t5"
        )
    options = _read_options(folder)
    weights = read_weights(folder, WEIGHTS, allow_pickle=allow_pickle)
    state = SourceState(weights, weights.place)
    task, keys = _find_sites(state, options, known.description)
    config = _configure(state, options, keys, task, known.description)
    tensors = take_tensors(state, config, keys)
    _refuse_unknown(state, known)
    rest = take_remainder(state, known, prefix="", model_class=MODEL_CLASS, with_head=with_head)
    config = replace(config, overrides=rest.overrides)
    adapter = assemble(config, {**tensors, **rest.tensors}, weights.floats().dtype(), known)
    return ImportedAdapter(adapter=adapter, notes=rest.notes)


def _read_options(folder: Path) -> ForeignOptions:
    """The options, without those that this format cannot express."""
    remedy = (
        "Give the output_dir of the training; a folder checkpoint-… in it needs a copy of its training_config.json."
    )
    options = read_options(folder, CONFIG_FILE, remedy=remedy, defaults=_DEFAULTS)
    for name, what in _REFUSED.items():
        if options.flag(name):
            raise CompacterError(
                ErrorCode.E502,
                f"the option {name} of {CONFIG_FILE} {what}, which this format cannot express",
                value=True,
                remedy="It is on unless the file turns it off." if name not in options.given else None,
            )
    if not options.flag("train_task_adapters"):
        raise CompacterError(
            ErrorCode.E502, f"train_task_adapters of {CONFIG_FILE}: nothing was trained as an adapter", expected="true"
        )
    return options


def _configure(
    state: SourceState, options: ForeignOptions, keys: SamplerKeys, task: str, backbone: Backbone
) -> AdapterConfig:
    projection = _projection(options)
    sites = make_sites(state, projection, keys)
    width = backbone.hidden_size // options.count("task_reduction_factor")
    check_widths(sites, width, f"the task_reduction_factor of {CONFIG_FILE}")
    return AdapterConfig(
        method=method_label(projection, sites),
        name=re.sub(r"[^A-Za-z0-9_-]", "_", task)[:64],
        hidden_size=backbone.hidden_size,
        projection=projection,
        sites=sites,
        non_linearity=activation_named(options.text("non_linearity"), CONFIG_FILE),
        attach=ATTACH_PRESETS["houlsby"],
        backbone=backbone,
        training={"compacter_paper": options.known(_TRAINING)},
    )


def _projection(options: ForeignOptions) -> Projection:
    if not options.flag("hypercomplex_adapters"):
        if not options.flag("low_rank_adapters"):
            return Projection(kind=ProjectionKind.DENSE)
        require_rank_one(options, "low_rank_rank")
        return Projection(kind=ProjectionKind.LOW_RANK, phm_rank=1)
    factored = options.flag("factorized_phm")
    return Projection(
        kind=ProjectionKind.LPHM if factored else ProjectionKind.PHM,
        phm_dim=options.count("hypercomplex_division"),
        phm_rank=options.count("phm_rank") if factored else None,
        shared_phm_rule=options.flag("shared_phm_rule"),
        factorized_phm_rule=options.flag("factorized_phm_rule"),
        shared_W=options.flag("shared_W_phm"),
    )


def _find_sites(state: SourceState, options: ForeignOptions, backbone: Backbone) -> tuple[str, SamplerKeys]:
    """The one task, and the module of each site that the options ask for."""
    tasks = sorted({match["task"] for key in state if (match := _KEY.fullmatch(key))})
    if len(tasks) != 1:
        raise CompacterError(
            ErrorCode.E502 if tasks else ErrorCode.E301,
            f"tasks with adapters in {state.place}",
            value=tasks,
            expected="one",
        )
    owners = {site: f"{layer}.adapter_controller.adapters.{tasks[0]}" for site, layer in _wanted(options, backbone)}
    return tasks[0], SamplerKeys(owners=owners, sides=_SIDES, roots=_ROOTS)


def _refuse_unknown(state: SourceState, backbone: KnownBackbone) -> None:
    """What is left is T5's own."""
    own = backbone.base_tensors()
    unknown = [key for key in state if key not in own and not key.startswith(f"{_HEAD}.")]
    if unknown:
        raise CompacterError(
            ErrorCode.E303,
            f"{state.place} has tensors that are neither T5's nor the adapter's by {CONFIG_FILE}",
            value=unknown,
            expected="none",
        )


def _wanted(options: ForeignOptions, backbone: Backbone) -> Iterator[tuple[str, str]]:
    """Site and name of its layer, of all that the options ask for, in the backbone's order."""
    asked = {
        Sublayer.SELF_ATTN: options.flag("add_adapter_in_self_attention"),
        Sublayer.CROSS_ATTN: False,
        Sublayer.FFN: options.flag("add_adapter_in_feed_forward"),
    }
    for stack, count in backbone.num_layers.items():
        if stack is Stack.DECODER and not options.flag("task_adapter_in_decoder"):
            continue
        layers = options.layers(f"task_adapter_layers_{stack}")
        for block in range(count) if layers is None else sorted(set(layers) & set(range(count))):
            for sublayer, position in zip(Sublayer, _LAYERS[stack], strict=True):
                if asked[sublayer]:
                    yield f"{stack}.{block}.{sublayer}", f"{stack}.block.{block}.layer.{position}"
