"""Tiny models that generate text, and their exports with an adapter in them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from compacter_core.adapter import Adapter, Array
from compacter_core.config import ATTACH_PRESETS, Attach
from compacter_core.methods import create_config
from compacter_core.pytorch import attach, describe_backbone
from compacter_exporters.backbone import export_backbone
from compacter_exporters.choices import Backend, Task
from compacter_runtime.decoder import GraphDecoder
from tests.support.backbones import BACKBONES, VOCABULARY, randomise

PAD, START, END = 0, 1, 2
NEW_TOKENS: Final = 10

# transformers' exporter takes several seconds for each graph.
MODEL_TYPES: Final = {
    Backend.TRANSFORMERS: ("gpt2", "llama", "t5"),
    Backend.OPTIMUM: ("bart", "gemma", "gpt2", "llama", "mistral", "mt5", "qwen3", "t5"),
}


@dataclass(frozen=True)
class Generator:
    """A model, its exported graphs, and a batch of prompts."""

    backend: Backend
    model: Any
    graphs: Path

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether it has both stacks."""
        return bool(self.model.config.is_encoder_decoder)

    @property
    def prompts(self) -> torch.Tensor:
        """Tokens [3, 7] without padding."""
        return torch.randint(3, VOCABULARY, (3, 7), generator=torch.Generator().manual_seed(5))


def tiny_generator(model_type: str, checkpoint: Path) -> Any:
    """A random model whose embeddings are not tied, so that it says more than what it has just read.

    BART's are: untied ones are not in its checkpoints.
    """
    options = {
        **BACKBONES[model_type],
        "vocab_size": VOCABULARY,
        "tie_word_embeddings": model_type == "bart",
        "pad_token_id": PAD,
        "bos_token_id": START,
        "eos_token_id": END,
    }
    config = AutoConfig.for_model(model_type, **options)
    if config.is_encoder_decoder:
        config.decoder_start_token_id, config.forced_eos_token_id = START, None
    auto: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]):
        model = auto.from_config(config)
    randomise(model, seed=3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embed" in name:  # so that what is said depends on what was read, and on where
                parameter.mul_(4)
    model.save_pretrained(checkpoint)
    # Saving unties and ties parameters; the model is what its checkpoint gives.
    return auto.from_pretrained(checkpoint, attn_implementation="eager").eval()


def exported(backend: Backend, model_type: str, folder: Path) -> Generator:
    """The model as graphs in `folder/graphs`."""
    model = tiny_generator(model_type, folder / "checkpoint")
    task = Task.TEXT2TEXT_GENERATION if model.config.is_encoder_decoder else Task.TEXT_GENERATION
    result = export_backbone(folder / "checkpoint", folder / "graphs", task=task, backend=backend)
    assert result == (folder / "graphs" if model.config.is_encoder_decoder else folder / "graphs/model.onnx")
    return Generator(backend, model, folder / "graphs")


def trained(model: Any, placement: Attach = ATTACH_PRESETS["houlsby"], **options: Any) -> Adapter:
    """An adapter in every site there is, cross-attentions included, that looks trained; it stays attached."""
    backbone = describe_backbone(model)
    sizes = {"reduction_factor": 4, "phm_dim": 2, "sites": list(backbone.modules)}
    config = create_config(backbone, attach=placement, **{**sizes, **options})
    attached = attach(model, config, generator=7)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in attached.trainable_parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return attached.to_adapter()


def generated(model: Any, prompts: torch.Tensor, *, beams: int) -> torch.Tensor:
    """What `generate` gives, of a PyTorch model or of one that behaves like it."""
    tokens: torch.Tensor = model.generate(
        input_ids=prompts,
        attention_mask=torch.ones_like(prompts),
        max_new_tokens=NEW_TOKENS,
        num_beams=beams,
        do_sample=False,
    )
    return tokens


def greedy_in_graphs(decoder: GraphDecoder, prompts: Array) -> tuple[Array, list[Array]]:
    """The tokens and the logits of each step, of graphs run one token at a time; ended rows go on with padding."""
    mask = np.ones_like(prompts)
    state = decoder.start(prompts, mask)
    tokens = prompts if decoder.encoder is None else np.full((len(prompts), 1), START)
    new, steps, ended = tokens, [], np.zeros(len(prompts), dtype=bool)
    for _ in range(NEW_TOKENS):
        logits = decoder.step(new, state)[:, -1]
        steps.append(logits)
        new = np.where(ended, PAD, logits.argmax(axis=-1))[:, None]
        ended |= new[:, 0] == END
        tokens = np.concatenate([tokens, new], axis=1)
        state.mask = np.concatenate([state.mask, np.ones_like(new)], axis=1)
        if ended.all():
            break
    return tokens, steps
