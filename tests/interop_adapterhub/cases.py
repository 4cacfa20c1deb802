"""The model classes and the configurations that are compared."""

from collections.abc import Callable
from typing import Any, Final

from adapters import (
    AdapterPlusConfig,
    CompacterConfig,
    CompacterPlusPlusConfig,
    DoubleSeqBnConfig,
    ParBnConfig,
    SeqBnConfig,
)

MODELS: Final = {
    "BertModel": "bert",
    "BertForSequenceClassification": "bert",
    "BertForTokenClassification": "bert",
    "RobertaModel": "roberta",
    "RobertaForSequenceClassification": "roberta",
    "XLMRobertaForSequenceClassification": "xlm-roberta",
    "DistilBertModel": "distilbert",
    "DistilBertForSequenceClassification": "distilbert",
    "ElectraForSequenceClassification": "electra",
    "T5ForConditionalGeneration": "t5",
    "MT5ForConditionalGeneration": "mt5",
    "BartForConditionalGeneration": "bart",
    "BartForSequenceClassification": "bart",
    "MBartForConditionalGeneration": "mbart",
    "GPT2LMHeadModel": "gpt2",
    "GPT2ForSequenceClassification": "gpt2",
    "LlamaForCausalLM": "llama",
    "LlamaForSequenceClassification": "llama",
    "MistralForCausalLM": "mistral",
    "ViTModel": "vit",
    "ViTForImageClassification": "vit",
}
"""Class of transformers to its architecture."""

UNPREFIXED: Final = frozenset(
    {"BertModel", "RobertaModel", "DistilBertModel", "ViTModel", "T5ForConditionalGeneration"}
    | {"MT5ForConditionalGeneration"}
)
"""Classes without a base-model prefix, which AdapterHub saves without what the layers share."""

CONFIGS: Final[dict[str, Callable[[], Any]]] = {
    "compacter": lambda: CompacterConfig(phm_dim=2, reduction_factor=4),
    "compacter++": lambda: CompacterPlusPlusConfig(phm_dim=2, reduction_factor=4),
    "phm": lambda: CompacterConfig(phm_dim=4, reduction_factor=4, factorized_phm_W=False, shared_phm_rule=False),
    "double_seq_bn": lambda: DoubleSeqBnConfig(reduction_factor=4),
    "seq_bn": lambda: SeqBnConfig(reduction_factor=4),
    "par_bn": lambda: ParBnConfig(reduction_factor=4),
    "adapter_plus": lambda: AdapterPlusConfig(reduction_factor=4, stochastic_depth=0.0, mh_adapter=True),
}
"""Configurations of the library, made anew for each use since it changes what it is given."""

OTHERS: Final = {"T5ForSequenceClassification": "t5"}
"""Classes with a test of their own."""

ADAPTER_MODELS: Final = {
    "BartAdapterModel": "bart",
    "BertAdapterModel": "bert",
    "DistilBertAdapterModel": "distilbert",
    "ElectraAdapterModel": "electra",
    "GPT2AdapterModel": "gpt2",
    "LlamaAdapterModel": "llama",
    "MBartAdapterModel": "mbart",
    "MistralAdapterModel": "mistral",
    "MT5AdapterModel": "mt5",
    "RobertaAdapterModel": "roberta",
    "T5AdapterModel": "t5",
    "ViTAdapterModel": "vit",
    "XLMRobertaAdapterModel": "xlm-roberta",
}
"""AdapterHub's classes with flexible heads."""
