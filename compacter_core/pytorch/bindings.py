"""A model seen through the binding of its architecture: which of its modules carry r, h and the norms.

Names of a bound model are relative to its base model, so one adapter fits BertModel and BertForSequenceClassification
alike.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from compacter_core.config import AdapterConfig, Backbone, SiteModules
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.sketch import POOLER
from compacter_core.pytorch.binding_files import OPTIONAL, Binding, StackBinding, SublayerBinding, load_binding
from compacter_core.pytorch.quantised import floating_weight
from compacter_core.pytorch.task_head import TaskHead
from compacter_core.vocabulary import NormStyle, Stack, Sublayer


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundSite:
    """The modules around one site; `norm` is N, and None on a pre-norm model, where N is the identity."""

    linear: nn.Module
    output: nn.Module
    residual: nn.Module
    norm: nn.Module | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BoundBackbone:
    """A model seen through its binding.

    Args:
        model: the model, with its head if it has one.
        base: the base model inside it, or the model itself.
        binding: of its architecture.
        stacks: the stacks that the base model has, and how they are bound.
        layers: names of the layers of each stack, relative to the base model.
        description: of the base model.
    """

    model: nn.Module
    base: nn.Module
    binding: Binding
    stacks: Mapping[Stack, StackBinding]
    layers: Mapping[Stack, tuple[str, ...]]
    description: Backbone

    def site(self, site_id: str) -> BoundSite:
        """The modules of a site.

        Raises:
            CompacterError: E211 if the backbone has no such site, E803 if its modules are not where the binding says.
        """
        names, prefix = self.names(site_id)
        has_norm = self.binding.norm_style is NormStyle.POST
        return BoundSite(
            linear=self._module(f"{prefix}.{names.linear}"),
            output=self._module(f"{prefix}.{names.output}"),
            residual=self._module(f"{prefix}.{names.residual}"),
            norm=self._module(f"{prefix}.{names.norm}") if has_norm else None,
        )

    def names(self, site_id: str) -> tuple[SublayerBinding, str]:
        """How a site's sublayer is bound, and the name of its layer, which those names are relative to.

        Raises:
            CompacterError: E211 if the backbone has no such site.
        """
        if site_id not in self.description.modules:
            raise CompacterError(
                ErrorCode.E211,
                f"the {self.binding.model_type} model has no such site",
                value=site_id,
                expected=", ".join(self.description.modules),
            )
        stack, layer, sublayer = site_id.split(".")
        return self.stacks[Stack(stack)].sublayers[Sublayer(sublayer)], self.layers[Stack(stack)][int(layer)]

    def sketched_linears(self, config: AdapterConfig) -> dict[str, nn.Module]:
        """The linears that an adapter recognises its backbone by: those of its sites, and the head's pooler."""
        linears = {site.id: self.site(site.id).linear for site in config.sites}
        if config.head is not None and config.head.pooler is not None:
            linears[POOLER] = self.model.get_submodule(self._in_model(config.head.pooler))
        return linears

    def _in_model(self, name: str) -> str:
        """A name relative to a model with a head, as one relative to this model, which may be the base model."""
        prefix: str = getattr(self.base, "base_model_prefix", "")
        return name.removeprefix(f"{prefix}.") if self.model is self.base else name

    def layer_starts(self) -> list[tuple[nn.Module, nn.Module]]:
        """For each stack the last module before its first layer, and that layer."""
        return [
            (self._module(binding.before), self._module(self.layers[stack][0]))
            for stack, binding in self.stacks.items()
        ]

    def norm_parameters(self) -> dict[str, nn.Parameter]:
        """Gains and biases of all norms by their name in the base model, in execution order."""
        return {
            f"{name}.{leaf}": parameter
            for name in self.description.norms
            for leaf, parameter in self._module(name).named_parameters(recurse=False)
        }

    @property
    def task_head(self) -> TaskHead:
        """What the model has behind its base model."""
        return TaskHead(self.model, self.base, self.binding)

    def _module(self, name: str) -> nn.Module:
        try:
            return self.base.get_submodule(name)
        except AttributeError:
            raise CompacterError(
                ErrorCode.E803,
                f"the {self.binding.model_type} binding names a module that this model lacks",
                value=name,
                remedy="Another library may have replaced modules of the model: attach the adapter first.",
            ) from None


def weight_in_out(linear: nn.Module) -> Tensor:
    """A linear's whole weight as [in, out]: nn.Linear stores [out, in], transformers' Conv1D (GPT-2) [in, out].

    Raises:
        CompacterError: E003 if the linear is quantised in a form that is not known here.
    """
    weight = floating_weight(linear)
    return weight if isinstance(linear, Conv1D) else weight.T


