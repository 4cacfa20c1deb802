"""Adapter files with a configuration text that is not the writer's: valid, spelled by somebody else (CFG-5)."""

import json

from compacter_core.format.container import Header, header_bytes, parse_header
from compacter_core.format.writer import CONFIG_KEY, VERSION_KEY


def config_text(data: bytes) -> str:
    """The configuration's text in the bytes of a valid adapter file.

    Raises:
        CompacterError: E101 to E112.
    """
    return _metadata(parse_header(data), CONFIG_KEY)


def with_config_text(data: bytes, text: str) -> bytes:
    """A valid adapter file's bytes with another configuration text; tensors and version stay.

    Raises:
        CompacterError: E101 to E112.
    """
    header = parse_header(data)
    metadata = {CONFIG_KEY: text, VERSION_KEY: _metadata(header, VERSION_KEY)}
    infos = ((name, entry.info) for name, entry in header.entries.items())
    return header_bytes(metadata, infos) + data[header.data_start :]


def _metadata(header: Header, key: str) -> str:
    text: str = json.loads(header.metadata[key])
    return text
