"""Canonical bytes, written once more from the specification (FMT-27 to FMT-32)."""

from collections.abc import Mapping
from typing import Any, Final

from compacter_core.conformance.generate.files_bytes import (
    CONFIG_KEY,
    VERSION_KEY,
    JsonObject,
    RawTensor,
    assemble,
    canonical_order,
    header_of,
    minified,
    padded,
)

_DEFAULTS: Final[Mapping[str, Any]] = {
    "attach": {},
    "bias_down": True,
    "bias_up": True,
    "extensions": {},
    "non_linearity": "gelu_new",
    "overrides": [],
    "scaling": 1.0,
    "training": {},
}
_ATTACH: Final[Mapping[str, Any]] = {"input": "sublayer_output", "skip": "sublayer_output", "post": True}
_PROJECTION: Final[Mapping[str, Any]] = {
    "kind": "lphm",
    "shared_phm_rule": False,
    "factorized_phm_rule": False,
    "shared_W": False,
}


def canonical_text(config: Mapping[str, Any]) -> str:
    """The canonical text of a right configuration: every default filled in, keys sorted, numbers spelt in one way."""
    return minified(_filled(config), sort_keys=True)


def canonical_bytes(config: Mapping[str, Any], tensors: Mapping[str, RawTensor], *, text: str | None = None) -> bytes:
    """The canonical file; `text` stands in the place of the configuration's text."""
    metadata = {CONFIG_KEY: canonical_text(config) if text is None else text, VERSION_KEY: config["spec_version"]}
    header, body = header_of(metadata, canonical_order(tensors))
    return assemble(padded(minified(header)), body)


def _filled(config: Mapping[str, Any]) -> JsonObject:
    full = {**_DEFAULTS, **config}
    if not isinstance(full["scaling"], str):
        full["scaling"] = float(full["scaling"])
    full["attach"] = {**_ATTACH, **full["attach"]}
    full["projection"] = {**_PROJECTION, **full["projection"]}
    full["sites"] = [
        {**one, "attach": {**_ATTACH, **one["attach"]}} if "attach" in one else one for one in full["sites"]
    ]
    if "backbone" in full:
        full["backbone"] = {"modules": {}, "norms": [], **full["backbone"]}
    if "head" in full:
        full["head"] = {"labels": [], **full["head"]}
    return full
