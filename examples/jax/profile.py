"""The hub profile: a copy of the configuration beside the file has to say the same (FMT-35)."""

import json
from collections.abc import Mapping
from typing import Any

from examples.jax.config import Config, parse_config
from examples.jax.rejection import Rejection

_ATTACH = {"input": "sublayer_output", "skip": "sublayer_output", "post": True}
_PROJECTION = {"kind": "lphm", "shared_phm_rule": False, "factorized_phm_rule": False, "shared_W": False}
_DEFAULTS: Mapping[str, Any] = {
    "non_linearity": "gelu_new",
    "bias_down": True,
    "bias_up": True,
    "scaling": 1.0,
    "attach": {},
    "overrides": [],
    "training": {},
    "extensions": {},
}


def check_profile(embedded: Config, copy: bytes) -> None:
    """Refuse a copy that says something else.

    Raises:
        Rejection: E206, or what a configuration of its own would be refused with.
    """
    try:
        text = copy.decode()
    except UnicodeDecodeError as error:
        raise Rejection("E203", "the copy is not UTF-8") from error
    if _canonical(embedded.source) != _canonical(parse_config(text).source):
        raise Rejection("E206", "the two configurations differ")


def _canonical(source: Mapping[str, Any]) -> str:
    """The configuration with all defaults, as text in which 1, 1.0 and true are three things."""
    value = {**_DEFAULTS, **source}
    value["attach"] = _ATTACH | value["attach"]
    value["projection"] = _PROJECTION | value["projection"]
    value["sites"] = [
        {**site, "attach": _ATTACH | site["attach"]} if "attach" in site else site for site in value["sites"]
    ]
    if not isinstance(value["scaling"], str):
        value["scaling"] = float(value["scaling"])
    if "backbone" in value:
        value["backbone"] = {"modules": {}, "norms": []} | value["backbone"]
    if "head" in value:
        value["head"] = {"labels": []} | value["head"]
    return json.dumps(value, sort_keys=True)
