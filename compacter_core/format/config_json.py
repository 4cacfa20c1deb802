"""The configuration as JSON text: keys are the field names of the dataclasses, enums are their values.

Reading follows the dataclasses' type hints, so the schema cannot drift from `compacter_core.config`: it is closed
(unknown keys are errors) and absent keys take the dataclass' default. Writing gives one text per configuration.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import cache
from types import UnionType
from typing import Any, Final, get_args, get_origin, get_type_hints

from compacter_core.config import SPEC_VERSION, AdapterConfig
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.config_checks import check_config
from compacter_core.format.strict_json import Rules, parse_object
from compacter_core.vocabulary import Activation, Input, OverrideKind, ScalingKind, Skip

MAX_CONFIG: Final = 2**20

_RULES = Rules("the configuration", MAX_CONFIG, too_large=ErrorCode.E202, malformed=ErrorCode.E203)
_SURROGATE = re.compile("[\ud800-\udfff]")
_VERSION = re.compile(r"(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})")
_WORD_CODES: Final[Mapping[type, ErrorCode]] = {
    Activation: ErrorCode.E209,
    Input: ErrorCode.E210,
    Skip: ErrorCode.E210,
    OverrideKind: ErrorCode.E405,
}
_JSON_NAMES: Final[Mapping[type, str]] = {bool: "true or false", int: "an integer", float: "a number", str: "a string"}


def config_from_json(text: str) -> AdapterConfig:
    """The configuration in a JSON text.

    Raises:
        CompacterError: E104, E202 to E211, E401, E404 or E405.
    """
    value = parse_object(text, _RULES)
    _check_unicode(value)
    check_version(value.get("spec_version"))
    config: AdapterConfig = _decode(AdapterConfig, value, "")
    check_config(config)
    return config


def config_to_json(config: AdapterConfig) -> str:
    """The one canonical text of a configuration: minified, keys sorted by code point, absent options left out.

    Raises:
        CompacterError: as `config_from_json` does, so that nothing is written that could not be read.
    """
    try:
        value = _encode(config)
        if not isinstance(config.scaling, ScalingKind):
            value["scaling"] = float(config.scaling)
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise CompacterError(ErrorCode.E203, f"the configuration is not representable as JSON: {error}") from error
    config_from_json(text)
    return text


def check_version(version: object) -> None:
    """Refuse a version this reader does not know: another major, or no version at all.

    Raises:
        CompacterError: E204.
    """
    match = _VERSION.fullmatch(version) if isinstance(version, str) else None
    if match is None or match.group(1) != SPEC_VERSION.split(".")[0]:
        raise CompacterError(
            ErrorCode.E204,
            "spec_version",
            value=version,
            expected=f"{SPEC_VERSION} or another minor version of it",
            remedy="Upgrade compacter-core if the file is newer.",
        )


def _check_unicode(value: object) -> None:
    if isinstance(value, str):
        if not value.isascii() and _SURROGATE.search(value):
            raise CompacterError(
                ErrorCode.E203, "the configuration holds an unpaired surrogate, which UTF-8 cannot express"
            )
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_unicode(key)
            _check_unicode(item)
    elif isinstance(value, list):
        for item in value:
            _check_unicode(item)


def _encode(value: Any) -> Any:
    if is_dataclass(value):
        present = ((field.name, getattr(value, field.name)) for field in fields(value))
        return {name: _encode(item) for name, item in present if item is not None}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"keys have to be strings, not {[*value]}")
        return {str(key): _encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    return value


def _decode(kind: Any, value: object, path: str) -> Any:
    """`value` as the type `kind` asks for. `path` names the place in messages."""
    if isinstance(kind, UnionType):
        return _decode_union(kind, value, path)
    if get_origin(kind) is not None:
        return _decode_collection(kind, value, path)
    if is_dataclass(kind):
        return _decode_dataclass(kind, _object(value, path), path)
    return _decode_scalar(kind, value, path)


def _decode_collection(kind: Any, value: object, path: str) -> Any:
    """`tuple[X, ...]` from a list, `Mapping[K, X]` from an object."""
    if get_origin(kind) is tuple:
        item, _ = get_args(kind)
        return tuple(_decode(item, each, f"{path}[{i}]") for i, each in enumerate(_list(value, path)))
    key, item = get_args(kind)
    pairs = _object(value, path).items()
    return {_decode(key, name, f"a key of {path}"): _decode(item, each, _join(path, name)) for name, each in pairs}


def _decode_scalar(kind: Any, value: object, path: str) -> Any:
    """A string, number, boolean or word; or `object`, which stands for any JSON value."""
    if kind is object:
        return value
    if issubclass(kind, Enum):
        return _decode_word(kind, value, path)
    # bool is a subclass of int in Python, but not in JSON: hence the exact comparison of types.
    accepted = (int, float) if kind is float else (kind,)
    if type(value) not in accepted:
        raise _wrong_type(path, value, _JSON_NAMES[kind])
    return kind(value)


def _decode_union(kind: UnionType, value: object, path: str) -> Any:
    """`X | None` is X, since absence is expressed by leaving the key out; of `float | enum` a string is the enum."""
    choices = [choice for choice in get_args(kind) if choice is not type(None)]
    words = [choice for choice in choices if isinstance(choice, type) and issubclass(choice, Enum)]
    return _decode(words[0] if words and isinstance(value, str) else choices[0], value, path)


def _decode_dataclass(kind: Any, value: Mapping[str, object], path: str) -> Any:
    hints, known = _schema(kind)
    for key in value:
        if key not in known:
            raise CompacterError(
                ErrorCode.E205, f"unknown key {_join(path, key)}", value=key, expected="one of " + ", ".join(known)
            )
    for name, field in known.items():
        if name not in value and _required(field):
            raise CompacterError(ErrorCode.E203, f"missing key {_join(path, name)}")
    return kind(**{name: _decode(hints[name], item, _join(path, name)) for name, item in value.items()})


@cache
def _schema(kind: Any) -> tuple[dict[str, Any], dict[str, Field[Any]]]:
    """Types and fields of a dataclass by key; looked up once, since a configuration may list thousands of sites."""
    return get_type_hints(kind), {field.name: field for field in fields(kind)}


def _decode_word(kind: type[Enum], value: object, path: str) -> Enum:
    words = [str(word.value) for word in kind]
    if value not in words:
        code = _WORD_CODES.get(kind, ErrorCode.E203)
        raise CompacterError(code, path, value=value, expected="one of " + ", ".join(words))
    return kind(value)


def _required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _list(value: object, path: str) -> list[object]:
    if not isinstance(value, list):
        raise _wrong_type(path, value, "a list")
    return value


def _object(value: object, path: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _wrong_type(path, value, "an object")
    return value


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _wrong_type(path: str, value: object, expected: str) -> CompacterError:
    return CompacterError(ErrorCode.E203, path, value=value, expected=expected)
