"""The pretrained classifier that a run starts from, and its tokenizer."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging as transformers_logging

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.pytorch.training.labels import Labels

DEFAULT_MAX_LENGTH: Final = 128


@dataclass(frozen=True, slots=True)
class Start:
    """A model with a fresh head for the labels, and its tokenizer; both are transformers' own objects.

    Args:
        model: in float32.
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


def load_backbone(source: str, labels: Labels, *, revision: str | None, seed: int) -> Start:
    """Loads a backbone in float32 with a head for `labels`, initialised from `seed`.

    Raises:
        CompacterError: E005 if there is no such model.
    """
    options: dict[str, Any] = {} if revision is None else {"revision": revision}
    names = dict(enumerate(labels.names))
    try:
        with quiet_transformers(), torch.random.fork_rng():
            torch.manual_seed(seed)
            tokenizer = AutoTokenizer.from_pretrained(source, **options)
            model, loading = AutoModelForSequenceClassification.from_pretrained(
                source,
                num_labels=len(labels.names),
                id2label=names,
                label2id={name: index for index, name in names.items()},
                ignore_mismatched_sizes=True,
                dtype=torch.float32,
                output_loading_info=True,
                **options,
            )
    except (OSError, ValueError) as error:
        raise CompacterError(
            ErrorCode.E005,
            f"the backbone cannot be loaded ({' '.join(str(error).split())[:300]})",
            value=source,
            expected="a directory with config.json, weights and tokenizer, or a hub name",
        ) from error
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
