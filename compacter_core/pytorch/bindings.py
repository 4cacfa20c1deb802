"""Where the sites of an architecture are: data in `compacter_core/bindings/<model_type>.json`, read and applied here.

A binding names, per sublayer and relative to its layer: the last linear; the module whose output is h (the dropout
after it, or the linear itself); a module whose input is the residual r; the norm N, whose input is s = r + h. Names of
a bound model are relative to its base model, so one adapter fits BertModel and BertForSequenceClassification alike.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final

from torch import nn

from compacter_core.config import AdapterConfig, Backbone, Head, SiteModules
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.sketch import POOLER
from compacter_core.vocabulary import NormStyle, Stack, Sublayer

_FOLDER: Final = files("compacter_core") / "bindings"


@dataclass(frozen=True, slots=True, kw_only=True)
class SublayerBinding:
    """Module names of one sublayer, relative to its layer."""

    linear: str
    output: str
    residual: str
    norm: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadBinding:
    """The head of one model class: its task, its linears first to last, and the linear of the backbone before them.

    Names are relative to the model.
    """

    task: str
    layers: tuple[str, ...]
    pooler: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """One architecture.

    Args:
        model_type: as in transformers' configurations.
        norm_style: where the norms stand.
        stack: the half of a transformer that the layers are in.
        layer: path of a layer, with `{layer}` for its index.
        sublayers: in execution order.
        norms_before: norms executed before the first layer.
        heads: by the model's class name.
    """

    model_type: str
    norm_style: NormStyle
    stack: Stack
    layer: str
    sublayers: Mapping[Sublayer, SublayerBinding]
    norms_before: tuple[str, ...]
    heads: Mapping[str, HeadBinding]


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundSite:
    """The modules around one site."""

    linear: nn.Module
    output: nn.Module
    residual: nn.Module
    norm: nn.Module


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BoundBackbone:
    """A model seen through its binding.

    Args:
        model: the model, with its head if it has one.
        base: the base model inside it, or the model itself.
        binding: of its architecture.
        description: of the base model.
    """

    model: nn.Module
    base: nn.Module
    binding: Binding
    description: Backbone

    def site(self, site_id: str) -> BoundSite:
        """The modules of a site.

        Raises:
            CompacterError: E211 if the backbone has no such site, E803 if its modules are not where the binding says.
        """
        stack, layer, sublayer = site_id.split(".")
        names = self.binding.sublayers.get(Sublayer(sublayer))
        if site_id not in self.description.modules or names is None or stack != self.binding.stack:
            raise CompacterError(
                ErrorCode.E211,
                f"a {self.binding.model_type} model has no such site",
                value=site_id,
                expected=", ".join(self.description.modules),
            )
        prefix = self.binding.layer.format(layer=layer)
        return BoundSite(
            linear=self._module(f"{prefix}.{names.linear}"),
            output=self._module(f"{prefix}.{names.output}"),
            residual=self._module(f"{prefix}.{names.residual}"),
            norm=self._module(f"{prefix}.{names.norm}"),
        )

    def sketched_linears(self, config: AdapterConfig) -> dict[str, nn.Module]:
        """The linears that an adapter recognises its backbone by: those of its sites, and the head's pooler."""
        linears = {site.id: self.site(site.id).linear for site in config.sites}
        if config.head is not None and config.head.pooler is not None:
            linears[POOLER] = self.model.get_submodule(config.head.pooler)
        return linears

    def before_layers(self) -> nn.Module:
        """The last module before the first layer."""
        return self._module(self.binding.norms_before[-1])

    def first_layer(self) -> nn.Module:
        """The first layer."""
        return self._module(self.binding.layer.format(layer=0))

    def norm_parameters(self) -> dict[str, nn.Parameter]:
        """Gains and biases of all norms by their name in the base model, in execution order."""
        return {
            f"{name}.{leaf}": parameter
            for name in self.description.norms
            for leaf, parameter in self._module(name).named_parameters(recurse=False)
        }

    def head(self, *, with_pooler: bool = False) -> Head | None:
        """The head that the model has now, or None for a base model.

        Args:
            with_pooler: make the pooler, where there is one, the head's first layer.

        Raises:
            CompacterError: E803 for a class whose head the binding does not know.
        """
        if self.model is self.base:
            return None
        known = self.binding.heads.get(type(self.model).__name__)
        if known is None:
            raise CompacterError(
                ErrorCode.E803,
                "the binding does not know the head of this model",
                value=type(self.model).__name__,
                expected=", ".join(self.binding.heads),
                remedy="Attach with train_head=False to train the adapter alone.",
            )
        takes_pooler = with_pooler and known.pooler is not None
        layers = (str(known.pooler), *known.layers) if takes_pooler else known.layers
        return Head(
            task=known.task,
            layers=layers,
            shapes={name: tuple(parameter.shape) for name, parameter in self._head_tensors(layers).items()},
            labels=_labels(self.model, known.task),
            pooler=None if takes_pooler else known.pooler,
        )

    def head_parameters(self, head: Head | None) -> dict[str, nn.Parameter]:
        """The tensors of a head by their name in the model."""
        return {} if head is None else self._head_tensors(head.layers)

    def _head_tensors(self, layers: tuple[str, ...]) -> dict[str, nn.Parameter]:
        return {
            f"{layer}.{leaf}": parameter
            for layer in layers
            for leaf, parameter in self.model.get_submodule(layer).named_parameters(recurse=False)
        }

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


