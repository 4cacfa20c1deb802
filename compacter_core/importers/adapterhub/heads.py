"""AdapterHub's heads: those of transformers' own classes, and flexible ones where such a class computes the same.

A flexible head is a row of linears with an activation between two of them. On a model where a class of transformers
has just that row behind the same input, its head is that class's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.importers.adapterhub.places import prefix_of
from compacter_core.importers.heads import ImportedHead, take_backbone_head, take_head
from compacter_core.importers.result import KnownBackbone
from compacter_core.importers.state import SourceState

HEAD_CONFIG_FILE: Final = "head_config.json"


@dataclass(frozen=True, slots=True)
class Row:
    """A row of linears in a class of transformers.

    Args:
        model_class: the class.
        linears: their names in a model of that class, first to last.
        activation: between two of them.
        uses_pooler: whether the backbone's pooler stands before them.
        has_bias: whether the last one has a bias.
    """

    model_class: str
    linears: tuple[str, ...]
    activation: str | None = None
    uses_pooler: bool = False
    has_bias: bool = True


_TWO: Final = {
    "bart": ("Bart", "classification_head.dense", "classification_head.out_proj", "tanh"),
    "bert": ("Bert", "bert.pooler.dense", "classifier", "tanh"),
    "distilbert": ("DistilBert", "pre_classifier", "classifier", "relu"),
    "electra": ("Electra", "classifier.dense", "classifier.out_proj", "gelu"),
    "mbart": ("MBart", "classification_head.dense", "classification_head.out_proj", "tanh"),
    "mt5": ("MT5", "classification_head.dense", "classification_head.out_proj", "tanh"),
    "roberta": ("Roberta", "classifier.dense", "classifier.out_proj", "tanh"),
    "t5": ("T5", "classification_head.dense", "classification_head.out_proj", "tanh"),
    "xlm-roberta": ("XLMRoberta", "classifier.dense", "classifier.out_proj", "tanh"),
}
_SCORES: Final = {"gpt2": "GPT2", "llama": "Llama", "mistral": "Mistral"}
_TAGGERS: Final = {
    "bert": "Bert",
    "distilbert": "DistilBert",
    "electra": "Electra",
    "gpt2": "GPT2",
    "roberta": "Roberta",
    "xlm-roberta": "XLMRoberta",
}

FLEXIBLE: Final[Mapping[tuple[str, str], tuple[Row, ...]]] = {
    **{
        (model_type, "classification"): (Row(f"{name}ForSequenceClassification", (first, last), activation),)
        for model_type, (name, first, last, activation) in _TWO.items()
    },
    ("bert", "classification"): (
        Row("BertForSequenceClassification", ("bert.pooler.dense", "classifier"), "tanh"),
        Row("BertForSequenceClassification", ("classifier",), uses_pooler=True),
    ),
    **{
        (model_type, "classification"): (Row(f"{name}ForSequenceClassification", ("score",), has_bias=False),)
        for model_type, name in _SCORES.items()
    },
    **{
        (model_type, "tagging"): (Row(f"{name}ForTokenClassification", ("classifier",)),)
        for model_type, name in _TAGGERS.items()
    },
    ("llama", "tagging"): (Row("LlamaForTokenClassification", ("score",)),),
    ("mistral", "tagging"): (Row("MistralForTokenClassification", ("score",)),),
    **{
        (model_type, "question_answering"): (Row(f"{name}ForQuestionAnswering", ("qa_outputs",)),)
        for model_type, name in (_TAGGERS | _SCORES).items()
    },
    ("vit", "image_classification"): (Row("ViTForImageClassification", ("classifier",)),),
}
"""Model type and type of a flexible head, to the rows that compute the same."""

LANGUAGE_MODELS: Final[Mapping[tuple[str, str], str]] = {
    ("bart", "seq2seq_lm"): "BartForConditionalGeneration",
    ("gpt2", "causal_lm"): "GPT2LMHeadModel",
    ("llama", "causal_lm"): "LlamaForCausalLM",
    ("mbart", "seq2seq_lm"): "MBartForConditionalGeneration",
    ("mistral", "causal_lm"): "MistralForCausalLM",
    ("mt5", "seq2seq_lm"): "MT5ForConditionalGeneration",
    ("t5", "seq2seq_lm"): "T5ForConditionalGeneration",
}
"""Model type and type of a flexible head that is one linear tied to the embeddings, to the class whose head that is."""


def read_head(state: SourceState, config: Mapping[str, Any], backbone: KnownBackbone) -> ImportedHead:
    """The head that was saved with an adapter.

    Args:
        state: its tensors, all of which are taken.
        config: of `head_config.json`.
        backbone: that it belongs to.

    Raises:
        CompacterError: E301 to E304 for its tensors, E501 for a contradiction, E502 for a head that no class of
            transformers has, E803 for one that the binding does not know.
    """
    flexible = config.get("config")
    if not isinstance(flexible, Mapping):
        return _head_of_class(state, str(config.get("model_class")), config.get("label2id"), backbone)
    name, kind = config.get("name"), (backbone.description.model_type, str(flexible.get("head_type")))
    if kind in LANGUAGE_MODELS and flexible.get("layers", 1) == 1:
        weight = {"lm_head.weight": state.take(f"heads.{name}.0.weight")}
        state.finish()
        return take_backbone_head(SourceState(weight, state.place), backbone.outside_base(LANGUAGE_MODELS[kind]))
    row = _row(FLEXIBLE.get(kind, ()), flexible)
    indices = _linear_indices(len(row.linears), row.activation is not None)
    renamed = {
        f"{linear}.{leaf}": state.take(f"heads.{name}.{index}.{leaf}")
        for linear, index in zip(row.linears, indices, strict=True)
        for leaf in ("weight", "bias")
        if leaf == "weight" or f"heads.{name}.{index}.{leaf}" in state
    }
    state.finish()
    return _head_of_class(SourceState(renamed, state.place), row.model_class, flexible.get("label2id"), backbone)


def _head_of_class(state: SourceState, model_class: str, label2id: Any, backbone: KnownBackbone) -> ImportedHead:
    found = take_head(state, model_class, label2id, backbone)
    _pass_over_base(state, backbone)
    state.finish()
    return found


def _row(rows: tuple[Row, ...], flexible: Mapping[str, Any]) -> Row:
    """The row that computes what a flexible head computes."""
    layers, activation = flexible.get("layers"), flexible.get("activation_function")
    pooler, bias = bool(flexible.get("use_pooler")), bool(flexible.get("bias", True))
    wanted = Row("", (), activation if layers != 1 else None, pooler, bias)
    for row in rows:
        if len(row.linears) == layers and replace(row, model_class="", linears=()) == wanted:
            return row
    known = [f"{len(row.linears)} layers, {row.activation}, pooler {row.uses_pooler}" for row in rows]
    raise CompacterError(
        ErrorCode.E502,
        "no class of transformers for this architecture has such a head",
        value={key: flexible.get(key) for key in ("head_type", "layers", "activation_function", "use_pooler", "bias")},
        expected=" or ".join(known) or "another type of head",
        remedy="Import the adapter without its head.",
    )


def _linear_indices(count: int, has_activation: bool) -> list[int]:
    """Positions of the linears in the head's sequence: dropout, linear, perhaps an activation, and again."""
    step = 3 if has_activation else 2
    return [1 + step * index for index in range(count)]


def _pass_over_base(state: SourceState, backbone: KnownBackbone) -> None:
    """Takes what is no head: with T5ForSequenceClassification the library saves the whole model in the head's file."""
    prefix = f"{prefix_of(backbone.description.model_type)}."
    inside = [key for key in state if key.startswith(prefix)]
    own = backbone.base_tensors() if inside else {}
    for key in inside:
        name = key.removeprefix(prefix)
        is_adapter = ".adapters." in name or name.startswith("shared_parameters.")
        if is_adapter or (name in own and np.array_equal(state.peek(key), own[name])):
            state.take(key)
