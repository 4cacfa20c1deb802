"""An adapter at work in a model: its own tensors, and the norms and the head that it replaces in the model."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from compacter_core.adapter import Adapter, Array
from compacter_core.compatibility import check_structure
from compacter_core.config import AdapterConfig, Head
from compacter_core.layout import Part
from compacter_core.pytorch.backbone_state import BackboneState, Labels, labels_of, set_labels
from compacter_core.pytorch.bindings import BoundBackbone
from compacter_core.pytorch.checkpointing import GraphStart
from compacter_core.pytorch.compatibility import check_fit, check_same_adapter
from compacter_core.pytorch.convert import file_type, to_array, to_tensor
from compacter_core.pytorch.distributed import assign, reshard, whole, whole_shape
from compacter_core.pytorch.modules import AdapterModule
from compacter_core.pytorch.placement import Placement
from compacter_core.pytorch.pooling import MeanPooling
from compacter_core.pytorch.quantised import device_of
from compacter_core.pytorch.switching import Switch, forget_compiled
from compacter_core.vocabulary import Pooling


class AttachedAdapter(AdapterModule):
    """An adapter in a model, made by `attach` or `from_pretrained`.

    Its state_dict has the tensor names of the file. It also answers for the norms and the head that it replaces in the
    model: they are saved, loaded and counted with it. They stand in the model while the adapter is active; while it is
    not, it keeps their values, and the model has its own.

    Args:
        bound: the model, with no adapter active.
        config: of the adapter.
        tensors: its own values by full name.
        sketches: of the backbone, by their name in the file.
        state: what the model was like before any adapter.
    """

    def __init__(
        self,
        bound: BoundBackbone,
        config: AdapterConfig,
        tensors: Mapping[str, Array],
        sketches: Mapping[str, Array],
        state: BackboneState,
    ) -> None:
        linear = bound.site(config.sites[0].id).linear
        # The paper's small initial A needs more than half precision; a half-precision backbone keeps its own type.
        is_double = getattr(linear, "weight", None) is not None and linear.weight.dtype is torch.float64
        dtype = torch.float64 if is_double else torch.float32
        super().__init__(config, tensors, dtype=dtype, device=device_of(linear))
        self.backbone = bound
        self._state = state
        self._sketches = dict(sketches)
        self._switch = Switch()
        # Of the time while it is not active:
        self._kept: dict[str, Tensor] = {}
        self._trained: frozenset[str] = frozenset()
        self._labels: Labels = labels_of(bound.model)
        self._hooks: list[RemovableHandle] = []

    @property
    def is_active(self) -> bool:
        """Whether it takes part in the forward pass."""
        return self._switch.on

    def replaced_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters of the model that hold the adapter's norms and head while it is active.

        By tensor name in the file: `override.*` and `head.*`.
        """
        base = self.backbone.base
        replaced = {f"{Part.OVERRIDE}.{one.name}": base.get_parameter(one.name) for one in self.config.overrides}
        head = self.backbone.task_head.parameters(self.config.head)
        return replaced | {f"{Part.HEAD}.{name}": parameter for name, parameter in head.items()}

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """Everything that trains: the adapter's own parameters, the norms and the head; nothing while not active."""
        return (parameter for parameter in self._everything().values() if self.is_active and parameter.requires_grad)

    def set_trainable(self, trainable: bool) -> None:
        """Turns gradients on or off for the adapter with its norms and head; while not active, for when it will be."""
        everything = self._everything()
        self._trained = frozenset(everything) if trainable else frozenset()
        if self.is_active:
            for parameter in everything.values():
                parameter.requires_grad_(trainable)

    def to_adapter(self) -> Adapter:
        """The adapter as it is now, with its norms, its head, the head's labels, and sketches of the backbone.

        Where parameters are sharded, every process has to call it.

        Raises:
            CompacterError: E003 for a data type that the file does not have.
        """
        reshard(self.backbone.model)
        replaced: Mapping[str, Tensor] = self.replaced_parameters() if self.is_active else self._kept
        values = {**self.tensor_parameters(), **replaced}
        dtype = file_type(values.values())
        return Adapter(
            config=replace(self.config, head=self._head()),
            tensors={name: to_array(value, dtype) for name, value in values.items()},
            sketches=self._sketches,
            dtype=dtype,
        )

    def load(self, adapter: Adapter) -> None:
        """Takes over the values of another adapter of the same configuration, with its norms and head.

        Norms and biases of the backbone that the adapter does not replace go back to their original values.

        Raises:
            CompacterError: E001 for another configuration, E401 to E405 if it does not fit the backbone. Nothing has
                changed then.
        """
        check_structure(adapter.config.backbone, self.backbone.description)
        check_fit(adapter, self.backbone, self._sketches)
        check_same_adapter(self.config, adapter.config)
        is_active = self.is_active
        if is_active:
            self.deactivate()
        self.take(adapter)
        self.set_trainable(bool(self._trained))
        if is_active:
            self.activate()

    def take(self, adapter: Adapter) -> None:
        """The values of an adapter that fits, with its norms, head and labels, while this one is not active."""
        reshard(self.backbone.model)
        self.config = replace(adapter.config, backbone=self.config.backbone)
        self.load_tensors(adapter.tensors)
        self._kept = {
            name: to_tensor(name, adapter.tensors, whole_shape(parameter)).to(parameter.device, parameter.dtype)
            for name, parameter in self.replaced_parameters().items()
        }
        head = self.config.head
        if head is not None and head.labels:
            names = dict(enumerate(head.labels))
            self._labels = (names, {label: index for index, label in names.items()})

    def activate(self) -> None:
        """Takes part from now on: its norms, head and labels are the model's, its hooks act, what it trains trains.

        No other adapter may be active.
        """
        model = self.backbone.model
        reshard(model)
        replaced = self.replaced_parameters()
        self._state.remember(model, replaced.values())
        for name, value in self._kept.items():
            assign(replaced[name], value)
        set_labels(model, self._labels)
        for name, parameter in self._everything().items():
            parameter.requires_grad_(name in self._trained)
        self._kept = {}
        self._switch.on = True

    def deactivate(self) -> None:
        """Leaves the model as it is without an adapter, frozen."""
        reshard(self.backbone.model)
        everything = self._everything()
        self.config = replace(self.config, head=self._head())
        self._labels = labels_of(self.backbone.model)
        self._kept = {name: whole(parameter).clone() for name, parameter in self.replaced_parameters().items()}
        self._trained = frozenset(name for name, parameter in everything.items() if parameter.requires_grad)
        self._state.restore_values(self.backbone.model)
        for parameter in everything.values():
            parameter.requires_grad_(False)
        self._switch.on = False

    def drop_gradients(self) -> None:
        """Forgets gradients that no step has used, so that they move no other adapter's norms and head."""
        for parameter in self._everything().values():
            parameter.grad = None

    def add_hooks(self) -> None:
        """Puts its hooks into the model, where they act while it is active."""
        config, bound = self.config, self.backbone
        for site in config.sites:
            placement = Placement(self.at(site.id), config.attach_of(site), self._switch)
            self._hooks += placement.register(bound.site(site.id))
        if config.head is not None and config.head.pooling is Pooling.MEAN:
            self._hooks += MeanPooling(self._switch).register(bound)
        self._hooks += [GraphStart(layer, self._switch).register(before) for before, layer in bound.layer_starts()]
        forget_compiled()

    def remove_hooks(self) -> None:
        """Takes them out again."""
        for handle in self._hooks:
            handle.remove()
        self._hooks = []
        forget_compiled()

    def _everything(self) -> dict[str, nn.Parameter]:
        return {**self.tensor_parameters(), **self.replaced_parameters()}

    def _head(self) -> Head | None:
        """The head with the labels that it has now."""
        head = self.config.head
        if head is None or not self.is_active:
            return head
        return self.backbone.task_head.like(head)
