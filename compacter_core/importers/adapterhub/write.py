"""The way back: an adapter of this format as a directory that AdapterHub loads.

Every key has the base model's prefix. AdapterHub strips it where a model has none, so that such a model, which would be
saved without its shared rule, is loaded with it.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors.numpy import save

from compacter_core.adapter import Adapter, Array
from compacter_core.config import AdapterConfig, Backbone, Head
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.atomic import atomic_directory, atomic_write
from compacter_core.importers.adapterhub.files import HEAD_WEIGHTS, WEIGHTS
from compacter_core.importers.adapterhub.heads import FLEXIBLE, HEAD_CONFIG_FILE
from compacter_core.importers.adapterhub.options import CONFIG_FILE
from compacter_core.importers.adapterhub.places import owner_of, places_of, prefix_of
from compacter_core.importers.adapterhub.tensors import tensor_keys
from compacter_core.importers.adapterhub.unparse import options_of
from compacter_core.layout import Part
from compacter_core.vocabulary import ProjectionKind

NORMS_FILE: Final = "norms.safetensors"
VERSION: Final = "adapters.1.3.0"
"""The version of the library whose files these are; it decides what the name of an activation means."""


def save_adapterhub(adapter: Adapter, directory: Path | str, *, norms_beside: bool = False) -> tuple[str, ...]:
    """Write an adapter as a directory for `model.load_adapter(directory, use_safetensors=True)`.

    Args:
        adapter: with a description of its backbone.
        directory: new, or empty.
        norms_beside: write norms and biases that the adapter replaces, which that library knows nothing of, into
            `norms.safetensors`, for `model.load_state_dict(…, strict=False)`.

    Returns:
        What the user has to know.

    Raises:
        CompacterError: E001 if the backbone is not described, E504 for what that library cannot express, E006 if the
            directory is not empty or cannot be written.
    """
    config, backbone = adapter.config, adapter.config.backbone
    if backbone is None:
        raise CompacterError(
            ErrorCode.E001,
            "the adapter does not say what backbone it was made for",
            remedy="Import it with --backbone, or attach it to its model and save it again.",
        )
    if config.overrides and not norms_beside:
        raise CompacterError(
            ErrorCode.E504,
            "the adapter replaces norms of the backbone, which AdapterHub's files cannot hold",
            value=f"{len(config.overrides)} tensors",
            remedy=f"Write them into a file of their own, {NORMS_FILE}, with --norms-beside.",
        )
    header = _header(config, backbone)
    files = {
        CONFIG_FILE: _json(header | {"config": options_of(config, backbone)}),
        WEIGHTS[0]: _safetensors(_hub_tensors(adapter, backbone)),
    }
    notes = [f"load it with model.load_adapter({str(directory)!r}, use_safetensors=True)"]
    if config.head is not None:
        model_class = _head_class(config.head, backbone)
        files[CONFIG_FILE] = _json(header | {"config": options_of(config, backbone), "model_class": model_class})
        files[HEAD_CONFIG_FILE] = _json(header | _head_config(config.head, model_class))
        files[HEAD_WEIGHTS[0]] = _safetensors(adapter.part(Part.HEAD))
        notes.append(f"its head is that of {model_class}")
    if config.overrides:
        files[NORMS_FILE] = _safetensors(
            {f"{prefix_of(backbone.model_type)}.{name}": array for name, array in adapter.part(Part.OVERRIDE).items()}
        )
        notes.append(f"{NORMS_FILE} replaces norms of the backbone: model.load_state_dict(load_file(…), strict=False)")
    with atomic_directory(directory) as folder:
        for name, data in files.items():
            atomic_write(folder / name, data)
    return tuple(notes)


def _header(config: AdapterConfig, backbone: Backbone) -> dict[str, Any]:
    return {
        "hidden_size": config.hidden_size,
        "model_class": "",
        "model_name": backbone.id or "",
        "model_type": backbone.model_type,
        "name": config.name,
        "version": VERSION,
    }


def _hub_tensors(adapter: Adapter, backbone: Backbone) -> dict[str, Array]:
    """The adapter's tensors by AdapterHub's names; a bias that the adapter lacks is zero there."""
    config = adapter.config
    prefix = prefix_of(backbone.model_type)
    places = places_of(backbone.model_type)
    owners = {site.id: owner_of(site.id, places, f"{prefix}.") for site in config.sites}
    biased = replace(config, bias_down=_has_bias(config), bias_up=_has_bias(config))
    tensors: dict[str, Array] = {}
    for name, key in tensor_keys(biased, owners, config.name, f"{prefix}.shared_parameters.{config.name}."):
        array = adapter.tensors.get(name, np.zeros(key.shape, dtype=adapter.dtype.memory))
        tensors[key.key] = np.ascontiguousarray(array.T if key.transposed else array)
    return tensors


def _has_bias(config: AdapterConfig) -> bool:
    """AdapterHub has both biases or none, and dense projections always have both."""
    return config.bias_down or config.bias_up or config.projection.kind is ProjectionKind.DENSE


def _head_class(head: Head, backbone: Backbone) -> str:
    """The class of transformers that has this head.

    Raises:
        CompacterError: E504 if none is known.
    """
    for (model_type, _), rows in FLEXIBLE.items():
        for row in rows:
            is_same = model_type == backbone.model_type and row.linears == head.layers and head.pooling is None
            if is_same and _fits(row.model_class, head.task):
                return row.model_class
    raise CompacterError(
        ErrorCode.E504,
        "no class of transformers is known to have this head",
        value=head.layers if head.pooling is None else f"{head.layers} of the {head.pooling}",
        remedy="Save the adapter without its head (--without-head).",
    )


def _fits(model_class: str, task: str) -> bool:
    names = {
        "text-classification": "ForSequenceClassification",
        "token-classification": "ForTokenClassification",
        "question-answering": "ForQuestionAnswering",
        "image-classification": "ForImageClassification",
    }
    return task in names and model_class.endswith(names[task])


def _head_config(head: Head, model_class: str) -> dict[str, Any]:
    count = head.shapes[f"{head.layers[-1]}.weight"][0]
    labels = head.labels or tuple(f"LABEL_{index}" for index in range(count))
    return {
        "config": None,
        "label2id": {label: index for index, label in enumerate(labels)},
        "model_class": model_class,
        "name": None,
        "num_labels": count,
    }


def _json(data: Mapping[str, Any]) -> bytes:
    return (json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _safetensors(tensors: Mapping[str, Array]) -> bytes:
    data: bytes = save({name: np.ascontiguousarray(array) for name, array in tensors.items()}, {"format": "pt"})
    return data