def known_model_types() -> tuple[str, ...]:
    """The model types that have a binding."""
    return tuple(
        sorted(entry.name.removesuffix(".json") for entry in _FOLDER.iterdir() if entry.name.endswith(".json"))
    )


@lru_cache(maxsize=64)
def load_binding(model_type: str) -> Binding:
    """The binding of an architecture.

    Raises:
        CompacterError: E803 if there is none.
    """
    if model_type not in known_model_types():
        raise CompacterError(
            ErrorCode.E803, "no binding for this model type", value=model_type, expected=", ".join(known_model_types())
        )
    data: dict[str, Any] = json.loads((_FOLDER / f"{model_type}.json").read_text(encoding="utf-8"))
    return Binding(
        model_type=data["model_type"],
        norm_style=NormStyle(data["norm_style"]),
        stack=Stack(data["stack"]),
        layer=data["layer"],
        sublayers={Sublayer(name): SublayerBinding(**modules) for name, modules in data["sublayers"].items()},
        norms_before=tuple(data["norms_before"]),
        heads={
            name: HeadBinding(task=head["task"], layers=tuple(head["layers"]), pooler=head.get("pooler"))
            for name, head in data["heads"].items()
        },
    )


def bind(model: nn.Module) -> BoundBackbone:
    """The model seen through the binding of its `config.model_type`.

    Raises:
        CompacterError: E803 if there is no binding, or the model is a decoder.
    """
    config: Any = getattr(model, "config", None)
    binding = load_binding(str(getattr(config, "model_type", type(model).__name__)))
    if getattr(config, "is_decoder", False):
        raise CompacterError(
            ErrorCode.E803,
            f"the {binding.model_type} binding covers encoders",
            value="config.is_decoder = True",
            remedy="Load the model with is_decoder=False.",
        )
    base: Any = getattr(model, "base_model", model)
    return BoundBackbone(model=model, base=base, binding=binding, description=_describe(config, binding))


def describe_backbone(model: nn.Module) -> Backbone:
    """What an adapter has to know of a transformers model: sizes, norm style, module names of sites and norms.

    Raises:
        CompacterError: E803 if there is no binding for the model.
    """
    return bind(model).description


def _describe(config: Any, binding: Binding) -> Backbone:
    layers: int = config.num_hidden_layers
    modules: dict[str, SiteModules] = {}
    norms = list(binding.norms_before)
    for layer in range(layers):
        prefix = binding.layer.format(layer=layer)
        for sublayer, names in binding.sublayers.items():
            site = SiteModules(linear=f"{prefix}.{names.linear}", norm=f"{prefix}.{names.norm}")
            modules[f"{binding.stack}.{layer}.{sublayer}"] = site
            norms.append(f"{prefix}.{names.norm}")
    return Backbone(
        model_type=binding.model_type,
        hidden_size=config.hidden_size,
        num_layers={binding.stack: layers},
        norm_style=binding.norm_style,
        id=_public_id(getattr(config, "_name_or_path", None)),
        revision=getattr(config, "_commit_hash", None),
        modules=modules,
        norms=tuple(norms),
    )


def _public_id(name_or_path: str | None) -> str | None:
    """A hub name as it is; of a path only the last component, since a file to be shared should not tell of folders."""
    if not name_or_path:
        return None
    parts = name_or_path.replace("\\", "/").strip("/").split("/")
    is_hub_name = not name_or_path.startswith(("/", ".", "~", "\\")) and len(parts) <= 2  # noqa: PLR2004 owner/name
    return "/".join(parts) if is_hub_name else parts[-1]


def _labels(model: nn.Module, task: str) -> tuple[str, ...]:
    config: Any = model.config
    is_regression = config.num_labels == 1
    if is_regression or not task.endswith("classification"):
        return ()
    return tuple(str(config.id2label[index]) for index in range(config.num_labels))
