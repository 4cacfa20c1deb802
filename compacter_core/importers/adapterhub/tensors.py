"""AdapterHub's tensors as those of this format: both compute sum_i kron(A_i, s_i t_i), and only names differ.

Its dense projections are `nn.Linear`, whose weight is [out, in]; everything else has the same shape here and there.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from compacter_core.adapter import Array
from compacter_core.config import AdapterConfig, Projection
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.importers.activations import activation_named
from compacter_core.importers.adapterhub.options import CONFIG_FILE, Options
from compacter_core.importers.state import SourceState
from compacter_core.layout import Part, Shape, Side, projection_names, scaling_name
from compacter_core.vocabulary import Activation, ProjectionKind, ScalingKind

_OWN: Final = {Side.DOWN: "adapter_down.0", Side.UP: "adapter_up"}


@dataclass(frozen=True, slots=True)
class Key:
    """One tensor: its key in the checkpoint and its shape there, and whether it is the transpose of ours."""

    key: str
    shape: Shape
    transposed: bool


def projection_of(options: Options) -> Projection:
    """The kind of the projections.

    Raises:
        CompacterError: E502 for what the library itself cannot build, E208 for sizes out of range.
    """
    if not options.phm_layer:
        return Projection(kind=ProjectionKind.DENSE)
    if options.shared_W_phm and not options.factorized_phm_W:
        raise CompacterError(
            ErrorCode.E502,
            f"shared_W_phm without factorized_phm_W in {CONFIG_FILE}: the library cannot build such an adapter",
        )
    return Projection(
        kind=ProjectionKind.LPHM if options.factorized_phm_W else ProjectionKind.PHM,
        phm_dim=options.phm_dim,
        phm_rank=options.phm_rank if options.factorized_phm_W else None,
        shared_phm_rule=options.shared_phm_rule,
        factorized_phm_rule=options.factorized_phm_rule,
        shared_W=options.shared_W_phm,
    )


def activation_of(options: Options, version: str | None) -> tuple[Activation, list[str]]:
    """The activation, and a note where the name does not mean what it says.

    Before the library wrote its version into the file, `gelu` was the tanh approximation and `gelu_orig` the exact one.

    Raises:
        CompacterError: E502 for one that this format lacks.
    """
    name = options.non_linearity.lower()
    if version is None and name in ("gelu", "gelu_orig"):
        meant = Activation.GELU_NEW if name == "gelu" else Activation.GELU
        return meant, [f"{CONFIG_FILE} has no version, so its {name} is read as {meant}, as AdapterHub does"]
    return activation_named(options.non_linearity, CONFIG_FILE), []


def bottleneck_size(state: SourceState, projection: Projection, owner: str, name: str, shared: str) -> int:
    """The width k of a site, by the shape of its down-projection.

    Raises:
        CompacterError: E301 if it is missing, E304 if it is no such tensor.
    """
    short = "W_right" if projection.kind.has_rank else "W"
    if projection.shared_W:
        key = f"{shared}{_shared_key(Side.DOWN, short)}"
    else:
        key = f"{_own_prefix(owner, name, Side.DOWN)}{'weight' if projection.kind is ProjectionKind.DENSE else short}"
    shape = state.peek(key).shape
    rank = 2 if projection.kind is ProjectionKind.DENSE else 3
    if len(shape) != rank:
        raise CompacterError(ErrorCode.E304, f"shape of {key} in {state.place}", value=shape, expected=f"rank {rank}")
    return int(shape[0]) if projection.kind is ProjectionKind.DENSE else (projection.phm_dim or 1) * int(shape[-1])


def tensor_keys(config: AdapterConfig, owners: Mapping[str, str], name: str, shared: str) -> Iterator[tuple[str, Key]]:
    """Every tensor of an adapter by its name in this format, shared ones once.

    Args:
        config: of the adapter.
        owners: the module of each site.
        name: of the adapter in the checkpoint.
        shared: what the keys of shared tensors begin with.
    """
    seen: set[str] = set()
    for site in config.sites:
        owner = owners[site.id]
        for side in Side:
            names = projection_names(config, site, side)
            for short, full in names.tensors.items():
                if full in seen:
                    continue
                seen.add(full)
                shape = names.shapes[short]
                if full.startswith(f"{Part.SHARED}."):
                    yield full, Key(f"{shared}{_shared_key(side, short)}", shape, transposed=False)
                else:
                    yield full, _own_key(config, _own_prefix(owner, name, side), short, shape)
        if isinstance(config.scaling, ScalingKind):
            channels = 1 if config.scaling is ScalingKind.LEARNED else config.hidden_size
            yield scaling_name(site), Key(f"{owner}.adapters.{name}.scaling", (channels,), transposed=False)


def take_tensors(state: SourceState, keys: Iterator[tuple[str, Key]], remedy: str) -> dict[str, Array]:
    """The tensors by their name in this format.

    Args:
        state: where they are taken from.
        keys: from `tensor_keys`.
        remedy: what helps if a shared rule is missing.

    Raises:
        CompacterError: E301 or E302 if one is missing, E304 for another shape.
    """
    tensors: dict[str, Array] = {}
    for full, source in keys:
        if source.key not in state and full.startswith(f"{Part.SHARED}."):
            raise state.missing(source.key, remedy)
        array = state.take(source.key, source.shape)
        tensors[full] = array.T if source.transposed else array
    return tensors


def _own_prefix(owner: str, name: str, side: Side) -> str:
    return f"{owner}.adapters.{name}.{_OWN[side]}."


def _own_key(config: AdapterConfig, prefix: str, short: str, shape: Shape) -> Key:
    if config.projection.kind is not ProjectionKind.DENSE:
        return Key(f"{prefix}{short}", shape, transposed=False)
    leaf = {"W": "weight", "b": "bias"}[short]
    return Key(f"{prefix}{leaf}", shape[::-1], transposed=short == "W")


def _shared_key(side: Side, short: str) -> str:
    """`phm_rule…` is one tensor for both sides; W_left of the down-projections is W_down_left."""
    return f"W_{side}_{short.removeprefix('W_')}" if short.startswith("W") else short
