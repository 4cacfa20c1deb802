"""Attach an adapter to a transformers model and take it off again.

The model keeps its class and its state_dict keys; the adapter is one more submodule, `model.compacter`, and acts
through hooks. The backbone is frozen; its norms and its head train with the adapter (paper, section 4.1) and belong to
it.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from compacter_core.adapter import Adapter
from compacter_core.compatibility import check_structure
from compacter_core.config import AdapterConfig, Override
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.layout import Part
from compacter_core.pytorch import compatibility
from compacter_core.pytorch.backbone_state import BackboneState, set_labels
from compacter_core.pytorch.binding_files import Binding
from compacter_core.pytorch.bindings import BoundBackbone, bind
from compacter_core.pytorch.checkpointing import GraphStart
from compacter_core.pytorch.convert import copy_into, file_type, to_array
from compacter_core.pytorch.modules import AdapterModule
from compacter_core.pytorch.placement import Placement
from compacter_core.pytorch.sketches import sketches_of
from compacter_core.reference.initialise import initialise
from compacter_core.vocabulary import OverrideKind

ATTRIBUTE = "compacter"
"""Name under which the adapter is a submodule of its model."""


class AttachedAdapter(AdapterModule):
    """An adapter at work in a model, made by `attach` or `from_pretrained`.

    Its state_dict has the tensor names of the file. It also answers for the norms and the head that it replaces in the
    model: they are saved, loaded and counted with it, and put back by `detach`.
    """

    def __init__(self, bound: BoundBackbone, config: AdapterConfig, tensors: dict[str, np.ndarray]) -> None:
        weight = bound.site(config.sites[0].id).linear.get_parameter("weight")
        # The paper's small initial A needs more than half precision; a half-precision backbone keeps its own type.
        dtype = weight.dtype if weight.dtype is torch.float64 else torch.float32
        super().__init__(config, tensors, dtype=dtype, device=weight.device)
        self.backbone = bound
        self._state = BackboneState(bound.model)
        self._state.remember(bound.model, self.replaced_parameters().values())
        self._state.freeze(bound.model)
        self._hooks = [
            handle
            for site in config.sites
            for handle in Placement(self.at(site.id), config.attach_of(site)).register(bound.site(site.id))
        ]
        self._hooks += [GraphStart(layer).register(before) for before, layer in bound.layer_starts()]
        bound.model.add_module(ATTRIBUTE, self)
        self.train(bound.model.training)

    def replaced_parameters(self) -> dict[str, nn.Parameter]:
        """The norms and the head in the model, by tensor name in the file: `override.*` and `head.*`."""
        base = self.backbone.base
        replaced = {f"{Part.OVERRIDE}.{one.name}": base.get_parameter(one.name) for one in self.config.overrides}
        head = self.backbone.head_parameters(self.config.head)
        return replaced | {f"{Part.HEAD}.{name}": parameter for name, parameter in head.items()}

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """Everything that trains: the adapter's own parameters, the norms and the head."""
        everything = {**self.tensor_parameters(), **self.replaced_parameters()}
        return (parameter for parameter in everything.values() if parameter.requires_grad)

    def set_trainable(self, trainable: bool) -> None:
        """Turns gradients on or off for the adapter with its norms and head."""
        for parameter in (*self.tensor_parameters().values(), *self.replaced_parameters().values()):
            parameter.requires_grad_(trainable)

    def to_adapter(self) -> Adapter:
        """The adapter as it is now, with its norms, its head, the head's labels, and sketches of the backbone.

        Raises:
            CompacterError: E003 for a data type that the file does not have.
        """
        parameters = {**self.tensor_parameters(), **self.replaced_parameters()}
        dtype = file_type(parameters.values())
        head = None if self.config.head is None else self.backbone.head(with_pooler=self.config.head.pooler is None)
        return Adapter(
            config=replace(self.config, head=head),
            tensors={name: to_array(parameter, dtype) for name, parameter in parameters.items()},
            sketches=sketches_of(self.backbone, self.config),
            dtype=dtype,
        )

    def load(self, adapter: Adapter) -> None:
        """Takes over the values of another adapter of the same configuration, with its norms and head.

        Norms and biases of the backbone that the adapter does not replace go back to their original values.

        Raises:
            CompacterError: E001 for another configuration, E401 to E405 if it does not fit the backbone. Nothing has
                changed then.
        """
        check_fit(adapter, self.backbone)
        compatibility.check_same_adapter(self.config, adapter.config)
        self._state.restore_values(self.backbone.model)
        trainable = next(self.parameters()).requires_grad
        for parameter in self.replaced_parameters().values():
            parameter.requires_grad_(False)
        self.config = replace(adapter.config, backbone=self.config.backbone)
        self.load_tensors(adapter.tensors)
        self._load_replaced(adapter)
        self.set_trainable(trainable)

    def remove(self) -> None:
        """Undoes everything that attaching did to the model."""
        for handle in self._hooks:
            handle.remove()
        self._state.restore(self.backbone.model)
        delattr(self.backbone.model, ATTRIBUTE)

    def _load_replaced(self, adapter: Adapter) -> None:
        model, head = self.backbone.model, self.config.head
        replaced = self.replaced_parameters()
        self._state.remember(model, replaced.values())
        for name, parameter in replaced.items():
            copy_into(parameter, name, adapter.tensors)
        if head is not None and head.labels:
            set_labels(model, dict(enumerate(head.labels)), {label: index for index, label in enumerate(head.labels)})


