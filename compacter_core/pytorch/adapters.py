"""The adapters of one model: any number of them, of which at most one is active.

Each has its own tensors, norms, head and labels. Switching puts the active one's norms, head and labels into the model
and keeps the others'; parameters stay the same objects, so that optimisers, DDP and FSDP go on knowing them.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.pytorch.attached import AttachedAdapter
from compacter_core.pytorch.backbone_state import BackboneState
from compacter_core.pytorch.binding_files import Binding
from compacter_core.pytorch.bindings import BoundBackbone, bind

ATTRIBUTE = "compacter"
"""Name under which the adapters are a submodule of their model."""


class Adapters(nn.Module):
    """The adapters of a model, by name, as its submodule `model.compacter`.

    A tensor of an adapter is `compacter.<name>.<its name in the file>` in the model's state_dict.
    """

    def __init__(self, backbone: BoundBackbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.state = BackboneState(backbone.model)
        self._active: str | None = None

    @classmethod
    def of(cls, model: nn.Module, binding: Binding | None = None) -> "Adapters":
        """Those of the model, or new ones that are not part of it yet.

        Raises:
            CompacterError: E803 if there is no binding, or another one than that of the adapters that are there.
        """
        present = getattr(model, ATTRIBUTE, None)
        if not isinstance(present, Adapters):
            return cls(bind(model, binding))
        if binding not in (None, present.backbone.binding):
            raise CompacterError(
                ErrorCode.E803,
                "the model's adapters were attached through another binding",
                value=None if binding is None else binding.model_type,
                remedy="Leave the binding out, or detach them first.",
            )
        return present

    @property
    def names(self) -> tuple[str, ...]:
        """Of all adapters, in the order in which they were attached."""
        return tuple(self._modules)

    @property
    def active(self) -> str | None:
        """Name of the active adapter."""
        return self._active

    def get(self, name: str) -> AttachedAdapter:
        """An adapter.

        Raises:
            CompacterError: E804 if there is none of that name.
        """
        adapter = self._modules.get(name)
        if not isinstance(adapter, AttachedAdapter):
            raise CompacterError(
                ErrorCode.E804, "the model has no such adapter", value=name, expected=", ".join(self.names)
            )
        return adapter

    def check_new(self, name: str) -> None:
        """The name is free.

        Raises:
            CompacterError: E804 if there is such an adapter, E001 for one that no submodule can have.
        """
        if name in self._modules:
            raise CompacterError(
                ErrorCode.E804,
                "the model already has an adapter of that name",
                value=name,
                remedy="Detach it first, or attach the new one under another name.",
            )
        if hasattr(self, name) or "." in name:
            raise CompacterError(
                ErrorCode.E001,
                "adapter name",
                value=name,
                expected="a name without dots that is no attribute of a PyTorch module",
                remedy="Attach it under another name.",
            )

    def add(self, name: str, adapter: AttachedAdapter) -> None:
        """Makes an adapter part of the model, and the active one."""
        model = self.backbone.model
        if not self._modules:
            self.state.freeze(model)
            model.add_module(ATTRIBUTE, self)
            self.train(model.training)
        adapter.train(model.training)
        adapter.add_hooks()
        self.add_module(name, adapter)
        self.activate(name)

    def activate(self, name: str | None) -> None:
        """Makes one adapter the active one, or none."""
        following = None if name is None else self.get(name)
        if self._active is not None:
            self.get(self._active).drop_gradients()
        self._switch_to(following)
        self._active = name

    @contextmanager
    def bare(self) -> Iterator[None]:
        """Inside the context no adapter is active; afterwards the one is that was, gradients included."""
        former = None if self._active is None else self.get(self._active)
        self._switch_to(None)
        try:
            yield
        finally:
            self._switch_to(former)

    def remove(self, name: str) -> None:
        """Takes an adapter off; with the last one, the model is as it was before the first."""
        adapter = self.get(name)
        if self._active == name:
            self.activate(None)
        adapter.remove_hooks()
        delattr(self, name)
        if not self._modules:
            self.state.restore(self.backbone.model)
            delattr(self.backbone.model, ATTRIBUTE)

    def _switch_to(self, following: AttachedAdapter | None) -> None:
        for adapter in self.children():
            if isinstance(adapter, AttachedAdapter) and adapter.is_active:
                adapter.deactivate()
        if following is not None:
            following.activate()


def adapter_names(model: nn.Module) -> tuple[str, ...]:
    """Names of a model's adapters, in the order in which they were attached."""
    adapters = getattr(model, ATTRIBUTE, None)
    return adapters.names if isinstance(adapters, Adapters) else ()


def get_adapter(model: nn.Module, name: str | None = None) -> AttachedAdapter:
    """An adapter of a model.

    Args:
        model: the model.
        name: None for the active one, or the only one.

    Raises:
        CompacterError: E804 if there is none, or none is active among several.
    """
    adapters = _present(model)
    if name is None:
        name = adapters.active or (adapters.names[0] if len(adapters.names) == 1 else None)
    if name is None:
        raise CompacterError(
            ErrorCode.E804,
            "none of the model's adapters is active",
            value=", ".join(adapters.names),
            remedy="Name one, or call set_active first.",
        )
    return adapters.get(name)


def set_active(model: nn.Module, name: str | None) -> None:
    """Makes one adapter the active one: only it computes and trains, with its norms, head and labels in the model.

    Gradients of the former one that no step has used are dropped. A model inside DDP has to be wrapped anew, since DDP
    notes at its start what trains.

    Args:
        model: the model.
        name: of the adapter; None for the bare backbone, bit for bit.

    Raises:
        CompacterError: E804 if there is no such adapter.
    """
    _present(model).activate(name)


def detach(model: nn.Module, name: str | None = None) -> None:
    """Takes one adapter off, or all.

    With the last one off, the model's outputs, parameters and `requires_grad` are as before the first, bit for bit.

    Args:
        model: the model.
        name: of the adapter; None for all.

    Raises:
        CompacterError: E804 if there is none.
    """
    adapters = _present(model)
    for one in adapters.names if name is None else (name,):
        adapters.remove(one)


def _present(model: nn.Module) -> Adapters:
    adapters = getattr(model, ATTRIBUTE, None)
    if not isinstance(adapters, Adapters):
        raise CompacterError(
            ErrorCode.E804, "the model has no adapter", value=type(model).__name__, remedy="Call attach first."
        )
    return adapters