def bind(model: nn.Module, binding: Binding | None = None) -> BoundBackbone:
    """The model seen through a binding.

    Args:
        model: a base model, or one with a head.
        binding: None for the one of its `config.model_type`.

    Raises:
        CompacterError: E803 if there is no binding, the model's modules are not where it says, or it binds an encoder
            and the model is set to be a decoder.
    """
    config: Any = getattr(model, "config", None)
    if binding is None:
        binding = load_binding(str(getattr(config, "model_type", type(model).__name__)))
    base: Any = getattr(model, "base_model", model)
    stacks, layers = _find_layout(base, binding)
    if getattr(config, "is_decoder", False) and Stack.DECODER not in stacks:
        raise CompacterError(
            ErrorCode.E803,
            f"the {binding.model_type} binding covers encoders",
            value="config.is_decoder = True",
            remedy="Load the model with is_decoder=False.",
        )
    description = _describe(base, config, binding, stacks, layers)
    return BoundBackbone(model=model, base=base, binding=binding, stacks=stacks, layers=layers, description=description)


def describe_backbone(model: nn.Module, binding: Binding | None = None) -> Backbone:
    """What an adapter has to know of a transformers model: sizes, norm style, module names of sites and norms.

    Arguments and errors as of `bind`.
    """
    return bind(model, binding).description


def _find_layout(base: nn.Module, binding: Binding) -> tuple[dict[Stack, StackBinding], dict[Stack, tuple[str, ...]]]:
    """The stacks of the first layout that the model has any layers of, and the names of those layers."""
    names = [name for name, _ in base.named_modules()]
    for layout in binding.layouts:
        layers = {stack: _matches(bound.layers, names) for stack, bound in layout.items()}
        present = {stack: bound for stack, bound in layout.items() if layers[stack]}
        if present:
            return present, {stack: layers[stack] for stack in present}
    raise CompacterError(
        ErrorCode.E803,
        f"the {binding.model_type} binding finds no layers in this model",
        value=type(base).__name__,
        expected=" or ".join(stack.layers for layout in binding.layouts for stack in layout.values()),
    )


def _matches(pattern: str, names: list[str]) -> tuple[str, ...]:
    """The names that a pattern matches, by the numbers that its stars stand for."""
    expression = re.compile(re.escape(pattern).replace(r"\*", "([0-9]+)"))
    found = [(match.groups(), name) for name in names if (match := expression.fullmatch(name))]
    return tuple(name for _, name in sorted(found, key=lambda pair: [int(number) for number in pair[0]]))


def _describe(
    base: nn.Module,
    config: Any,
    binding: Binding,
    stacks: Mapping[Stack, StackBinding],
    layers: Mapping[Stack, tuple[str, ...]],
) -> Backbone:
    modules: dict[str, SiteModules] = {}
    norms: list[str] = []
    for stack, bound in stacks.items():
        norms += _present(base, bound.norms_before)
        for layer, prefix in enumerate(layers[stack]):
            for sublayer, names in bound.sublayers.items():
                norm = f"{prefix}.{names.norm}"
                norms.append(norm)
                modules[f"{stack}.{layer}.{sublayer}"] = SiteModules(
                    linear=f"{prefix}.{names.linear}", norm=norm if binding.norm_style is NormStyle.POST else None
                )
        norms += _present(base, bound.norms_after)
    return Backbone(
        model_type=binding.model_type,
        hidden_size=config.hidden_size,
        num_layers={stack: len(found) for stack, found in layers.items()},
        norm_style=binding.norm_style,
        id=_public_id(getattr(config, "_name_or_path", None)),
        revision=getattr(config, "_commit_hash", None),
        modules=modules,
        norms=tuple(norms),
    )


def _present(base: nn.Module, names: tuple[str, ...]) -> list[str]:
    """The names without their mark, optional ones only where the model has the module."""
    modules = dict(base.named_modules())
    return [name.removesuffix(OPTIONAL) for name in names if not name.endswith(OPTIONAL) or name[:-1] in modules]


def _public_id(name_or_path: str | None) -> str | None:
    """A hub name as it is; of a path only the last component, since a file to be shared should not tell of folders."""
    if not name_or_path:
        return None
    parts = name_or_path.replace("\\", "/").strip("/").split("/")
    is_hub_name = not name_or_path.startswith(("/", ".", "~", "\\")) and len(parts) <= 2  # noqa: PLR2004 owner/name
    return "/".join(parts) if is_hub_name else parts[-1]
