"""Tiny models with adapters, made and saved by AdapterHub itself: what its users would bring."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

import adapters
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.support.backbones import BACKBONES, VOCABULARY, backbone_inputs

LABELS = 3
NAME = "a"
SHARED_FILE = "shared.safetensors"

_TRAINS_ITS_HEAD = ("Classification", "Answering")


class Source:
    """A model in AdapterHub's hands, and on disk without an adapter.

    Args:
        folder: where the backbone is saved.
        model_class: of transformers, or one of AdapterHub's with flexible heads.
        model_type: the architecture.
        interface: for a model that AdapterHub does not know.
        dtype: of everything.
    """

    def __init__(
        self,
        folder: Path,
        model_class: str,
        model_type: str,
        *,
        interface: Any = None,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        self.model_class, self.model_type = model_class, model_type
        self.is_flexible = not hasattr(transformers, model_class)
        self.backbone = folder / "backbone"
        self._interface, self._dtype = interface, dtype
        self.model: Any = build(model_class, model_type, dtype)
        (self.model.base_model if self.is_flexible else self.model).save_pretrained(self.backbone)
        self.inputs = model_inputs(self.model)

    def save(
        self,
        folder: Path,
        options: Any,
        *,
        name: str = NAME,
        head: Mapping[str, Any] | None = None,
        use_safetensors: bool = True,
    ) -> Path:
        """Makes a model with an adapter that looks trained, the active one, and saves that adapter.

        Args:
            folder: to save it in; what the library may lose is written beside it, as `SHARED_FILE`.
            options: a configuration of that library.
            name: of the adapter.
            head: the configuration of a flexible head, as `head_config.json` has it.
            use_safetensors: rather than pickles.
        """
        model = self.model = self._without_adapter()
        model.add_adapter(name, config=options)
        if head is not None:
            model.add_prediction_head_from_config(name, dict(head))
        model.to(model.dtype)
        scramble(((key, value) for key, value in model.named_parameters() if name in key.split(".")), seed=2)
        model.set_active_adapters(name)
        model.eval()
        model.save_adapter(str(folder / "adapter"), name, use_safetensors=use_safetensors)
        shared = dict(model.base_model.shared_parameters).get(name, {})
        save_file({key: value.detach().clone() for key, value in shared.items()}, folder / SHARED_FILE)
        return folder / "adapter"

    def _without_adapter(self) -> Any:
        model = build(self.model_class, self.model_type, self._dtype)
        if not self.is_flexible:
            adapters.init(model, interface=self._interface)
            if self.model_class.endswith(_TRAINS_ITS_HEAD):  # the backbone on disk keeps another head
                scramble(outside_base(model), seed=1)
        return model

    def outputs(self) -> dict[str, Tensor]:
        """What the model computes with its active adapter."""
        return run(self.model, self.inputs)

    def loaded(self, directory: Path, name: str = NAME) -> dict[str, Tensor]:
        """What a fresh model computes after AdapterHub has loaded an adapter."""
        library = adapters if self.is_flexible else transformers
        model = getattr(library, self.model_class).from_pretrained(self.backbone)
        if not self.is_flexible:
            adapters.init(model)
        model.load_adapter(str(directory), use_safetensors=True, set_active=True)
        assert name in model.adapters_config.adapters
        return run(model.eval().to(self.model.dtype), self.inputs)


def build(model_class: str, model_type: str, dtype: torch.dtype) -> Any:
    """A random model of a class of transformers or of AdapterHub, with norms and biases off their neutral values."""
    sizes = {"vocab_size": VOCABULARY, "num_labels": LABELS, "pad_token_id": 0, **BACKBONES[model_type]}
    config = transformers.AutoConfig.for_model(model_type, **sizes)
    library = transformers if hasattr(transformers, model_class) else adapters
    with torch.random.fork_rng(devices=[]):
        model = getattr(library, model_class)(config)
    scramble(model.named_parameters(), seed=0)
    return model.eval().to(dtype)


def model_inputs(model: Any) -> dict[str, Tensor]:
    """Inputs of two rows that end as classifiers of encoder-decoders want it, with the end of the text."""
    inputs = {
        name: value.to(model.dtype) if value.is_floating_point() else value
        for name, value in backbone_inputs(model).items()
    }
    if "input_ids" in inputs and isinstance(model.config.eos_token_id, int):
        inputs["input_ids"][:, -1] = model.config.eos_token_id
    starts = getattr(model.config, "decoder_start_token_id", None) is not None
    if starts and type(model).__name__.endswith("ForSequenceClassification"):
        # It makes the decoder's tokens itself, and its graph takes none.
        inputs.pop("decoder_input_ids", None)
    return inputs


def run(model: Any, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All hidden states and the other outputs, by name."""
    with torch.no_grad():
        answer = model(**inputs, output_hidden_states=True)
    found: dict[str, Tensor] = {}
    for name, value in answer.items():
        if isinstance(value, Tensor):
            found[name] = value
        elif name.endswith("hidden_states"):
            found |= {f"{name}.{index}": state for index, state in enumerate(value)}
    return found


def difference(want: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> float:
    """The largest difference of an output, over its largest value; both have the same outputs."""
    assert set(want) == set(got)
    return max(float((want[name] - got[name]).abs().max() / want[name].abs().max()) for name in want)


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