def attach(
    model: nn.Module,
    config: AdapterConfig,
    *,
    generator: torch.Generator | int = 0,
    train_norms: bool = True,
    train_head: bool = True,
    train_pooler: bool = False,
    binding: Binding | None = None,
) -> AttachedAdapter:
    """Puts a freshly initialised adapter into a transformers model and freezes the backbone.

    Args:
        model: a base model or a task model of a bound architecture (see `known_model_types`).
        config: for example from `create_config(describe_backbone(model))`.
        generator: source of the initial values: a seed, or a generator to draw the seed from.
        train_norms: train all norms of the backbone and save them with the adapter.
        train_head: train the task head and save it with the adapter. A base model has none.
        train_pooler: train and save the pooler with the head too: for a checkpoint that has no pooler of its own, whose
            random one would be another at each load.
        binding: of an architecture that has none here; the same for `describe_backbone`.

    Returns:
        The adapter, which is also `model.compacter`.

    Raises:
        CompacterError: E804 if there is an adapter already, E803 for an unknown architecture or head, E401 and E402 if
            `config.backbone` describes another model, E211 for a site that the model lacks.
    """
    bound = _bind_without_adapter(model, binding)
    check_structure(config.backbone, bound.description)
    overrides = bound.norm_parameters() if train_norms else {}
    config = replace(
        config,
        backbone=config.backbone or bound.description,
        overrides=tuple(Override(name=name, kind=OverrideKind.NORM) for name in overrides),
        head=bound.head(with_pooler=train_pooler) if train_head else None,
    )
    for site in config.sites:
        bound.site(site.id)
    attached = AttachedAdapter(bound, config, initialise(config, np.random.default_rng(_seed(generator))))
    attached.set_trainable(True)
    return attached


def attach_adapter(
    model: nn.Module,
    adapter: Adapter,
    *,
    trainable: bool = False,
    with_head: bool = True,
    binding: Binding | None = None,
) -> AttachedAdapter:
    """Puts a trained adapter with its norms and head into a model.

    Args:
        model: the backbone that the adapter was trained on.
        adapter: for example from `compacter_core.format.reader.load_adapter`.
        trainable: go on training; otherwise every parameter of the model is frozen.
        with_head: take over the adapter's head too. Without it, an adapter fits a base model or one for another task.
        binding: as for `attach`.

    Raises:
        CompacterError: E804 if there is an adapter already, E401 to E405 if the adapter does not fit. The model is
            unchanged then.
    """
    bound = _bind_without_adapter(model, binding)
    adapter = adapter if with_head else _without_head(adapter)
    check_fit(adapter, bound)
    config = replace(adapter.config, backbone=adapter.config.backbone or bound.description)
    attached = AttachedAdapter(bound, config, dict(adapter.tensors))
    attached._load_replaced(adapter)
    attached.set_trainable(trainable)
    return attached


def check_fit(adapter: Adapter, bound: BoundBackbone) -> None:
    """The adapter was made for this backbone and for this head.

    Raises:
        CompacterError: E211, E401 to E405.
    """
    check_structure(adapter.config.backbone, bound.description)
    compatibility.check_weights(adapter, bound)
    compatibility.check_overrides(adapter, bound)
    compatibility.check_head(adapter.config.head, bound)


def get_adapter(model: nn.Module) -> AttachedAdapter:
    """The adapter of a model.

    Raises:
        CompacterError: E804 if it has none.
    """
    attached = getattr(model, ATTRIBUTE, None)
    if not isinstance(attached, AttachedAdapter):
        raise CompacterError(
            ErrorCode.E804, "the model has no adapter", value=type(model).__name__, remedy="Call attach first."
        )
    return attached


def detach(model: nn.Module) -> None:
    """Takes the adapter off: the model's outputs, parameters and `requires_grad` are as before, bit for bit.

    Raises:
        CompacterError: E804 if it has none.
    """
    get_adapter(model).remove()


def _bind_without_adapter(model: nn.Module, binding: Binding | None) -> BoundBackbone:
    if hasattr(model, ATTRIBUTE):
        raise CompacterError(
            ErrorCode.E804, "the model already has an adapter", value=type(model).__name__, remedy="Call detach first."
        )
    return bind(model, binding)


def _without_head(adapter: Adapter) -> Adapter:
    tensors = {name: array for name, array in adapter.tensors.items() if not name.startswith(f"{Part.HEAD}.")}
    return replace(adapter, config=replace(adapter.config, head=None), tensors=tensors)


def _seed(generator: torch.Generator | int) -> int:
    if isinstance(generator, int):
        return generator
    return int(torch.randint(2**62, (), generator=generator, device=generator.device))
