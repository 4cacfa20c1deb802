"""Tiny pretrained backbones on disk, and data they can learn."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from tests.training.toy import CLASSES, WORDS, toy_rows

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
# A language model also writes the names of the classes.
READ = {word: number for number, word in enumerate((*SPECIAL, *WORDS))}
VOCABULARY = {word: number for number, word in enumerate((*SPECIAL, *WORDS, *CLASSES))}


def save_tokenizer(
    directory: Path, vocabulary: dict[str, int], single: str, pair: str | None, inputs: list[str]
) -> None:
    """A tokenizer of words."""
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))  # noqa: S106 (no password)
    tokenizer.pre_tokenizer = Whitespace()
    special = [(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = TemplateProcessing(single=single, pair=pair, special_tokens=special)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=32,
        model_input_names=inputs,
        eos_token="[SEP]",  # noqa: S106 (no password)
        **names,
    ).save_pretrained(directory)


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer BERT with dropout."""
    directory = tmp_path_factory.mktemp("backbone")
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    save_tokenizer(directory, READ, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", inputs)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(READ),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=32,
            initializer_range=0.2,
        )
        BertModel(config).save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def t5_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random T5 of two and two layers with dropout; its embeddings are its output matrix, as in the first T5."""
    return save_t5(tmp_path_factory.mktemp("t5"), tied=True)


@pytest.fixture(scope="session")
def untied_t5_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with gated layers and an output matrix of its own, as Flan-T5 has."""
    return save_t5(tmp_path_factory.mktemp("flan"), tied=False)


def save_t5(directory: Path, *, tied: bool) -> Path:
    """A random T5 and its tokenizer."""
    save_tokenizer(directory, VOCABULARY, "$A [SEP]", None, ["input_ids", "attention_mask"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = T5Config(
            vocab_size=len(VOCABULARY),
            d_model=32,
            d_kv=16,
            d_ff=64,
            num_heads=2,
            num_layers=2,
            feed_forward_proj="relu" if tied else "gated-gelu",
            tie_word_embeddings=tied,
            pad_token_id=VOCABULARY["[PAD]"],
            eos_token_id=VOCABULARY["[SEP]"],
            decoder_start_token_id=VOCABULARY["[PAD]"],
        )
        model = T5ForConditionalGeneration(config)
        model.save_pretrained(directory)
        if not tied:
            # transformers 5 ties what it makes anew, whatever the configuration says, but not what it loads.
            weights = load_file(directory / "model.safetensors")
            weights["lm_head.weight"] = torch.randn_like(model.shared.weight)
            save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


@pytest.fixture(scope="session")
def gpt2_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer GPT-2 with dropout."""
    directory = tmp_path_factory.mktemp("gpt2")
    save_tokenizer(directory, VOCABULARY, "$A", None, ["input_ids", "attention_mask"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        end = VOCABULARY["[SEP]"]
        config = GPT2Config(
            vocab_size=len(VOCABULARY),
            n_positions=32,
            n_embd=32,
            n_layer=2,
            n_head=2,
            initializer_range=0.2,
            bos_token_id=end,
            eos_token_id=end,
        )
        GPT2LMHeadModel(config).save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Paths of training and validation rows of the toy task; they hold what each kind of task reads."""
    directory = tmp_path_factory.mktemp("data")
    paths = []
    for name, count, seed in (("train", 40 * len(CLASSES), 1), ("validation", 20 * len(CLASSES), 2)):
        path = directory / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in toy_rows(count, seed)))
        paths.append(str(path))
    return paths[0], paths[1]
