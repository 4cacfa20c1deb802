"""Tiny models with an adapter, made and saved by AdapterHub itself: what its user would bring."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import adapters
import torch
import transformers
from safetensors.torch import save_file
from torch import nn

from tests.support.backbones import BACKBONES, VOCABULARY

LABELS = 3
SHARED_FILE = "shared.safetensors"


@dataclass(frozen=True)
class Saved:
    """What AdapterHub left on disk, and the model that it was saved from.

    Args:
        model: in evaluation mode, with the adapter active.
        backbone: directory of the model without the adapter.
        adapter: directory that `save_adapter` wrote.
        shared: file with the shared tensors, as they are in memory.
    """

    model: Any
    backbone: Path
    adapter: Path
    shared: Path


def save(
    folder: Path,
    model_class: str,
    model_type: str,
    options: Any,
    *,
    name: str = "a",
    head: dict[str, Any] | None = None,
    interface: Any = None,
    use_safetensors: bool = True,
    dtype: torch.dtype = torch.float32,
) -> Saved:
    """An adapter that looks trained, saved by AdapterHub.

    Args:
        folder: where everything goes.
        model_class: of transformers, or one of AdapterHub's with flexible heads.
        model_type: the architecture.
        options: an adapter configuration of that library.
        name: of the adapter.
        head: of a flexible head: its type as `kind`, and its options.
        interface: for a model that the library does not know.
        use_safetensors: rather than pickles.
        dtype: of everything.
    """
    model = build(model_class, model_type, dtype)
    plain = getattr(transformers, model_class, None)
    (model if plain else model.base_model).save_pretrained(folder / "backbone")
    if plain:
        adapters.init(model, interface=interface)
        if model_class.endswith(("Classification", "Answering")):  # a head that trains differs from the backbone's
            scramble(outside_base(model), seed=1)
    model.add_adapter(name, config=options)
    if head is not None:
        arguments = dict(head)
        getattr(model, f"add_{arguments.pop('kind')}_head")(name, **arguments)
    model.to(dtype)
    added = [(key, value) for key, value in model.named_parameters() if name in key.split(".")]
    scramble(added, seed=2)
    model.set_active_adapters(name)
    model.eval()
    model.save_adapter(str(folder / "adapter"), name, use_safetensors=use_safetensors)
    shared = dict(model.base_model.shared_parameters).get(name, {})
    save_file({key: value.detach().clone() for key, value in shared.items()}, folder / SHARED_FILE)
    return Saved(model, folder / "backbone", folder / "adapter", folder / SHARED_FILE)


def build(model_class: str, model_type: str, dtype: torch.dtype = torch.float32) -> Any:
    """A random model of a class of transformers or of AdapterHub, with norms and biases off their neutral values."""
    config = transformers.AutoConfig.for_model(
        model_type, **{"vocab_size": VOCABULARY, "num_labels": LABELS, **BACKBONES[model_type]}
    )
    library = transformers if hasattr(transformers, model_class) else adapters
    with torch.random.fork_rng(devices=[]):
        model = getattr(library, model_class)(config)
    scramble(model.named_parameters(), seed=0)
    return model.eval().to(dtype)


def outside_base(model: Any) -> list[tuple[str, nn.Parameter]]:
    """The parameters of the head."""
    inside = {id(parameter) for parameter in model.base_model.parameters()}
    return [(name, parameter) for name, parameter in model.named_parameters() if id(parameter) not in inside]


def scramble(parameters: Iterable[tuple[str, nn.Parameter]], *, seed: int) -> None:
    """Values that depend on the names alone: gains near 1, everything else near 0."""
    with torch.no_grad():
        for name, parameter in parameters:
            generator = torch.Generator().manual_seed(crc32(f"{seed}:{name}".encode()))
            noise = torch.randn(parameter.shape, generator=generator)
            is_gain = parameter.ndim == 1 and name.endswith("weight")
            parameter.copy_(1 + 0.2 * noise if is_gain else 0.3 * noise)
