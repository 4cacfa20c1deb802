"""Every sublayer of a running model, seen through plain hooks, and what the reference says of it."""

from typing import Any

import numpy as np
from torch import nn

from compacter_core.adapter import Array, DType, SiteParameters
from compacter_core.config import Attach
from compacter_core.pytorch import AttachedAdapter
from compacter_core.pytorch.binding_files import Binding
from compacter_core.pytorch.bindings import BoundBackbone, bind
from compacter_core.reference.adapter import delta
from compacter_core.reference.bounds import forward_bound, layer_norm_bound, worst_ratio
from compacter_core.reference.placement import layer_norm, sublayer
from compacter_core.vocabulary import Input, NormStyle, Skip

_U = DType.F64.roundoff


class Watch:
    """Sees r, h and the result of every sublayer, through hooks set before the adapter's own.

    The result of a sublayer is the residual of the next one of its layer; that of the last one leaves the layer.
    """

    def __init__(self, model: nn.Module, binding: Binding | None = None) -> None:
        self.bound: BoundBackbone = bind(model, binding)
        self.seen: dict[tuple[str, str], Array] = {}
        for stack, layers in self.bound.layers.items():
            for index, name in enumerate(layers):
                sites = [f"{stack}.{index}.{sublayer}" for sublayer in self.bound.stacks[stack].sublayers]
                for site, following in zip(sites, [*sites[1:], None], strict=True):
                    self._see_input(self.bound.site(site).residual, (site, "r"))
                    self._see_output(self.bound.site(site).linear, (site, "h"))
                    if following is not None:
                        self._see_input(self.bound.site(following).residual, (site, "result"))
                self._see_output(self.bound.base.get_submodule(name), (sites[-1], "result"))

    def _see_input(self, module: nn.Module, key: tuple[str, str]) -> None:
        module.register_forward_pre_hook(lambda _, args: self._keep(key, args[0]))

    def _see_output(self, module: nn.Module, key: tuple[str, str]) -> None:
        module.register_forward_hook(lambda _, args, output: self._keep(key, output))

    def _keep(self, key: tuple[str, str], value: Any) -> None:
        value = value[0] if isinstance(value, tuple) else value
        array = value.detach().numpy().copy()
        # A chunked feed-forward layer, or a layer that is run several times, is seen once for each call.
        self.seen[key] = np.concatenate([self.seen[key], array], axis=1) if key in self.seen else array


class Norm:
    """N of one sublayer with its error bound, from the module's values; the identity on pre-norm models."""

    def __init__(self, module: Any) -> None:
        self._module = module
        if module is not None:
            self._gain, self._bias = (module.get_parameter(name).detach().numpy() for name in ("weight", "bias"))

    def __call__(self, x: Array) -> Array:
        return x if self._module is None else layer_norm(x, self._gain, self._bias, self._module.eps)

    def error(self, x: Array, input_error: Array) -> Array:
        """Bound of the error of N(x), for an x that is off by `input_error`."""
        if self._module is None:
            return input_error
        return layer_norm_bound(
            x,
            self._gain,
            self._bias,
            self._module.eps,
            storage=DType.F64,
            accumulate=DType.F64,
            input_error=input_error,
        )


def check_sublayer(attached: AttachedAdapter, watch: Watch, site_id: str) -> None:
    """The sublayer's result is the reference's, within the bound, and not that of the bare backbone."""
    r, h, result = (watch.seen[site_id, what] for what in ("r", "h", "result"))
    adapter = attached.to_adapter()
    attach, parameters = adapter.config.attach_of(adapter.config.site(site_id)), adapter.site(site_id)
    norm = Norm(watch.bound.site(site_id).norm)
    expected = sublayer(attach, parameters, r, h, norm)
    is_pre_norm = watch.bound.binding.norm_style is NormStyle.PRE
    bound = _bound(attach, parameters, r, h, norm=norm, is_pre_norm=is_pre_norm)
    ratio = worst_ratio(result, expected, bound)
    assert ratio <= 1, f"{site_id}: error/bound {ratio}"
    assert np.abs(result - norm(r + h)).max() > 1e-3, "the adapter does something"


def check_bare(watch: Watch, site_id: str) -> None:
    """Without an adapter the result is N(r + h): so the binding's modules carry what it says."""
    r, h, result = (watch.seen[site_id, what] for what in ("r", "h", "result"))
    norm = Norm(watch.bound.site(site_id).norm)
    s = r + h
    assert worst_ratio(result, norm(s), norm.error(s, _U * np.abs(s))) <= 1, site_id


def _bound(attach: Attach, parameters: SiteParameters, r: Array, h: Array, *, norm: Norm, is_pre_norm: bool) -> Array:
    """Errors of both sides: three terms are summed in either order, which rounds at most twice a sum of |terms|.

    A post-norm model that does not add r after the adapter (post is false) has one order only; a pre-norm model adds
    D(x) to h first, whatever the placement says.
    """
    s = r + h
    E_s = 2 * _U * (np.abs(r) + np.abs(h))
    exact = np.zeros_like(s)
    normed = (norm(s), norm.error(s, E_s))
    x, E_x = {Input.SUBLAYER_OUTPUT: (h, exact), Input.RESIDUAL: (r, exact), Input.NORMED_SUM: normed}[attach.input]
    skip, E_skip = {
        Skip.SUBLAYER_OUTPUT: (h, exact),
        Skip.RESIDUAL_SUM: (s, E_s),
        Skip.NORMED_SUM: normed,
    }[attach.skip]
    E_o = forward_bound(
        parameters, x, skip, storage=DType.F64, accumulate=DType.F64, input_error=E_x, skip_error=E_skip
    )
    if not attach.post and not is_pre_norm:
        return E_o
    change = delta(parameters, x)
    return norm.error(r + h + change, E_o + 4 * _U * (np.abs(r) + np.abs(h) + np.abs(change) + E_o))
