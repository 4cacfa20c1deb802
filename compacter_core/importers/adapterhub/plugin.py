"""Models that AdapterHub does not know itself and reaches through hooks: `adapter_interface.json` names their modules.

There the adapter changes the output h of a linear in place, h + D(x), and the model itself adds r and applies its
norm. x is h; or, with `original_ln_before`, r + h behind the norm that the interface names; or r, for a parallel
adapter. r is the input of a module that the interface names; without one, r is not added.

The function that fetches the norm refers to the loop's variable, so every layer gets the norm of the last one: an
adapter computed that way is refused (E503).
"""

from collections.abc import Mapping
from typing import Any, Final

from compacter_core.config import ATTACH_PRESETS, Attach
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.importers.adapterhub.files import INTERFACE_FILE
from compacter_core.importers.adapterhub.options import Options
from compacter_core.importers.result import KnownBackbone
from compacter_core.vocabulary import NormStyle, Sublayer

_RESIDUALS: Final = {Sublayer.SELF_ATTN: "layer_pre_self_attn", Sublayer.FFN: "layer_pre_ffn"}
_NORMS: Final = {Sublayer.SELF_ATTN: "layer_ln_1", Sublayer.FFN: "layer_ln_2"}


def layers_of(interface: Mapping[str, Any]) -> str:
    """Name of the list of layers, relative to the base model.

    Raises:
        CompacterError: E501 if there is none, E502 for a model with cross-attention.
    """
    if interface.get("layer_cross_attn"):
        raise CompacterError(
            ErrorCode.E502,
            f"{INTERFACE_FILE} has cross-attention, where the library puts one adapter in another's place",
            value=interface["layer_cross_attn"],
        )
    layers = interface.get("model_layers")
    if not isinstance(layers, str) or not layers:
        raise CompacterError(ErrorCode.E501, f"model_layers of {INTERFACE_FILE}", value=layers, expected="a name")
    return layers


def plugin_placement(options: Options, interface: Mapping[str, Any], site_id: str, backbone: KnownBackbone) -> Attach:
    """The placement of one site in such a model.

    Raises:
        CompacterError: E502 if it hooks other modules than a site of this format has, or computes what this format
            cannot express; E503 if it is computed with the norm of another layer.
    """
    sublayer = Sublayer(site_id.split(".")[2])
    layer = f"{layers_of(interface)}.{site_id.split('.')[1]}"
    around = backbone.surroundings(site_id)
    _require(f"{layer}.{_output(interface, sublayer)}", around.outputs, "adapts the output of", site_id)
    residual = interface.get(_RESIDUALS[sublayer])
    if residual and (options.is_parallel or options.original_ln_before):
        _require(f"{layer}.{residual}", around.residuals, "takes the residual stream before", site_id)
    if options.is_parallel:
        if not residual:
            raise CompacterError(
                ErrorCode.E502,
                f"a parallel adapter, but {INTERFACE_FILE} names no module that reads the residual stream",
                expected=_RESIDUALS[sublayer],
            )
        return ATTACH_PRESETS["parallel"]
    if not options.original_ln_before:
        return ATTACH_PRESETS["houlsby"]
    return _behind_residual(options, interface, sublayer, has_residual=bool(residual), backbone=backbone)


def _behind_residual(
    options: Options, interface: Mapping[str, Any], sublayer: Sublayer, *, has_residual: bool, backbone: KnownBackbone
) -> Attach:
    """`original_ln_before` asks for x = N(r + h)."""
    norm = interface.get(_NORMS[sublayer])
    if norm and has_residual:
        raise CompacterError(
            ErrorCode.E503,
            f"original_ln_before with {_NORMS[sublayer]} in {INTERFACE_FILE}: in every layer the library computes the "
            "adapter with the norm of the last layer",
            value=norm,
            remedy="Train again with original_ln_before=False, or with a model class that the library supports itself.",
        )
    if norm or options.residual_before_ln is not True:
        raise CompacterError(
            ErrorCode.E502,
            f"the placement in {INTERFACE_FILE} adds the residual stream twice, or the library cannot compute it",
            value={"residual_before_ln": options.residual_before_ln, _NORMS[sublayer]: norm},
        )
    if not has_residual:
        return ATTACH_PRESETS["houlsby"]
    if backbone.description.norm_style is NormStyle.POST:
        raise CompacterError(
            ErrorCode.E502,
            f"{INTERFACE_FILE} names no norm, so the adapter reads r + h before it, which this format cannot express",
            expected="a norm, or a model whose norms stand before the sublayers",
        )
    return ATTACH_PRESETS["pfeiffer"]


def _output(interface: Mapping[str, Any], sublayer: Sublayer) -> str:
    if sublayer is Sublayer.FFN:
        return str(interface.get("layer_output_proj"))
    return f"{interface.get('layer_self_attn')}.{interface.get('attn_o_proj')}"


def _require(name: str, known: frozenset[str], does: str, site_id: str) -> None:
    if name not in known:
        raise CompacterError(
            ErrorCode.E502,
            f"{INTERFACE_FILE} {does} a module that is not the one of {site_id}",
            value=name,
            expected=" or ".join(sorted(known)),
        )
