"""Adapters that OpenDelta saved: `config.json` and `pytorch_model.bin` of `save_finetuned`.

Three of its delta types are bottleneck adapters behind a linear: compacter, adapter and low_rank_adapter. Each replaces
the output f of its module by f + D(f), before the dropout and the norm: the placement of Houlsby et al. A rule belongs
to one projection; OpenDelta cannot share it. Its other delta types are no such adapters and are refused.

The file holds whatever trained, or the whole model if nothing was frozen (`compacter_core.importers.remainder`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

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
from compacter_core.layout import Side
from compacter_core.vocabulary import Activation, ProjectionKind, Sublayer

CONFIG_FILE: Final = "config.json"
WEIGHTS: Final = ("model.safetensors", "pytorch_model.bin")

_SAMPLERS: Final = {Side.DOWN: "down_sampler", Side.UP: "up_sampler"}
_LINEARS: Final = {Side.DOWN: "down_proj", Side.UP: "up_proj"}


@dataclass(frozen=True, slots=True)
class _DeltaType:
    """One delta type: its module's name in the keys, its projections' names there, and its options."""

    module: str
    sides: Mapping[Side, str]
    options: frozenset[str]


_COMMON: Final = frozenset(
    {
        "backbone_checkpoint_name",
        "backbone_class",
        "backbone_hash",
        "bottleneck_dim",
        "common_structure",
        "delta_type",
        "exclude_modules",
        "modified_modules",
        "non_linearity",
        "opendelta_version",
        "sequential",
        "transformers_version",
        "unfrozen_modules",
    }
)
_TRAINING: Final = frozenset(
    {"hypercomplex_nonlinearity", "learn_phm", "low_rank_w_init", "opendelta_version", "phm_c_init", "phm_init_range"}
)
_DELTA_TYPES: Final[Mapping[str, _DeltaType]] = {
    "compacter": _DeltaType(
        "compactor",  # as the library spells it
        _SAMPLERS,
        _COMMON
        | {
            "factorized_phm",
            "factorized_phm_rule",
            "hypercomplex_division",
            "hypercomplex_nonlinearity",
            "kronecker_prod",  # another way to the same product
            "learn_phm",
            "phm_c_init",
            "phm_init_range",
            "phm_rank",
            "reduction_factor",
            "shared_W_phm",
            "shared_phm_rule",
            "use_bias_down_sampler",
            "use_bias_up_sampler",
        },
    ),
    "adapter": _DeltaType("adapter.modulelist", _LINEARS, _COMMON),
    "low_rank_adapter": _DeltaType(
        "low_rank_adapter", _SAMPLERS, _COMMON | {"low_rank_rank", "low_rank_w_init", "reduction_factor"}
    ),
}
_DEFAULT_MODULES: Final = ["attn@.proj@", "ff@.w2@"]
_DEFAULT_EXCLUDED: Final = (None, ["lm_head"])
_ALSO: Final = {"gelu_orig": Activation.GELU}


def from_opendelta(
    directory: Path | str,
    *,
    backbone: KnownBackbone | None = None,
    allow_pickle: bool = False,
    with_head: bool = True,
) -> ImportedAdapter:
    """The adapter in a directory that `save_finetuned` of OpenDelta wrote.

    Args:
        directory: with `config.json` and the weights.
        backbone: what the adapter was trained on; OpenDelta's files do not describe it, so it is needed.
        allow_pickle: read `pytorch_model.bin` too, which is all that OpenDelta writes.
        with_head: take the head over, if one was saved.

    Raises:
        CompacterError: E001 without a backbone; E501 for what is no such directory or contradicts itself; E502 for
            what this format cannot express; E503 for a rank of low_rank_adapter above 1, which OpenDelta multiplies
            elementwise; E301 to E304 for tensors that are missing, unknown or of another shape; E306 for values that
            are not finite; and the codes of `compacter_core.importers.checkpoint.read_state`.
    """
    folder = Path(directory)
    known = require_backbone(backbone, "OpenDelta's checkpoint")
    options = read_options(folder, CONFIG_FILE, remedy="Give the directory that OpenDelta's save_finetuned wrote.")
    delta = _delta_type(options)
    options.refuse_unknown(delta.options)
    projection = _projection(options)
    weights = read_weights(folder, WEIGHTS, allow_pickle=allow_pickle)
    state = SourceState(weights, weights.place)
    prefix, keys = _find_sites(state, delta, known)
    _check_complete(options, keys, known.description)
    sites = make_sites(state, projection, keys)
    has_bias = projection.kind.has_rule
    config = AdapterConfig(
        method=method_label(projection, sites),
        name="opendelta",
        hidden_size=known.description.hidden_size,
        projection=projection,
        sites=sites,
        non_linearity=activation_named(options.text("non_linearity"), CONFIG_FILE, _ALSO),
        bias_down=options.flag("use_bias_down_sampler") if has_bias else True,
        bias_up=options.flag("use_bias_up_sampler") if has_bias else True,
        attach=ATTACH_PRESETS["houlsby"],
        backbone=known.description,
        training={"opendelta": options.known(_TRAINING)},
    )
    tensors = take_tensors(state, config, keys)
    _check_widths(options, config)
    model_class = options.text("backbone_class")
    rest = take_remainder(state, known, prefix=prefix, model_class=model_class, with_head=with_head)
    config = replace(config, overrides=rest.overrides, head=rest.head)
    adapter = assemble(config, {**tensors, **rest.tensors}, weights.floats().dtype(), known)
    return ImportedAdapter(adapter=adapter, notes=rest.notes)


def _delta_type(options: ForeignOptions) -> _DeltaType:
    name = options.text("delta_type")
    if name not in _DELTA_TYPES:
        raise CompacterError(
            ErrorCode.E502,
            f"delta_type of {CONFIG_FILE} is no bottleneck adapter behind a linear",
            value=name,
            expected=", ".join(_DELTA_TYPES),
            remedy="LoRA can be merged into the model instead." if name == "lora" else None,
        )
    return _DELTA_TYPES[name]


def _projection(options: ForeignOptions) -> Projection:
    match options.text("delta_type"):
        case "adapter":
            return Projection(kind=ProjectionKind.DENSE)
        case "low_rank_adapter":
            require_rank_one(options, "low_rank_rank")
            return Projection(kind=ProjectionKind.LOW_RANK, phm_rank=1)
    for name in ("shared_phm_rule", "shared_W_phm"):
        if options.flag(name):
            raise CompacterError(
                ErrorCode.E502, f"option {name} of {CONFIG_FILE}, which OpenDelta itself refuses", value=True
            )
    factored = options.flag("factorized_phm")
    return Projection(
        kind=ProjectionKind.LPHM if factored else ProjectionKind.PHM,
        phm_dim=options.count("hypercomplex_division"),
        phm_rank=options.count("phm_rank") if factored else None,
        factorized_phm_rule=options.flag("factorized_phm_rule"),
    )


def _find_sites(state: SourceState, delta: _DeltaType, backbone: KnownBackbone) -> tuple[str, SamplerKeys]:
    """What the base model's keys begin with, and the module of each site, in the backbone's order."""
    pattern = re.compile(rf"(?P<module>.+)\.{re.escape(delta.module)}\.({'|'.join(delta.sides.values())})\.\w+")
    modules = list(dict.fromkeys(match["module"] for key in state if (match := pattern.fullmatch(key))))
    if not modules:
        raise CompacterError(
            ErrorCode.E301, f"{state.place} has no adapter", expected=f"keys with {delta.module}", remedy=_REMEDY
        )
    places = {name: site for site in backbone.description.modules for name in backbone.surroundings(site).outputs}
    prefix = "" if modules[0] in places else f"{modules[0].partition('.')[0]}."
    found: dict[str, str] = {}
    for module in modules:
        site = places.get(module.removeprefix(prefix)) if module.startswith(prefix) else None
        if site is None or site in found:
            raise CompacterError(
                ErrorCode.E502,
                f"{state.place} has an adapter behind a module where this format has no site, or two of one site",
                value=module,
                expected="one adapter behind the last linear of a sublayer: "
                + ", ".join(modules.linear for modules in list(backbone.description.modules.values())[:3]),
            )
        found[site] = f"{module}.{delta.module}"
    ordered = {site: found[site] for site in backbone.description.modules if site in found}
    return prefix, SamplerKeys(owners=ordered, sides=delta.sides)


_REMEDY: Final = "The checkpoint is incomplete: save it again."


def _check_complete(options: ForeignOptions, keys: SamplerKeys, backbone: Backbone) -> None:
    """Where OpenDelta chose the modules itself, no sublayer but cross-attention is without an adapter."""
    chosen = options.values.get("modified_modules"), options.values.get("exclude_modules")
    if chosen[0] != _DEFAULT_MODULES or chosen[1] not in _DEFAULT_EXCLUDED:
        return
    stacks = {site.partition(".")[0] for site in keys.owners}
    for site in backbone.modules:
        stack, _, sublayer = site.split(".")
        if stack in stacks and sublayer != Sublayer.CROSS_ATTN and site not in keys.owners:
            raise CompacterError(
                ErrorCode.E301,
                f"the checkpoint has no adapter at {site}, where modified_modules has one",
                remedy=_REMEDY,
            )


def _check_widths(options: ForeignOptions, config: AdapterConfig) -> None:
    if config.projection.kind is ProjectionKind.DENSE:
        check_widths(config.sites, options.count("bottleneck_dim"), f"the bottleneck_dim of {CONFIG_FILE}")
    else:
        width = config.hidden_size // options.count("reduction_factor")
        check_widths(config.sites, width, f"the reduction_factor of {CONFIG_FILE}")
