"""Which tensors an adapter has: names and shapes as a function of its configuration.

This is the only place that knows the names. The file reader and writer, the initialiser, the counts and the PyTorch
modules all follow it (specs/file-format.md, tensors).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import prod

from compacter_core.config import AdapterConfig, Projection, Site
from compacter_core.vocabulary import ProjectionKind, ScalingKind

Shape = tuple[int, ...]

RULE = "phm_rule"
RULE_LEFT = "phm_rule_left"
RULE_RIGHT = "phm_rule_right"


class Side(StrEnum):
    """One of the two projections of an adapter: d to k, or k to d."""

    DOWN = "down"
    UP = "up"


class Part(StrEnum):
    """The part of the file a tensor belongs to: the first component of its name."""

    SHARED = "shared"
    SITE = "site"
    OVERRIDE = "override"
    HEAD = "head"
    SKETCH = "sketch"


@dataclass(frozen=True, slots=True)
class ProjectionNames:
    """Full names of one projection's tensors, by their short name (W, W_left, W_right, phm_rule…, b)."""

    tensors: Mapping[str, str]
    shapes: Mapping[str, Shape]


def sizes_of(config: AdapterConfig, site: Site, side: Side) -> tuple[int, int]:
    """(in, out) of a projection: (d, k) down, (k, d) up."""
    d, k = config.hidden_size, site.bottleneck_size
    return (d, k) if side is Side.DOWN else (k, d)


def projection_names(config: AdapterConfig, site: Site, side: Side) -> ProjectionNames:
    """Names and shapes of the tensors that make one projection of one site, shared ones included."""
    projection = config.projection
    n_in, n_out = sizes_of(config, site, side)
    shapes = dict(_rule_shapes(projection)) | dict(_weight_shapes(projection, n_in, n_out))
    own = f"{Part.SITE}.{site.id}.{side}"
    names: dict[str, str] = {}
    for short in shapes:
        if short.startswith(RULE):
            names[short] = f"{Part.SHARED}.{short}" if projection.shared_phm_rule else f"{own}.{short}"
        else:
            names[short] = f"{Part.SHARED}.{side}.{short}" if projection.shared_W else f"{own}.{short}"
    if config.bias_down if side is Side.DOWN else config.bias_up:
        shapes["b"] = (n_out,)
        names["b"] = f"{own}.b"
    return ProjectionNames(tensors=names, shapes=shapes)


def scaling_name(site: Site) -> str:
    """Name of a site's trained scaling."""
    return f"{Part.SITE}.{site.id}.scaling"


def adapter_layout(config: AdapterConfig) -> dict[str, Shape]:
    """Name and shape of every tensor of the adapter proper: shared rule and weights, and the sites' own.

    Norms, heads and sketches are not in it; their shapes come from the backbone.
    """
    return dict(layout_items(config))


def layout_items(config: AdapterConfig) -> Iterator[tuple[str, Shape]]:
    """The items of `adapter_layout` one at a time, a shared tensor as often as a site uses it.

    A reader can stop at the first one that a file lacks, whatever number of sites the file claims.
    """
    for site in config.sites:
        for side in Side:
            names = projection_names(config, site, side)
            for short, shape in names.shapes.items():
                yield names.tensors[short], shape
        if isinstance(config.scaling, ScalingKind):
            channels = 1 if config.scaling is ScalingKind.LEARNED else config.hidden_size
            yield scaling_name(site), (channels,)


def head_layout(config: AdapterConfig) -> dict[str, Shape]:
    """Name and shape of every head tensor."""
    if config.head is None:
        return {}
    return {f"{Part.HEAD}.{name}": shape for name, shape in config.head.shapes.items()}


def override_names(config: AdapterConfig) -> tuple[str, ...]:
    """Names of the override tensors."""
    return tuple(f"{Part.OVERRIDE}.{override.name}" for override in config.overrides)


def count_parameters(config: AdapterConfig) -> int:
    """Exact number of scalars in the adapter proper, each shared tensor counted once.

    For Compacter with biases: n^3 + sum over sites of 2 r (d + k) + d + k (paper, section 3.4).
    """
    return sum(prod(shape) for shape in adapter_layout(config).values())


def _rule_shapes(projection: Projection) -> Iterator[tuple[str, Shape]]:
    n = projection.phm_dim
    if n is None:
        return
    if projection.factorized_phm_rule:
        yield RULE_LEFT, (n, n, 1)
        yield RULE_RIGHT, (n, 1, n)
    else:
        yield RULE, (n, n, n)


def _weight_shapes(projection: Projection, n_in: int, n_out: int) -> Iterator[tuple[str, Shape]]:
    n = projection.phm_dim or 1
    r = projection.phm_rank or 1
    match projection.kind:
        case ProjectionKind.DENSE:
            yield "W", (n_in, n_out)
        case ProjectionKind.LOW_RANK:
            yield "W_left", (n_in, r)
            yield "W_right", (r, n_out)
        case ProjectionKind.PHM:
            yield "W", (n, n_in // n, n_out // n)
        case ProjectionKind.LPHM:
            yield "W_left", (n, n_in // n, r)
            yield "W_right", (n, r, n_out // n)
