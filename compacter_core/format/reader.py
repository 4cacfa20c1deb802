"""Read adapters: everything is checked, in the order header, configuration, tensor table, values.

What is read and written again gives the canonical bytes, whichever valid file it came from.
"""

import json
import os
from pathlib import Path

from compacter_core.adapter import Adapter
from compacter_core.config import AdapterConfig
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.codec import decode
from compacter_core.format.config_json import MAX_CONFIG, check_version, config_from_json, config_to_json
from compacter_core.format.container import MAX_HEADER, PREFIX, Header, parse_header
from compacter_core.format.tensors import MAX_ELEMENTS, check_infos, check_values, part_of
from compacter_core.format.writer import ADAPTER_FILE, CONFIG_FILE, CONFIG_KEY, VERSION_KEY
from compacter_core.layout import Part

_OWN_KEYS = "compacter."


def parse_adapter(data: bytes, *, max_elements: int = MAX_ELEMENTS) -> Adapter:
    """The adapter in a file's bytes.

    Raises:
        CompacterError: E101 to E112, E201 to E211, E301 to E309, E401, E404 or E405.
    """
    header = parse_header(data)
    config = _config(header)
    infos = {name: entry.info for name, entry in header.entries.items()}
    dtype = check_infos(config, infos, max_elements=max_elements)
    body = memoryview(data)[header.data_start :]
    arrays = {name: decode(body[entry.begin : entry.end], entry.info) for name, entry in header.entries.items()}
    check_values(arrays)
    return Adapter(
        config=config,
        tensors={name: array for name, array in arrays.items() if part_of(name) != Part.SKETCH},
        sketches={name: array for name, array in arrays.items() if part_of(name) == Part.SKETCH},
        dtype=dtype,
    )


def load_adapter(path: Path | str, *, max_elements: int = MAX_ELEMENTS) -> Adapter:
    """The adapter in a file, or in a directory of the hub profile.

    Raises:
        CompacterError: E005 if it cannot be read, E206 if the profile's two configurations differ, and as
            `parse_adapter`.
    """
    adapter, _ = load_with_bytes(path, max_elements=max_elements)
    return adapter


def load_with_bytes(path: Path | str, *, max_elements: int = MAX_ELEMENTS) -> tuple[Adapter, bytes]:
    """As `load_adapter`, with the file's bytes, which need not be the canonical ones.

    Raises:
        CompacterError: as `load_adapter`.
    """
    source = Path(path)
    is_profile = source.is_dir()
    data = _read(source / ADAPTER_FILE if is_profile else source, max_elements)
    adapter = parse_adapter(data, max_elements=max_elements)
    if is_profile:
        _check_profile(source / CONFIG_FILE, adapter.config)
    return adapter, data


def _read(file: Path, max_elements: int) -> bytes:
    """The file's bytes; header, configuration and tensor table are checked before the tensors are read into memory."""
    try:
        with file.open("rb") as stream:
            start = stream.read(PREFIX + MAX_HEADER)
            header = parse_header(start, size=os.fstat(stream.fileno()).st_size)
            infos = {name: entry.info for name, entry in header.entries.items()}
            check_infos(_config(header), infos, max_elements=max_elements)
            return start + stream.read()
    except OSError as error:
        raise _unreadable(file, error) from error


def _config(header: Header) -> AdapterConfig:
    for key in (VERSION_KEY, CONFIG_KEY):
        if key not in header.metadata:
            raise CompacterError(
                ErrorCode.E201,
                f"the file has no metadata {key}, so it is not an adapter of this format",
                value=sorted(header.metadata),
                remedy="Other adapter libraries' files have to be imported first.",
            )
    version = header.metadata[VERSION_KEY]
    check_version(version)
    foreign = [key for key in header.metadata if key.startswith(_OWN_KEYS) and key not in (VERSION_KEY, CONFIG_KEY)]
    if foreign:
        raise CompacterError(ErrorCode.E205, "unknown metadata", value=foreign, expected=f"{CONFIG_KEY}, {VERSION_KEY}")
    config = config_from_json(header.metadata[CONFIG_KEY])
    if config.spec_version != version:
        raise CompacterError(
            ErrorCode.E204, f"{VERSION_KEY} and the configuration disagree", value=version, expected=config.spec_version
        )
    return config


def _check_profile(file: Path, embedded: AdapterConfig) -> None:
    try:
        with file.open("rb") as stream:
            text = stream.read(MAX_CONFIG + 1).decode()
    except OSError as error:
        raise _unreadable(file, error) from error
    except UnicodeDecodeError as error:
        raise CompacterError(ErrorCode.E203, f"{CONFIG_FILE} is not UTF-8", value=error.reason) from error
    ours, theirs = (json.loads(config_to_json(config)) for config in (embedded, config_from_json(text)))
    different = sorted(key for key in {**ours, **theirs} if json.dumps(ours.get(key)) != json.dumps(theirs.get(key)))
    if different:
        raise CompacterError(
            ErrorCode.E206,
            f"{CONFIG_FILE} differs from the configuration inside {ADAPTER_FILE}",
            value=different,
            expected="equal configurations",
            remedy="The embedded one counts: save the adapter again, or use the safetensors file alone.",
        )


def _unreadable(file: Path, error: OSError) -> CompacterError:
    return CompacterError(ErrorCode.E005, f"cannot read: {error.strerror or error}", value=str(file))
