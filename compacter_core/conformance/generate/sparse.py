"""Configurations as an author may write them: without the keys that have a default (CFG-5)."""

import json
from collections.abc import Iterator
from typing import Any

from compacter_core.config import AdapterConfig
from compacter_core.errors import CompacterError
from compacter_core.format.config_json import config_from_json, config_to_json


def sparse_text(config: AdapterConfig) -> str:
    """The shortest text that still means this configuration: every key that may be left out is left out."""
    value = json.loads(config_to_json(config))
    for parent, key in list(_places(value)):
        kept = parent.pop(key)
        if not _means(value, config):
            parent[key] = kept
    return _text(value)


def _places(value: Any) -> Iterator[tuple[dict[str, Any], str]]:
    """Every key with the object it is in, outer ones first: what is left out as a whole needs no look inside."""
    if isinstance(value, dict):
        yield from ((value, key) for key in sorted(value))
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _places(inner)


def _means(value: object, config: AdapterConfig) -> bool:
    try:
        return config_from_json(_text(value)) == config
    except CompacterError:
        return False


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
