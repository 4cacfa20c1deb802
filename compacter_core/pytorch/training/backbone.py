"""The pretrained model that a run starts from, and its tokenizer."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from transformers import AutoTokenizer
from transformers.utils import logging as transformers_logging

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.pytorch.training.tasks import Strategy

DEFAULT_MAX_LENGTH: Final = 128


@dataclass(frozen=True, slots=True)
class Start:
    """A model for the task, with a fresh head if it needs one, and its tokenizer; both are transformers' own objects.

    Args:
        model: in float32, of the task's class.
        tokenizer: of the model.
        fresh_pooler: whether the checkpoint lacks the pooler, so that it is random too and belongs to the head.
    """

    model: Any
    tokenizer: Any
    fresh_pooler: bool

    def length_limit(self, wanted: int | None) -> int:
        """How many tokens a row may have.

        Raises:
            CompacterError: E001 if `wanted` is more than the model's positions.
        """
        positions = getattr(self.model.config, "max_position_embeddings", None) or self.tokenizer.model_max_length
        # RoBERTa counts positions from padding_idx + 1, so its table has more rows than it has positions.
        offset = 2 if self.model.config.model_type == "roberta" else 0
        limit = min(positions - offset, self.tokenizer.model_max_length)
        if wanted is None:
            return int(min(limit, DEFAULT_MAX_LENGTH))
        minimum = self.tokenizer.num_special_tokens_to_add(pair=True) + 1
        if not minimum <= wanted <= limit:
            raise CompacterError(ErrorCode.E001, "max_length", value=wanted, expected=f"{minimum} to {limit}")
        return wanted


def load_backbone(source: str, strategy: Strategy[Any], *, revision: str | None, seed: int) -> Start:
    """Loads a backbone in float32 for a task; a fresh head is initialised from `seed`.

    Raises:
        CompacterError: E005 if there is no such model.
    """
    options: dict[str, Any] = {} if revision is None else {"revision": revision}
    try:
        with quiet_transformers(), torch.random.fork_rng():
            torch.manual_seed(seed)
            tokenizer = AutoTokenizer.from_pretrained(source, **strategy.tokenizer_options(), **options)
            model, loading = strategy.auto_class.from_pretrained(
                source,
                ignore_mismatched_sizes=strategy.adds_head,
                dtype=torch.float32,
                output_loading_info=True,
                **strategy.model_options(),
                **options,
            )
    except (OSError, ValueError) as error:
        raise CompacterError(
            ErrorCode.E005,
            f"the backbone cannot be loaded ({' '.join(str(error).split())[:300]})",
            value=source,
            expected="a directory with config.json, weights and tokenizer, or a hub name",
        ) from error
    if tokenizer.pad_token is None:
        # Decoders have none. Padding is masked, so any token does; classifiers find the last real one by it.
        tokenizer.pad_token = tokenizer.eos_token
        model.config.pad_token_id = tokenizer.pad_token_id
    return Start(model, tokenizer, fresh_pooler=any(".pooler." in name for name in loading["missing_keys"]))


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keeps transformers from reporting, among others, that the head is new, which is the point of the exercise."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
