"""The adapter in JAX: values, and gradients by automatic differentiation.

delta(x) = scaling * (act(x Wd + bd) Wu + bu) (FWD). No Kronecker product is built: with x [..., in] read as
X [..., n, m] and a weight sum_i kron(A_i, V_i), V_i [m, q], the product is

    Y[b, j] = sum_i sum_a sum_p A_i[a, b] X[a, p] V_i[p, j].
"""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
from jax import Array

from examples.jax.config import Config
from examples.jax.names import projection_names, scaling_name
from examples.jax.parts import Site

Tensors = Mapping[str, Array]

_ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "gelu_new": lambda z: jax.nn.gelu(z, approximate=True),
    "gelu": lambda z: jax.nn.gelu(z, approximate=False),
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
    "identity": lambda z: z,
}


def delta(config: Config, tensors: Tensors, site: Site, x: Array) -> Array:
    """What the adapter adds at `site`, for x [..., d]: [..., d]."""
    z = _project(config, tensors, site, "down", x)
    o = _project(config, tensors, site, "up", _ACTIVATIONS[config.non_linearity](z))
    scaling = tensors[scaling_name(site)] if isinstance(config.scaling, str) else config.scaling
    return scaling * o


def sublayer(config: Config, tensors: Tensors, site: Site, values: Tensors) -> Array:
    """The sublayer's result (PLC), for r, h [..., d] and the affine norm N(v) = gain v + offset."""
    r, h = values["r"], values["h"]

    def norm(v: Array) -> Array:
        return values["gain"] * v + values["offset"]

    places = {"sublayer_output": h, "residual": r, "residual_sum": r + h, "normed_sum": norm(r + h)}
    attach = site.attach or config.attach
    o = places[attach.skip] + delta(config, tensors, site, places[attach.input])
    return norm(r + o) if attach.post else o


def gradients(config: Config, tensors: Tensors, sites: Sequence[Site], values: Tensors) -> dict[str, Array]:
    """Gradients of the sum over sites of sum(g * delta(x)) (GRD), by `x.<site>` and by tensor name.

    `values` has `x.<site>` and `g.<site>`; only tensors that the sites use are differentiated.
    """
    used = {name: tensors[name] for site in sites for name in _used(config, site)}
    inputs = {f"x.{site.id}": values[f"x.{site.id}"] for site in sites}

    def objective(variables: Tensors) -> Array:
        terms = [values[f"g.{site.id}"] * delta(config, variables, site, variables[f"x.{site.id}"]) for site in sites]
        return jnp.sum(jnp.stack([jnp.sum(term) for term in terms]))

    return dict(jax.grad(objective)({**used, **inputs}))


def _used(config: Config, site: Site) -> list[str]:
    names = [name for side in ("down", "up") for name in projection_names(config, site, side).values()]
    return [*names, scaling_name(site)] if isinstance(config.scaling, str) else names


def _project(config: Config, tensors: Tensors, site: Site, side: str, x: Array) -> Array:
    """The affine map x W + b of one side."""
    p = {short: tensors[name] for short, name in projection_names(config, site, side).items()}
    y = _linear(config.projection.kind, p, x)
    return y + p["b"] if "b" in p else y


def _linear(kind: str, p: Tensors, x: Array) -> Array:
    match kind:
        case "dense":
            return x @ p["W"]
        case "low_rank":
            return (x @ p["W_left"]) @ p["W_right"]
    A = p["phm_rule"] if "phm_rule" in p else p["phm_rule_left"] * p["phm_rule_right"]
    n = A.shape[0]
    X = x.reshape(*x.shape[:-1], n, x.shape[-1] // n)
    if kind == "phm":
        products = jnp.einsum("...ap,ipj->...iaj", X, p["W"])
        y = jnp.einsum("...iaj,iab->...bj", products, A)
    else:
        narrow = jnp.einsum("...ap,ipr->...iar", X, p["W_left"])
        mixed = jnp.einsum("...iar,iab->...ibr", narrow, A)
        y = jnp.einsum("...ibr,irj->...bj", mixed, p["W_right"])
    return y.reshape(*x.shape[:-1], n * y.shape[-1])
