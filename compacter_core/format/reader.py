"""Read adapters: everything is checked, in the order header, configuration, tensor table, values.

What is read and written again gives the canonical bytes, whichever valid file it came from.

Memory (tests/format/test_hostile.py measures it): reading a file of S bytes that declares T tensors takes at most

    2 S + 640 T + 16 MiB

with the arrays that are returned, whether the file is accepted or refused. A value of the file is held once, in the
array that is returned: S bytes, or 2 S for bfloat16, which NumPy holds as float32. The header's text, at most S, has
gone by then; a text of this format within it is held twice at most. A tensor costs up to 640 bytes as Python objects
(its name, its entry, the array's own), more than the 50 bytes of header that declare it: this term does not go away,
but T is at most 65,536. The 16 MiB pay for the configuration, of whose text (at most 1 MiB) and values (at most 65,536)
Python makes objects, and for buffers.
"""

import json
import re
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from compacter_core.adapter import Adapter
from compacter_core.config import AdapterConfig
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.codec import read_array
from compacter_core.format.config_json import MAX_CONFIG, check_version, config_from_json, config_to_json
from compacter_core.format.container import PREFIX, Header, header_end, parse_header
from compacter_core.format.metadata import metadata_text
from compacter_core.format.source import Source, open_source
from compacter_core.format.tensors import MAX_ELEMENTS, check_infos, check_values, part_of
from compacter_core.format.writer import ADAPTER_FILE, CONFIG_FILE, CONFIG_KEY, VERSION_KEY, digest
from compacter_core.layout import Part

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileContent:
    """An adapter with the size and the SHA-256 (hexadecimal) of the file it was in, which need not be canonical."""

    adapter: Adapter
    file_bytes: int
    sha256: str


def parse_adapter(data: bytes, *, max_elements: int = MAX_ELEMENTS) -> Adapter:
    """The adapter in a file's bytes.

    Raises:
        CompacterError: E101 to E112, E201 to E211, E301 to E309, E401, E404 or E405.
    """
    return _read(Source(BytesIO(data), len(data)), max_elements, None).adapter


def load_adapter(path: Path | str, *, max_elements: int = MAX_ELEMENTS, expected_sha256: str | None = None) -> Adapter:
    """The adapter in a file, or in a directory of the hub profile.

    Args:
        path: the file or the directory.
        max_elements: most scalars of all tensors together.
        expected_sha256: digest that the adapter file must have, in hexadecimal, as `compacter inspect` prints it.

    Raises:
        CompacterError: E005 if it cannot be read, E113 if it has another digest, E206 if the profile's two
            configurations differ, E001 if `expected_sha256` is no digest, and as `parse_adapter`.
    """
    return load_content(path, max_elements=max_elements, expected_sha256=expected_sha256).adapter


def load_content(
    path: Path | str, *, max_elements: int = MAX_ELEMENTS, expected_sha256: str | None = None
) -> FileContent:
    """As `load_adapter`, with the file's size and digest.

    Raises:
        CompacterError: as `load_adapter`.
    """
    if expected_sha256 is not None and not _SHA256.fullmatch(expected_sha256):
        raise CompacterError(
            ErrorCode.E001, "expected digest", value=expected_sha256, expected="64 hexadecimal digits of a SHA-256"
        )
    with open_source(_file(path)) as source:
        content = _read(source, max_elements, expected_sha256)
    if _is_profile(path):
        with open_source(Path(path) / CONFIG_FILE) as source:
            copy = source.peek(MAX_CONFIG + 1)
        check_copy(copy, content.adapter.config)
    return content


def load_with_bytes(
    path: Path | str, *, max_elements: int = MAX_ELEMENTS, expected_sha256: str | None = None
) -> tuple[Adapter, bytes]:
    """As `load_adapter`, with the file's bytes, which take as much memory again.

    Raises:
        CompacterError: as `load_adapter`; E005 if the file changes meanwhile.
    """
    content = load_content(path, max_elements=max_elements, expected_sha256=expected_sha256)
    with open_source(_file(path)) as source:
        data = source.peek(content.file_bytes)
    if digest(data) != content.sha256:
        raise CompacterError(ErrorCode.E005, "the file changed while it was read", value=str(path))
    return content.adapter, data


def check_copy(data: bytes, embedded: AdapterConfig) -> None:
    """Check that a profile's `adapter_config.json` says the same as the configuration inside the adapter file.

    Args:
        data: the bytes of `adapter_config.json`.
        embedded: the configuration that counts.

    Raises:
        CompacterError: E206 if it does not; E104, E202 to E211, E401, E404 or E405 if it is no configuration.
    """
    try:
        text = data.decode()
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


def _file(path: Path | str) -> Path:
    """The adapter file of a hub profile's directory, or the file itself."""
    return Path(path) / ADAPTER_FILE if _is_profile(path) else Path(path)


def _is_profile(path: Path | str) -> bool:
    try:
        return Path(path).is_dir()
    except OSError:  # a name that is too long, for example: opening it says so
        return False


def _read(source: Source, max_elements: int, expected_sha256: str | None) -> FileContent:
    """Header, configuration and tensor table are checked before memory is taken for any tensor."""
    header = parse_header(source.read(header_end(source.peek(PREFIX + 1), source.size)), size=source.size)
    config = _config(header)
    infos = {name: entry.info for name, entry in header.entries.items()}
    dtype = check_infos(config, infos, max_elements=max_elements)
    arrays = {name: read_array(source.fill, info) for name, info in infos.items()}
    sha256 = source.finish()
    if expected_sha256 is not None and sha256 != expected_sha256.lower():
        raise CompacterError(
            ErrorCode.E113,
            "the file is not the expected one: its SHA-256 differs",
            value=sha256,
            expected=expected_sha256.lower(),
            remedy="Download the file again, or ask its author for the digest.",
        )
    check_values(arrays)
    adapter = Adapter(
        config=config,
        tensors={name: array for name, array in arrays.items() if part_of(name) != Part.SKETCH},
        sketches={name: array for name, array in arrays.items() if part_of(name) == Part.SKETCH},
        dtype=dtype,
    )
    return FileContent(adapter=adapter, file_bytes=source.size, sha256=sha256)


def _config(header: Header) -> AdapterConfig:
    for key in (VERSION_KEY, CONFIG_KEY):
        if key not in header.metadata:
            raise CompacterError(
                ErrorCode.E201,
                f"the file has no metadata {key}, so it is not an adapter of this format",
                value=sorted(header.metadata),
                remedy="Other adapter libraries' files have to be imported first.",
            )
    version = metadata_text(header.metadata[VERSION_KEY], MAX_CONFIG)
    check_version(version)
    foreign = [key for key in header.metadata if key not in (VERSION_KEY, CONFIG_KEY)]
    if foreign:
        raise CompacterError(ErrorCode.E205, "unknown metadata", value=foreign, expected=f"{CONFIG_KEY}, {VERSION_KEY}")
    text = metadata_text(header.metadata[CONFIG_KEY], MAX_CONFIG)
    if text is None:
        raise CompacterError(ErrorCode.E202, f"{CONFIG_KEY} is too long", expected=f"at most {MAX_CONFIG} bytes")
    config = config_from_json(text)
    if config.spec_version != version:
        raise CompacterError(
            ErrorCode.E204, f"{VERSION_KEY} and the configuration disagree", value=version, expected=config.spec_version
        )
    return config
