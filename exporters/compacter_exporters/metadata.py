"""What a grafted model says about itself, and how the adapter is taken out of it again.

Keys of the model's metadata (ONX-15 to ONX-18):

    compacter.spec_version   version of the specification
    compacter.config         the adapter's configuration, verbatim
    compacter.adapter        the adapter file's canonical bytes in base64
    compacter.sites          JSON: site -> {form, product, output, initialisers: {name: sha256}}
    compacter.replaced       JSON: initialiser -> sha256, of norms, biases and the head

Where the adapter was in the model when that was exported, the first two, and

    compacter.exported       SHA-256 of the adapter file's canonical bytes
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx_ir as ir

from compacter_core.adapter import Adapter
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.config_json import config_to_json
from compacter_core.format.reader import parse_adapter
from compacter_core.format.writer import adapter_bytes, digest
from compacter_core.linkage.description import describes_itself
from compacter_exporters.emitter import tensor_digest
from compacter_exporters.graph import load_graph

VERSION: Final = "compacter.spec_version"
CONFIG: Final = "compacter.config"
ADAPTER: Final = "compacter.adapter"
SITES: Final = "compacter.sites"
REPLACED: Final = "compacter.replaced"
EXPORTED: Final = "compacter.exported"

_REMEDY: Final = "Graft the adapter into its backbone again; an optimiser or another tool has changed the model."


@dataclass(frozen=True, slots=True)
class GraftedSite:
    """What was put in at one site.

    Args:
        form: one of `forms.Form`, but not auto.
        product: name of the value x W of the sublayer's last linear layer.
        output: name of the value skip + delta, or of its negative where the residual sum is a difference.
        initialisers: SHA-256 of each new constant by its name.
    """

    form: str
    product: str
    output: str
    initialisers: Mapping[str, str]


def write_metadata(
    model: ir.Model, adapter: Adapter, sites: Mapping[str, GraftedSite], replaced: Mapping[str, str]
) -> None:
    """Record the adapter in the model."""
    described = {
        site_id: {
            "form": site.form,
            "product": site.product,
            "output": site.output,
            "initialisers": dict(site.initialisers),
        }
        for site_id, site in sites.items()
    }
    model.metadata_props[VERSION] = adapter.config.spec_version
    model.metadata_props[CONFIG] = config_to_json(adapter.config)
    model.metadata_props[ADAPTER] = base64.b64encode(adapter_bytes(adapter)).decode("ascii")
    model.metadata_props[SITES] = _json(described)
    model.metadata_props[REPLACED] = _json(dict(replaced))


def mark_exported(model: ir.Model, adapter: Adapter) -> None:
    """Record which adapter was in the model when it was exported (ONX-26)."""
    model.metadata_props[VERSION] = adapter.config.spec_version
    model.metadata_props[CONFIG] = config_to_json(adapter.config)
    model.metadata_props[EXPORTED] = digest(adapter_bytes(adapter))


def refuse_exported(model: ir.Model, path: Path) -> None:
    """Refuse a model that was exported with its adapter inside.

    Raises:
        CompacterError: E601.
    """
    if EXPORTED in model.metadata_props:
        raise CompacterError(
            ErrorCode.E601,
            "the model was exported with its adapter inside, where nothing tells the one from the other",
            value=str(path),
            expected="a model made by `compacter graft`",
            remedy="Export the backbone without --adapter and graft the adapter into it.",
        )


def is_grafted(model: ir.Model) -> bool:
    """Whether the model carries an adapter, or takes them at run time."""
    return CONFIG in model.metadata_props or describes_itself(model.metadata_props)


def extract(model: Path) -> bytes:
    """The adapter file that was grafted into a model, byte for byte, after checking that the graph still holds it.

    Raises:
        CompacterError: E005 if the model cannot be read; E601 without metadata; E602 for a tensor that is gone; E603
            for one that was changed; what reading an adapter raises, should the embedded file be damaged.
    """
    graph = load_graph(model)
    refuse_exported(graph, model)
    data = embedded_adapter(graph)
    parse_adapter(data)
    check_tensors(graph)
    return data


def embedded_adapter(model: ir.Model) -> bytes:
    """The adapter file in the model's metadata, unchecked.

    Raises:
        CompacterError: E601 if there is none.
    """
    text = model.metadata_props.get(ADAPTER)
    if text is None or not is_grafted(model):
        raise CompacterError(
            ErrorCode.E601,
            "the model carries no adapter",
            value=sorted(model.metadata_props),
            expected=ADAPTER,
            remedy="Only models made by `compacter graft` carry one; optimisers may drop it.",
        )
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise CompacterError(ErrorCode.E601, "the embedded adapter is not base64", remedy=_REMEDY) from error


def check_tensors(model: ir.Model) -> None:
    """Check every constant of the graft against the digest in the metadata.

    Raises:
        CompacterError: E601 for unreadable metadata, E602 for a missing constant, E603 for a changed one.
    """
    for name, expected in _recorded(model).items():
        value = model.graph.initializers.get(name)
        if value is None or value.const_value is None:
            raise CompacterError(
                ErrorCode.E602, "a tensor of the adapter is missing from the graph", value=name, remedy=_REMEDY
            )
        got = tensor_digest(value.const_value.numpy())
        if got != expected:
            raise CompacterError(
                ErrorCode.E603,
                f"tensor {name} has changed since the adapter was grafted",
                value=got,
                expected=str(expected),
                remedy=_REMEDY,
            )


def _recorded(model: ir.Model) -> dict[str, str]:
    """Digest of every constant of the graft, by its name."""
    try:
        sites = json.loads(model.metadata_props[SITES])
        recorded: dict[str, str] = dict(json.loads(model.metadata_props[REPLACED]))
        for site in sites.values():
            recorded |= site["initialisers"]
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise CompacterError(ErrorCode.E601, "the model's adapter metadata is damaged", remedy=_REMEDY) from error
    return recorded


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
