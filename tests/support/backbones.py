"""Tiny random base models, one for every binding, with inputs that run all of their layers."""

from typing import Any, Final
from zlib import crc32

import torch
from transformers import AutoConfig, AutoModel

HIDDEN: Final = 16
VOCABULARY: Final = 50
_LENGTH: Final = 6

_PLAIN: Final = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_DECODER: Final = _PLAIN | {"num_key_value_heads": 1}
_T5: Final = {"d_model": HIDDEN, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_decoder_layers": 1, "num_heads": 2}
_BART: Final = {
    "d_model": HIDDEN,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}

BACKBONES: Final[dict[str, dict[str, Any]]] = {
    # Two groups of two layers, run twice: every layer is shared.
    "albert": _PLAIN | {"embedding_size": 8, "num_hidden_layers": 4, "num_hidden_groups": 2, "inner_group_num": 2},
    "bart": _BART,
    "bert": _PLAIN,
    "deberta-v2": _PLAIN
    | {
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "norm_rel_ebd": "layer_norm",
        "position_buckets": 8,
    },
    "distilbert": {"dim": HIDDEN, "n_layers": 2, "n_heads": 2, "hidden_dim": 24, "max_position_embeddings": 40},
    "electra": _PLAIN | {"embedding_size": 8},
    "gemma": _DECODER | {"head_dim": 8},
    "gpt2": {"n_embd": HIDDEN, "n_layer": 2, "n_head": 2, "n_positions": 40, "bos_token_id": 1, "eos_token_id": 2},
    "llama": _DECODER,
    "mbart": _BART,
    "mistral": _DECODER,
    "mt5": _T5 | {"feed_forward_proj": "gated-gelu"},
    "phi3": _DECODER,
    "qwen2": _DECODER,
    "qwen3": _DECODER | {"head_dim": 8},
    "roberta": _PLAIN,
    "t5": _T5,
    "vit": {name: _PLAIN[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads")}
    | {"intermediate_size": 24, "image_size": 8, "patch_size": 4},
    "whisper": _BART | {"num_mel_bins": 8, "max_source_positions": 10, "max_target_positions": 20},
    "xlm-roberta": _PLAIN,
}


def tiny_backbone(model_type: str, *, seed: int = 0) -> Any:
    """A base model in evaluation mode, float64, with norms and biases off their neutral values."""
    config = AutoConfig.for_model(model_type, **{"vocab_size": VOCABULARY, **BACKBONES[model_type]})
    with torch.random.fork_rng(devices=[]):
        model = AutoModel.from_config(config)
    randomise(model, seed=seed)
    return model.eval().double()


def randomise(model: torch.nn.Module, *, seed: int = 0) -> None:
    """Moves norms and biases off their neutral values; a parameter's values depend on its name and the seed."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            generator = torch.Generator().manual_seed(crc32(f"{seed}:{name}".encode()))
            noise = torch.randn(parameter.shape, generator=generator)
            is_gain = parameter.ndim == 1 and name.endswith("weight")
            parameter.copy_(1 + 0.2 * noise if is_gain else 0.3 * noise)


def backbone_inputs(model: Any, *, batch: int = 2, seed: int = 0) -> dict[str, torch.Tensor]:
    """What the model's forward takes: tokens, an image or a spectrogram, and tokens for a decoder."""
    generator = torch.Generator().manual_seed(seed)
    config = model.config
    tokens = torch.randint(3, VOCABULARY, (batch, _LENGTH), generator=generator)
    match model.main_input_name:
        case "pixel_values":
            shape = (batch, config.num_channels, config.image_size, config.image_size)
            return {"pixel_values": torch.randn(shape, generator=generator, dtype=torch.float64)}
        case "input_features":
            length = 2 * config.max_source_positions
            features = torch.randn((batch, config.num_mel_bins, length), generator=generator, dtype=torch.float64)
            return {"input_features": features, "decoder_input_ids": tokens}
    decoder = {"decoder_input_ids": tokens.flip(-1)} if config.is_encoder_decoder else {}
    return {"input_ids": tokens, **decoder}


def run(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """The last hidden state."""
    output: torch.Tensor = model(**inputs)[0]
    return output
