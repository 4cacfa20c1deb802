"""Save and load an attached adapter, and say how little of the model it trains."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from compacter_core.format.reader import load_adapter
from compacter_core.format.writer import save_profile
from compacter_core.pytorch.adapters import ATTRIBUTE, get_adapter
from compacter_core.pytorch.attach import attach_adapter
from compacter_core.pytorch.attached import AttachedAdapter
from compacter_core.pytorch.binding_files import Binding
from compacter_core.pytorch.distributed import is_first_process
from compacter_core.pytorch.quantised import element_count


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterCounts:
    """Numbers of scalars, each tensor counted once.

    Args:
        adapter: in the adapter proper.
        replaced: in the norms and biases of the backbone that train with it.
        head: in the head that trains with it.
        backbone: in the model without adapters and that head.
    """

    adapter: int
    replaced: int
    head: int
    backbone: int

    @property
    def trained(self) -> int:
        """Everything that trains."""
        return self.adapter + self.replaced + self.head

    @property
    def share(self) -> float:
        """Adapter and replaced tensors over the backbone: the share of the paper's tables, without the head."""
        return (self.adapter + self.replaced) / self.backbone


def count_parameters(model: nn.Module) -> ParameterCounts:
    """Counts what the active adapter trains.

    Raises:
        CompacterError: E804 if the model has no adapter.
    """
    attached = get_adapter(model)
    own = sum(element_count(one) for one in attached.tensor_parameters().values() if one.requires_grad)
    heads = attached.backbone.task_head.parameters(attached.config.head).values()
    trained_head = sum(element_count(one) for one in heads if one.requires_grad)
    everything = sum(element_count(one) for one in attached.trainable_parameters())
    backbone = [one for name, one in model.named_parameters() if not name.startswith(f"{ATTRIBUTE}.")]
    return ParameterCounts(
        adapter=own,
        replaced=everything - own - trained_head,
        head=trained_head,
        backbone=sum(element_count(one) for one in backbone) - sum(element_count(one) for one in heads),
    )


def print_trainable_parameters(model: nn.Module) -> None:
    """Prints what trains and its share of the backbone.

    Raises:
        CompacterError: E804 if the model has no adapter.
    """
    counts = count_parameters(model)
    print(
        f"trained parameters: {counts.trained:,} (adapter {counts.adapter:,}, norms {counts.replaced:,}, "
        f"head {counts.head:,}); backbone: {counts.backbone:,}; trained share besides the head: {counts.share:.4%}"
    )


def save_pretrained(model: nn.Module, directory: Path | str, name: str | None = None) -> None:
    """Writes an adapter with its norms and head as a hub profile: `adapter_model.safetensors`, `adapter_config.json`.

    Of several processes the first one writes, whole tensors also where they are sharded. Under FSDP2 and ZeRO-3 every
    process has to call it; under DDP every process may. The others do not wait for the file.

    Args:
        model: the model.
        directory: made if it is missing.
        name: of the adapter; None for the active one, or the only one.

    Raises:
        CompacterError: E804 if the model has no such adapter, E006 if the directory cannot be written.
    """
    adapter = get_adapter(model, name).to_adapter()
    if is_first_process():
        save_profile(adapter, Path(directory))


def from_pretrained(
    model: nn.Module,
    path: Path | str,
    *,
    name: str | None = None,
    trainable: bool = False,
    with_head: bool = True,
    binding: Binding | None = None,
) -> AttachedAdapter:
    """Reads an adapter, a file or a hub profile, attaches it, and makes it active.

    Args:
        model: the backbone it was trained on, with the head's number of labels.
        path: of the file or the directory.
        name: under which the model knows the adapter; that of its configuration by default.
        trainable: go on training; otherwise every parameter of the model is frozen.
        with_head: take over the adapter's head too.
        binding: of an architecture that has none here.

    Raises:
        CompacterError: E1xx to E3xx for a bad file, E401 to E405 if it does not fit, E804 if there is an adapter of
            that name already, E001 for a name that cannot be.
    """
    adapter = load_adapter(path)
    return attach_adapter(model, adapter, name=name, trainable=trainable, with_head=with_head, binding=binding)
