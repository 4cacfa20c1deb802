"""Tiny checkpoints with tokenizers, as directories."""

from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from tests.support.models import VOCABULARY, tiny_model

PAD, START, END, UNKNOWN = "[PAD]", "[CLS]", "[SEP]", "[UNK]"
POSITIONS = 40


def write_checkpoint(directory: Path, model_type: str, task: str = "text-classification") -> Path:
    """Save a seeded random model of one layer."""
    tiny_model(model_type, task, layers=1).save_pretrained(directory)
    return directory


def write_tokenizer(directory: Path, *, model_max_length: int) -> None:
    """Add a tokenizer whose tokenizer.json carries leftovers of a training: padding to 7, truncation at 7."""
    words = [PAD, START, END, UNKNOWN, *(f"w{i}" for i in range(4, VOCABULARY))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}",
        pair=f"{START} $A {END} $B:1 {END}:1",
        special_tokens=[(START, words.index(START)), (END, words.index(END))],
    )
    tokenizer.enable_padding(length=7, pad_token=PAD)
    tokenizer.enable_truncation(7)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        cls_token=START,
        sep_token=END,
        unk_token=UNKNOWN,
        model_max_length=model_max_length,
    ).save_pretrained(directory)
