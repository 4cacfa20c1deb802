"""The PyTorch model and the tokenizer that a backbone is exported from."""

import re
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from compacter_core.adapter import Adapter
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.pytorch.attach import attach_adapter
from compacter_core.pytorch.attached import AttachedAdapter
from compacter_core.pytorch.pooling import pool_before_head
from compacter_core.vocabulary import Pooling
from compacter_exporters.choices import Task
from compacter_exporters.quiet import quiet

HEAD_SEED = 0
_UNLIMITED = 1_000_000
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)
_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


_AUTO_CLASS: dict[Task, Any] = {
    Task.TEXT_CLASSIFICATION: AutoModelForSequenceClassification,
    Task.TOKEN_CLASSIFICATION: AutoModelForTokenClassification,
    Task.QUESTION_ANSWERING: AutoModelForQuestionAnswering,
    Task.FILL_MASK: AutoModelForMaskedLM,
    Task.FEATURE_EXTRACTION: AutoModel,
    Task.IMAGE_CLASSIFICATION: AutoModelForImageClassification,
    Task.TEXT_GENERATION: AutoModelForCausalLM,
    Task.TEXT2TEXT_GENERATION: AutoModelForSeq2SeqLM,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceModel:
    """A loaded backbone.

    Args:
        model: the transformers model, in evaluation mode, float32, on the CPU.
        tokenizer: its fast tokenizer, or None if the source has none.
        task: what it was loaded for.
        config_json: the model's configuration as it was loaded.
        attached: the adapter in the model, if there is one.
    """

    model: Any
    tokenizer: Any
    task: Task
    config_json: str
    attached: AttachedAdapter | None = None

    def simplified(self) -> AbstractContextManager[None]:
        """Inside the context an attached adapter computes two plain products, so that its graph has no more."""
        return nullcontext() if self.attached is None else self.attached.materialise()

    @property
    def is_vision(self) -> bool:
        """Whether it reads images."""
        return bool(self.model.main_input_name == "pixel_values")

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether it has both stacks."""
        return bool(getattr(self.model.config, "is_encoder_decoder", False))

    @property
    def max_length(self) -> int | None:
        """The longest input in tokens: the least of what the tokenizer and the position embeddings say, if anything.

        RoBERTa counts positions from `padding_idx + 1`, so `max_position_embeddings` overstates what it can read.
        """
        limits = [
            embedding.num_embeddings - (0 if embedding.padding_idx is None else embedding.padding_idx + 1)
            for name, embedding in self.model.named_modules()
            if name.endswith("position_embeddings") and isinstance(embedding, torch.nn.Embedding)
        ]
        if self.tokenizer is not None and self.tokenizer.model_max_length < _UNLIMITED:
            limits.append(self.tokenizer.model_max_length)
        return min(limits, default=None)

    def sample(self, batch: int, length: int) -> dict[str, torch.Tensor]:
        """Random valid inputs [batch, length], with padding at the end of every row but the first; images for vision.

        Deterministic in the sizes. The keys are the inputs that the graph gets.
        """
        config = self.model.config
        generator = torch.Generator().manual_seed(batch * 65_537 + length)
        if self.is_vision:
            return {"pixel_values": torch.randn(batch, *_image_shape(config), generator=generator)}
        mask = torch.ones(batch, length, dtype=torch.int64)
        if length > 1:
            mask[1:, -1] = 0
        tokens = torch.randint(config.vocab_size, (batch, length), generator=generator)
        end = getattr(config, "eos_token_id", None)
        if self.is_encoder_decoder and isinstance(end, int):
            # Classifiers of this kind read the state at the end of the sequence, and want as many ends in every row.
            tokens[tokens == end] = (end + 1) % config.vocab_size
            tokens.scatter_(1, mask.sum(1, keepdim=True) - 1, end)
        inputs = {"input_ids": tokens, "attention_mask": mask}
        segments = getattr(config, "type_vocab_size", 0)
        if segments > 1:
            inputs["token_type_ids"] = torch.randint(segments, (batch, length), generator=generator)
        return inputs


def _image_shape(config: Any) -> tuple[int, int, int]:
    size = config.image_size
    height, width = size if isinstance(size, list | tuple) else (size, size)
    return config.num_channels, height, width


def load_source(
    source: str | Path, task: Task, adapter: Adapter | None = None, pooling: Pooling | None = None
) -> SourceModel:
    """Load a backbone from a directory or from the hub.

    A head that the checkpoint lacks is initialised from a fixed seed, so that equal sources give equal graphs.

    Args:
        source: a transformers checkpoint.
        task: decides the head.
        adapter: attached to the model, with its norms, its head and its labels.
        pooling: what the head reads instead of the pooler's output, where there is no adapter that says it.

    Raises:
        CompacterError: E005 if there is no such model, E702 if it has a tokenizer that cannot be used; E401 to E405
            and E803 for an adapter that does not fit.
    """
    if not _HUB_NAME.fullmatch(str(source)) and not Path(source).is_dir():
        raise _unloadable(source, "no such directory")
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(HEAD_SEED)
        try:
            # The attention is written out (eager) since the graph is then smaller, and its computation is the same.
            model = _AUTO_CLASS[task].from_pretrained(
                str(source), dtype=torch.float32, attn_implementation="eager", **_head_options(task, adapter)
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise _unloadable(source, str(error).strip().partition("\n")[0]) from error
        attached = None if adapter is None else attach_adapter(model, adapter)
        if adapter is None:
            pool_before_head(model, pooling)
        config_json = model.config.to_json_string()
        if not task.generates and hasattr(model.config, "use_cache"):
            model.config.use_cache = False
        tokenizer = _load_tokenizer(source)
    return SourceModel(model=model.eval(), tokenizer=tokenizer, task=task, config_json=config_json, attached=attached)


def _head_options(task: Task, adapter: Adapter | None) -> dict[str, Any]:
    """Room for the head that the adapter brings, of which the checkpoint may have one of another size."""
    head = None if adapter is None else adapter.config.head
    if head is None or not task.classifies:
        return {}
    return {"num_labels": head.shapes[f"{head.layers[-1]}.weight"][0], "ignore_mismatched_sizes": True}


def _unloadable(source: str | Path, why: str) -> CompacterError:
    return CompacterError(
        ErrorCode.E005,
        f"no transformers model could be loaded: {why}",
        value=str(source),
        expected="a directory with config.json and model.safetensors, or a hub name",
    )


def _load_tokenizer(source: str | Path) -> Any:
    """The tokenizer, or None for a source without one.

    Without tokenizer files transformers may invent one that knows its special tokens alone, or fail in any way.
    """
    folder = Path(source)
    if folder.is_dir() and not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        return None
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(source))
    # Every tokenizer class fails in its own way on files that it cannot use.
    except Exception as error:
        raise _unusable(source, str(error).strip().partition("\n")[0]) from error
    if not tokenizer.is_fast:
        raise _unusable(source, "the tokenizers library has no form of it")
    return tokenizer if len(tokenizer) > len(tokenizer.all_special_ids) else None


def _unusable(source: str | Path, why: str) -> CompacterError:
    return CompacterError(
        ErrorCode.E702,
        f"the tokenizer cannot be used: {why}",
        value=str(source),
        expected="a tokenizer.json, or files that transformers makes one from",
        remedy="Remove the tokenizer's files to export the model alone.",
    )
