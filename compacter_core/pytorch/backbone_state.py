"""What attaching changes in a backbone, remembered so that detaching puts it back exactly."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from compacter_core.pytorch.distributed import assign, whole

Labels = tuple[Mapping[int, str], Mapping[str, int]]
"""`id2label` and `label2id` of a model's configuration."""


class BackboneState:
    """Values and `requires_grad` of a model's parameters, and its labels, from before an adapter was attached.

    Values are kept only of the parameters that `remember` is told of: the norms and the head, not the backbone.
    """

    def __init__(self, model: nn.Module) -> None:
        self._requires_grad = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
        self._values: dict[str, Tensor] = {}
        self._labels = labels_of(model)

    def remember(self, model: nn.Module, parameters: Iterable[nn.Parameter]) -> None:
        """Keeps the values of these parameters, unless it has them already."""
        wanted = {id(parameter) for parameter in parameters}
        for name, parameter in model.named_parameters():
            if id(parameter) in wanted and name not in self._values:
                self._values[name] = whole(parameter).clone()

    def freeze(self, model: nn.Module) -> None:
        """Turns gradients off for every parameter of the backbone."""
        for name in self._requires_grad:
            model.get_parameter(name).requires_grad_(False)

    def restore_values(self, model: nn.Module) -> None:
        """Puts remembered values and labels back."""
        for name, value in self._values.items():
            assign(model.get_parameter(name), value)
        set_labels(model, self._labels)

    def restore(self, model: nn.Module) -> None:
        """Puts everything back."""
        self.restore_values(model)
        for name, requires_grad in self._requires_grad.items():
            model.get_parameter(name).requires_grad_(requires_grad)


def labels_of(model: nn.Module) -> Labels:
    """The class names in the model's configuration."""
    config: Any = getattr(model, "config", None)
    return dict(config.id2label), dict(config.label2id)


def set_labels(model: nn.Module, labels: Labels) -> None:
    """Gives the model's configuration these class names."""
    config: Any = model.config
    config.id2label, config.label2id = dict(labels[0]), dict(labels[1])
