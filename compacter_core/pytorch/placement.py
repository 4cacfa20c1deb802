"""How a site's adapter takes part in the forward pass of a model that does not know of it: module hooks.

With h the sublayer's output, s = r + h the input of the norm N and u = N(s) its output, the sublayer's result is

    skip h:            N(s + D(x))         for x = h or r: D(x) is added to h; for x = u: N is applied a second time
    skip r + h:        s + D(x)            in place of u
    skip N(r + h):     u + D(x)            in place of u

with x = h, u or r as `Attach.input` says (specs/placement.md). On a pre-norm model N is the identity, so that u = s and
all three are r + (h + D(x)): D(x) is added to h. So one hook on the module whose output is h, or on N, does the work.
Where x is seen earlier than the sum it goes into, it is kept between two hooks of one sublayer and dropped at once;
recomputation under gradient checkpointing runs both hooks again.

Hooks are bound methods, so that copies of a model (copy.deepcopy, pickle) have hooks on the copied adapter. They act
while the adapter's switch is on.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from compacter_core.config import Attach
from compacter_core.pytorch.bindings import BoundSite
from compacter_core.pytorch.modules import SiteAdapter
from compacter_core.pytorch.switching import Switch
from compacter_core.vocabulary import Input, Skip


class Placement:
    """One site's adapter D, placed in a sublayer."""

    def __init__(self, adapter: SiteAdapter, attach: Attach, switch: Switch) -> None:
        self._adapter = adapter
        self._attach = attach
        self._switch = switch
        self._kept: Tensor | None = None

    def register(self, site: BoundSite) -> list[RemovableHandle]:
        """Places D in the sublayer with these modules."""
        if site.norm is None:
            return self._register_pre_norm(site)
        adds_to_output = self._attach.skip is Skip.SUBLAYER_OUTPUT and self._attach.input is not Input.NORMED_SUM
        handles: list[RemovableHandle] = []
        if self._attach.input is Input.RESIDUAL:
            handles.append(self._before(site.residual, self.keep_residual))
        elif self._attach.input is Input.SUBLAYER_OUTPUT and not adds_to_output:
            handles.append(self._behind(site.output, self.keep_output))
        if adds_to_output:
            handles.append(self._behind(site.output, self.add_to_output))
        elif self._attach.skip is Skip.SUBLAYER_OUTPUT:
            handles.append(self._behind(site.norm, self.normalise_again))
        else:
            handles.append(self._behind(site.norm, self.replace_norm_output))
        return handles

    def _register_pre_norm(self, site: BoundSite) -> list[RemovableHandle]:
        if self._attach.input is Input.SUBLAYER_OUTPUT:
            return [self._behind(site.output, self.add_to_output)]
        add = self.add_to_output if self._attach.input is Input.RESIDUAL else self.add_of_sum
        return [
            self._before(site.residual, self.keep_residual),
            self._behind(site.output, add),
        ]

    def _before(self, module: nn.Module, hook: Callable[..., Any]) -> RemovableHandle:
        return module.register_forward_pre_hook(self._switch.gate(hook))

    def _behind(self, module: nn.Module, hook: Callable[..., Any]) -> RemovableHandle:
        return module.register_forward_hook(self._switch.gate(hook))

    def keep_residual(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Sees r, the input of the module."""
        self._kept = args[0]

    def keep_output(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        """Sees h, the output of the module."""
        self._kept = output

    def add_to_output(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        """H + D(x), in place of h."""
        x = self._take() if self._attach.input is Input.RESIDUAL else output
        return self._add(output, x)

    def add_of_sum(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        """H + D(r + h), in place of h."""
        return self._add(output, self._take() + output)

    def normalise_again(self, norm: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        """N(s + D(N(s))), in place of N(s)."""
        s: Tensor = args[0]
        # `forward`, not a call: a call would run this hook again.
        result: Tensor = norm.forward(self._add(s, output))
        return result

    def replace_norm_output(self, norm: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        """S + D(x) or N(s) + D(x), in place of N(s)."""
        x = output if self._attach.input is Input.NORMED_SUM else self._take()
        skip: Tensor = args[0] if self._attach.skip is Skip.RESIDUAL_SUM else output
        return self._add(skip, x)

    def _add(self, skip: Tensor, x: Tensor) -> Tensor:
        result: Tensor = self._adapter(x, skip)
        return result

    def _take(self) -> Tensor:
        kept, self._kept = self._kept, None
        if kept is None:
            raise RuntimeError("a sublayer ran in another order than its binding says")
        return kept
