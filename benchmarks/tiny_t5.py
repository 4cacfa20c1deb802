"""A small random T5, its tokenizer, and T5's pretraining task."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from compacter_core.format.atomic import atomic_directory

MAX_LENGTH: Final = 64
"""Most tokens of a text, and words of one to be corrupted."""

_SENTINELS: Final = 20
_SPAN: Final = 3
_CORRUPTED: Final = 0.15
_HEADS: Final = 4


def make_tokenizer(texts: Sequence[str], size: int) -> PreTrainedTokenizerFast:
    """A Unigram tokenizer as T5 has: `<pad>`, `</s>`, `<unk>` first, sentinels last."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    trainer = trainers.UnigramTrainer(
        vocab_size=size - _SENTINELS,
        special_tokens=list(names.values()),
        unk_token=names["unk_token"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([_sentinel(number) for number in range(_SENTINELS)])
    end = names["eos_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, tokenizer.token_to_id(end))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=MAX_LENGTH,
        model_input_names=["input_ids", "attention_mask"],
        **names,
    )


def corrupt(text: str, generator: np.random.Generator) -> tuple[str, str]:
    """A text with spans of words replaced by sentinels, and the spans behind theirs."""
    words = text.split()[:MAX_LENGTH]
    spans = max(1, min(_SENTINELS - 1, round(len(words) * _CORRUPTED / _SPAN)))
    length = min(_SPAN, max(1, len(words) // (2 * spans)))
    # Cut the text into as many pieces as there are spans: each loses one, so that none touch.
    pieces = np.array_split(np.arange(len(words)), spans)
    source, target = [], []
    for number, piece in enumerate(pieces):
        begin = int(generator.integers(0, max(1, len(piece) - length + 1)))
        hidden = piece[begin : begin + length]
        source += [*(words[i] for i in piece[:begin]), _sentinel(number), *(words[i] for i in piece[begin + length :])]
        target += [_sentinel(number), *(words[i] for i in hidden)]
    return " ".join(source), " ".join([*target, _sentinel(spans)])


def save_random(path: Path, texts: Sequence[str], *, vocabulary: int, hidden: int, layers: int) -> None:
    """Saves a random T5 and a tokenizer trained on texts.

    Args:
        path: of the new directory.
        texts: for the tokenizer.
        vocabulary: tokens, sentinels included.
        hidden: its width.
        layers: of the encoder, and of the decoder.
    """
    tokenizer = make_tokenizer(texts, vocabulary)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=hidden,
        d_kv=hidden // _HEADS,
        d_ff=4 * hidden,
        num_layers=layers,
        num_heads=_HEADS,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]), atomic_directory(path) as target:
        torch.manual_seed(0)
        T5ForConditionalGeneration(config).save_pretrained(target)
        tokenizer.save_pretrained(target)


def _sentinel(number: int) -> str:
    return f"<extra_id_{number}>"
