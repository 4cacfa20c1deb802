"""Comparison of exported decoders with the PyTorch model: what they say step by step is what it says at once."""

from itertools import product
from pathlib import Path
from typing import Final

import numpy as np
import torch

from compacter_core.adapter import Array
from compacter_core.errors import CompacterError, ErrorCode
from compacter_exporters.choices import MERGED_DECODER_FILE
from compacter_exporters.graph_check import RELATIVE_LIMIT, mismatch
from compacter_exporters.source_model import SourceModel
from compacter_runtime.decoder import GraphDecoder

_CASES: Final = ((1, 1, 2), (2, 4, 3))
"""Batch, length of the prompt, and steps of one token behind it."""


def check_generation(directory: Path, source: SourceModel) -> None:
    """Run prompts and steps of one token in ONNX Runtime, and the whole in PyTorch.

    Raises:
        CompacterError: E606 if logits differ or a step cannot be run.
    """
    ways = [False, True] if (directory / MERGED_DECODER_FILE).exists() else [False]
    for merged, (batch, prompt, steps) in product(ways, _CASES):
        tokens = source.sample(batch, prompt + steps)["input_ids"]
        mask = torch.ones(batch, prompt + steps, dtype=torch.int64)
        if prompt > 1:
            mask[1:, 0] = 0
        try:
            got = _step_by_step(GraphDecoder.load(directory, merged=merged), tokens.numpy(), mask.numpy(), prompt)
        # ONNX Runtime's exceptions share no base class but Exception.
        except Exception as error:
            raise CompacterError(ErrorCode.E606, f"ONNX Runtime cannot run the exported graphs: {error}") from error
        expected = _at_once(source, tokens, mask)
        counted = np.ones_like(mask, dtype=bool) if source.is_encoder_decoder else mask.numpy().astype(bool)
        difference = float(np.max(np.abs(got - expected)[counted]))
        # Written so that a NaN fails.
        if not difference <= RELATIVE_LIMIT * float(np.max(np.abs(expected[counted]))):
            raise mismatch("logits", batch, prompt + steps, f"largest difference {difference:.3g}")


def _step_by_step(decoder: GraphDecoder, tokens: Array, mask: Array, prompt: int) -> Array:
    state = decoder.start(tokens, mask)
    logits = []
    for start, stop in [(0, prompt), *((i, i + 1) for i in range(prompt, tokens.shape[1]))]:
        state.mask = mask[:, :stop]
        logits.append(decoder.step(tokens[:, start:stop], state))
    return np.concatenate(logits, axis=1)


def _at_once(source: SourceModel, tokens: torch.Tensor, mask: torch.Tensor) -> Array:
    inputs = {"input_ids": tokens, "attention_mask": mask}
    if source.is_encoder_decoder:
        inputs["decoder_input_ids"] = tokens
    else:
        inputs["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        logits: Array = source.model(**inputs, use_cache=False).logits.numpy()
    return logits
