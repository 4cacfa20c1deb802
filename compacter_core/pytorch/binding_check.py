"""Does a binding say the truth about a model? Seen while the model runs, without an adapter.

For architectures that have no binding here: one wrong name would put adapters, silently, where the paper does not.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.pytorch.adapters import adapter_names
from compacter_core.pytorch.binding_files import Binding
from compacter_core.pytorch.bindings import BoundBackbone, BoundSite, bind


def check_binding(model: nn.Module, inputs: Mapping[str, Any], binding: Binding | None = None) -> None:
    """Runs a model and looks at each sublayer: what enters N, or the next sublayer, has to be r + h.

    The norms have to run in the binding's order. r is the input of the binding's `residual` module, h the
    output of its `output` module; they are compared up to the two roundings of a sum, 2 u (|r| + |h|).

    Args:
        model: without adapters; it is run in evaluation mode and left as it was.
        inputs: keyword arguments of the model that make it run all of its layers.
        binding: None for the one of its `config.model_type`.

    Raises:
        CompacterError: E803 if there is no binding or it does not say the truth, with the site; E804 if the model has
            adapters.
    """
    if adapter_names(model):
        raise CompacterError(
            ErrorCode.E804, "the model has adapters", value=", ".join(adapter_names(model)), remedy="Detach them first."
        )
    bound = bind(model, binding)
    for site_id in bound.description.modules:
        bound.site(site_id)
    bound.norm_parameters()
    seen = _Seen(bound)
    modes = {module: module.training for module in model.modules()}
    try:
        with torch.no_grad():
            model.eval()(**inputs)
    finally:
        seen.remove()
        for module, mode in modes.items():
            module.training = mode
    for site_id in bound.description.modules:
        seen.check(site_id)
    seen.check_norms()


class _Seen:
    """The first r, h and result of each site, through hooks."""

    def __init__(self, bound: BoundBackbone) -> None:
        self._values: dict[tuple[str, str], Tensor] = {}
        self._handles: list[RemovableHandle] = []
        self._norms = bound.description.norms
        self._executed: dict[str, None] = {}
        for name in self._norms:
            norm = bound.base.get_submodule(name)
            self._handles.append(norm.register_forward_hook(lambda *_, name=name: self._executed.setdefault(name)))
        for stack, layers in bound.layers.items():
            for index, name in enumerate(layers):
                sites = [f"{stack}.{index}.{sublayer}" for sublayer in bound.stacks[stack].sublayers]
                layer = bound.base.get_submodule(name)
                for site_id, following in zip(sites, [*sites[1:], None], strict=True):
                    self._watch(site_id, bound.site(site_id), None if following is None else bound.site(following))
                if bound.site(sites[-1]).norm is None:
                    self._behind(layer, (sites[-1], "r + h"))

    def check(self, site_id: str) -> None:
        """Compares what enters the next module with the sum.

        Raises:
            CompacterError: E803.
        """
        for what in ("r", "h", "r + h"):
            if (site_id, what) not in self._values:
                raise CompacterError(
                    ErrorCode.E803,
                    f"{what} of {site_id} was not seen: its module did not run, or has no positional tensor",
                    value=site_id,
                    remedy="Give inputs that run all layers, or correct the binding.",
                )
        if not _is_sum(*(self._values[site_id, what] for what in ("r", "h", "r + h"))):
            raise CompacterError(
                ErrorCode.E803,
                f"the binding is wrong about {site_id}: the sublayer does not end with r + h",
                value=site_id,
                expected="residual: a module whose input is r; output: the module whose output is h; norm",
            )

    def check_norms(self) -> None:
        """Compares the order in which norms ran.

        Raises:
            CompacterError: E803.
        """
        if tuple(self._executed) != self._norms:
            raise CompacterError(
                ErrorCode.E803,
                "the binding lists norms in another order than the model runs them",
                value=", ".join(self._norms),
                expected=", ".join(self._executed),
            )

    def remove(self) -> None:
        """Takes the hooks off."""
        for handle in self._handles:
            handle.remove()

    def _watch(self, site_id: str, site: BoundSite, following: BoundSite | None) -> None:
        self._before(site.residual, (site_id, "r"))
        self._behind(site.output, (site_id, "h"))
        if site.norm is not None:
            self._before(site.norm, (site_id, "r + h"))
        elif following is not None:
            self._before(following.residual, (site_id, "r + h"))

    def _before(self, module: nn.Module, key: tuple[str, str]) -> None:
        keep: Callable[..., None] = partial(self._keep, key)
        self._handles.append(module.register_forward_pre_hook(lambda _, args: keep(args)))

    def _behind(self, module: nn.Module, key: tuple[str, str]) -> None:
        keep: Callable[..., None] = partial(self._keep, key)
        self._handles.append(module.register_forward_hook(lambda _, args, output: keep(output)))

    def _keep(self, key: tuple[str, str], value: Any) -> None:
        value = value[0] if isinstance(value, tuple) and value else value
        if isinstance(value, Tensor):
            self._values.setdefault(key, value.detach())


def _is_sum(r: Tensor, h: Tensor, total: Tensor) -> bool:
    """Whether total = r + h up to 2 u (|r| + |h|); some models flatten batch and length on the way."""
    if not r.numel() == h.numel() == total.numel():
        return False
    roundings = torch.finfo(h.dtype).eps  # 2 u
    r, h, total = (value.double().flatten() for value in (r, h, total))
    return bool(((total - (r + h)).abs() <= roundings * (r.abs() + h.abs())).all())
