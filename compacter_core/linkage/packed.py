"""The bytes of an `.onnx_adapter` file of ours: ONNX Runtime's container, and behind it what that lacks (LNK-8).

container                  ONNX Runtime's bytes, which it reads without looking further
appendix                   JSON: spec_version, fingerprint of the graph, and the adapter file in base64
size of the appendix       8 bytes, little-endian
SHA-256 of all before      32 bytes
"compacter.adapter"        17 bytes
"""

import base64
import hashlib
import json
import struct
from pathlib import Path
from typing import Final

from compacter_core.config import SPEC_VERSION
from compacter_core.errors import CompacterError, ErrorCode

SUFFIX: Final = ".onnx_adapter"
_MAGIC: Final = b"compacter.adapter"
_SIZE: Final = struct.Struct("<Q")
_DIGEST: Final = hashlib.sha256().digest_size
_FOOTER: Final = _SIZE.size + _DIGEST + len(_MAGIC)
_REMEDY: Final = "Pack the adapter again with `compacter pack`."


def with_appendix(container: bytes, adapter: bytes, fingerprint: str) -> bytes:
    """The whole file.

    Args:
        container: ONNX Runtime's bytes.
        adapter: the adapter's canonical file.
        fingerprint: of the graph it was packed for.
    """
    encoded = base64.b64encode(adapter).decode("ascii")
    found = {"spec_version": SPEC_VERSION, "fingerprint": fingerprint, "adapter": encoded}
    appendix = json.dumps(found, sort_keys=True).encode()
    body = container + appendix + _SIZE.pack(len(appendix))
    return body + hashlib.sha256(body).digest() + _MAGIC


def read_packed_file(path: Path) -> tuple[bytes, str]:
    """The adapter file within a packed one, and the fingerprint of the graph it was packed for.

    Raises:
        CompacterError: E005 if the file cannot be read; E601 if it does not end as ours do; E603 if it is damaged.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CompacterError(
            ErrorCode.E005, f"cannot read the adapter: {error.strerror or error}", value=str(path)
        ) from error
    if len(data) < _FOOTER or not data.endswith(_MAGIC):
        raise CompacterError(
            ErrorCode.E601,
            "the file does not end as an adapter packed by this project does",
            value=str(path),
            remedy="Without its digest nothing would tell a damaged or incomplete file. " + _REMEDY,
        )
    body = data[: -_DIGEST - len(_MAGIC)]
    if hashlib.sha256(body).digest() != data[len(body) : -len(_MAGIC)]:
        raise CompacterError(ErrorCode.E603, "the packed adapter is damaged", value=str(path), remedy=_REMEDY)
    (size,) = _SIZE.unpack(body[-_SIZE.size :])
    try:
        appendix = json.loads(body[-_SIZE.size - size : -_SIZE.size])
        stored = base64.b64decode(appendix["adapter"], validate=True)
        fingerprint = str(appendix["fingerprint"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CompacterError(ErrorCode.E601, "the packed adapter's appendix is damaged", remedy=_REMEDY) from error
    return stored, fingerprint
