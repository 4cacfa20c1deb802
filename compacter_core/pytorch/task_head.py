"""The task head of a transformers model, as its binding describes it: what is saved with an adapter."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from compacter_core.config import Head
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.pytorch.binding_files import Binding
from compacter_core.pytorch.distributed import class_name, whole_shape
from compacter_core.vocabulary import Pooling


@dataclass(frozen=True, slots=True)
class TaskHead:
    """The head of one model.

    Args:
        model: a model for a task, or a base model, which has no head.
        base: the base model inside it, or the model itself.
        binding: of its architecture.
    """

    model: nn.Module
    base: nn.Module
    binding: Binding

    def describe(self, *, with_pooler: bool = False, pooling: Pooling | None = None) -> Head | None:
        """The head that the model has now; None for a base model, and for a language model's, which is the backbone's.

        Args:
            with_pooler: make the pooler, where there is one, the head's first layer.
            pooling: what the head reads instead of the pooler's output.

        Raises:
            CompacterError: E803 for a class whose head the binding does not know, or before which it knows no pooler
                that a pooling could take the place of.
        """
        if self.model is self.base:
            return None
        name = class_name(self.model)
        if name not in self.binding.heads:
            raise CompacterError(
                ErrorCode.E803,
                "the binding does not know the head of this model",
                value=name,
                expected=", ".join(self.binding.heads),
                remedy="Attach with train_head=False to train the adapter alone.",
            )
        known = self.binding.heads[name]
        if known is None:
            return None
        if pooling is not None:
            self.pooler_module()
        takes_pooler = with_pooler and known.pooler is not None
        layers = (str(known.pooler), *known.layers) if takes_pooler else known.layers
        return Head(
            task=known.task,
            layers=layers,
            shapes={name: whole_shape(parameter) for name, parameter in self._tensors(layers).items()},
            labels=_labels(self.model, known.task),
            pooler=None if takes_pooler or pooling is not None else known.pooler,
            pooling=pooling,
        )

    def like(self, head: Head) -> Head | None:
        """The head that the model has now, made of the same layers of the model as `head`, as far as it has them.

        Raises:
            CompacterError: E803, as `describe`.
        """
        return self.describe(with_pooler=head.pooler is None and head.pooling is None, pooling=head.pooling)

    def pooler_module(self) -> nn.Module:
        """The module whose place a pooling takes: of the last hidden states it makes what the head reads.

        Raises:
            CompacterError: E803 if the binding names none for this class of model.
        """
        known = self.binding.heads.get(class_name(self.model))
        if known is None or known.pooler_module is None:
            able = [name for name, head in self.binding.heads.items() if head is not None and head.pooler_module]
            raise CompacterError(
                ErrorCode.E803,
                "no pooling can be chosen for the head of this model",
                value=class_name(self.model),
                expected=", ".join(able) or None,
                remedy="Leave the pooling out.",
            )
        return self.model.get_submodule(known.pooler_module)

    def parameters(self, head: Head | None) -> dict[str, nn.Parameter]:
        """The tensors of a head by their name in the model."""
        return {} if head is None else self._tensors(head.layers)

    def _tensors(self, layers: tuple[str, ...]) -> dict[str, nn.Parameter]:
        return {
            f"{layer}.{leaf}": parameter
            for layer in layers
            for leaf, parameter in self.model.get_submodule(layer).named_parameters(recurse=False)
        }


def _labels(model: nn.Module, task: str) -> tuple[str, ...]:
    config: Any = model.config
    is_regression = config.num_labels == 1
    if is_regression or not task.endswith("classification"):
        return ()
    return tuple(str(config.id2label[index]) for index in range(config.num_labels))
