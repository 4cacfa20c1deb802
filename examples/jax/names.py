"""Names and shapes of an adapter's tensors (FMT)."""

from collections.abc import Iterator
from math import prod

from examples.jax.config import Config
from examples.jax.parts import Site

SIDES = ("down", "up")
Shape = tuple[int, ...]


def projection_names(config: Config, site: Site, side: str) -> dict[str, str]:
    """Full name of each tensor of one projection, by its short name."""
    return {short: name for short, name, _ in _projection(config, site, side)}


def scaling_name(site: Site) -> str:
    """Name of a trained scaling."""
    return f"site.{site.id}.scaling"


def layout(config: Config) -> dict[str, Shape]:
    """Name and shape of every tensor of the adapter; norms, heads and sketches are not in it."""
    shapes: dict[str, Shape] = {}
    for site in config.sites:
        for side in SIDES:
            shapes |= {name: shape for _, name, shape in _projection(config, site, side)}
        if isinstance(config.scaling, str):
            shapes[scaling_name(site)] = (1,) if config.scaling == "learned" else (config.hidden_size,)
    return shapes


def count_parameters(config: Config) -> int:
    """Number of trained scalars, shared ones once."""
    return sum(prod(shape) for shape in layout(config).values())


def _projection(config: Config, site: Site, side: str) -> Iterator[tuple[str, str, Shape]]:
    p, own = config.projection, f"site.{site.id}.{side}"
    n_in, n_out = config.hidden_size, site.bottleneck_size
    if side == "up":
        n_in, n_out = n_out, n_in
    for short, shape in _rule(p.phm_dim, factored=p.factorized_phm_rule):
        yield short, f"shared.{short}" if p.shared_phm_rule else f"{own}.{short}", shape
    for short, shape in _fast(p.kind, n_in, n_out, p.phm_dim or 1, p.phm_rank or 1):
        yield short, f"shared.{side}.{short}" if p.shared_W else f"{own}.{short}", shape
    if config.bias_down if side == "down" else config.bias_up:
        yield "b", f"{own}.b", (n_out,)


def _rule(n: int | None, *, factored: bool) -> Iterator[tuple[str, Shape]]:
    if n is None:
        return
    if factored:
        yield "phm_rule_left", (n, n, 1)
        yield "phm_rule_right", (n, 1, n)
    else:
        yield "phm_rule", (n, n, n)


def _fast(kind: str, n_in: int, n_out: int, n: int, r: int) -> Iterator[tuple[str, Shape]]:
    match kind:
        case "dense":
            yield "W", (n_in, n_out)
        case "low_rank":
            yield "W_left", (n_in, r)
            yield "W_right", (r, n_out)
        case "phm":
            yield "W", (n, n_in // n, n_out // n)
        case _:
            yield "W_left", (n, n_in // n, r)
            yield "W_right", (n, r, n_out // n)
