"""A model's graphs behind transformers' `generate`: beam search, sampling and all else it can do.

This module needs torch and transformers; the graphs run in ONNX Runtime all the same.
"""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, GenerationConfig, GenerationMixin
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutputWithPast, Seq2SeqLMOutput

from compacter_runtime.choosing import AdapterChoice
from compacter_runtime.decoder import Decoding
from compacter_runtime.generator import Generator


class GeneratingModel(GenerationMixin):  # type: ignore[misc]  # transformers is not typed for mypy
    """The graphs of a generator as a model of transformers, with the adapters of a batch.

    Args:
        generator: the graphs.
        adapter: as for `Generator.generate`: one for all rows, or in a bank one for each prompt, which all its beams
            have then.

    Raises:
        CompacterError: as `Generator.bound`.

    Example:
        >>> model = GeneratingModel(Generator("t5-bank"), adapter=["german", None])  # doctest: +SKIP
        >>> model.generate(two_prompts, num_beams=4, max_new_tokens=20)  # doctest: +SKIP
    """

    main_input_name = "input_ids"
    base_model_prefix = ""
    _is_stateful = False

    def __init__(self, generator: Generator, *, adapter: AdapterChoice = None) -> None:
        self.config: Any = AutoConfig.from_pretrained(generator.directory)
        self.generation_config = _generation_config(generator.directory, self.config)
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self._decoder = generator.bound(adapter, len(adapter) if isinstance(adapter, list | tuple) else 1)

    @classmethod
    def can_generate(cls) -> bool:
        """Yes."""
        return True

    def generate(self, inputs: torch.Tensor | None = None, **kwargs: Any) -> Any:
        """What transformers' `generate` does, with all its arguments."""
        tokens = kwargs.pop("input_ids", inputs)
        if self.config.is_encoder_decoder:
            mask = kwargs.setdefault("attention_mask", torch.ones_like(tokens))
            encoded = self._decoder.start(tokens.numpy(), mask.numpy()).encoded["encoder_hidden_states"]
            kwargs["encoder_outputs"] = BaseModelOutput(last_hidden_state=torch.from_numpy(encoded))
        return super().generate(tokens, **kwargs)

    def prepare_inputs_for_generation(
        self,
        input_ids: torch.Tensor,
        past_key_values: Decoding | None = None,
        attention_mask: torch.Tensor | None = None,
        encoder_outputs: BaseModelOutput | None = None,
        **_: Any,
    ) -> dict[str, Any]:
        """What `forward` takes: the tokens that are not in the cache, and a mask over all, also where none is given."""
        return {
            "tokens": input_ids if past_key_values is None else input_ids[:, -1:],
            "attention_mask": torch.ones_like(input_ids) if attention_mask is None else attention_mask,
            "past_key_values": past_key_values,
            "encoder_outputs": encoder_outputs,
        }

    def __call__(self, **kwargs: Any) -> CausalLMOutputWithPast | Seq2SeqLMOutput:
        """As `forward`."""
        return self.forward(**kwargs)

    def forward(
        self,
        tokens: torch.Tensor,
        attention_mask: torch.Tensor,
        past_key_values: Decoding | None = None,
        encoder_outputs: BaseModelOutput | None = None,
        **_: Any,
    ) -> CausalLMOutputWithPast | Seq2SeqLMOutput:
        """Logits of new tokens, and the cache with them."""
        mask = attention_mask.numpy()
        state = Decoding(mask) if past_key_values is None else past_key_values
        state.mask = mask
        if encoder_outputs is not None:
            states = encoder_outputs.last_hidden_state.numpy()
            state.encoded = {"encoder_hidden_states": states, "encoder_attention_mask": mask}
        logits = torch.from_numpy(self._decoder.step(tokens.numpy(), state))
        kind = CausalLMOutputWithPast if encoder_outputs is None else Seq2SeqLMOutput
        return kind(logits=logits, past_key_values=state)

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        """The cache is one of our own, which the first call of `forward` makes."""
        return False

    def _optimize_model_for_decode(self) -> AbstractContextManager[None]:
        """Nothing: transformers switches kernels of mixtures of experts here."""
        return nullcontext()

    def _reorder_cache(self, past_key_values: Decoding, beam_idx: torch.Tensor) -> Decoding:
        past_key_values.reorder(beam_idx.numpy())
        return past_key_values


def _generation_config(directory: Path, config: Any) -> GenerationConfig:
    if (directory / "generation_config.json").exists():
        return GenerationConfig.from_pretrained(directory)
    return GenerationConfig.from_model_config(config)
