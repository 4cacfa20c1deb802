"""Tensor files of the suite: plain safetensors whose tensors may differ in type."""

import json
from collections.abc import Mapping
from typing import Any, Final

from compacter_core.conformance.tensor_files import Tensor
from compacter_core.format.codec import encode

_ALIGNMENT: Final = 8


def tensor_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """The bytes of a safetensors file with these tensors: by descending item size, then by name.

    Raises:
        CompacterError: E305 for an array that is not of its type, E003 for values that bfloat16 cannot hold.
    """
    header: dict[str, Any] = {}
    body = b""
    for name, tensor in sorted(tensors.items(), key=lambda item: (-item[1].array.itemsize, item[0])):
        data = encode(name, tensor.array, tensor.dtype)
        header[name] = {
            "dtype": tensor.dtype.value,
            "shape": list(tensor.array.shape),
            "data_offsets": [len(body), len(body) + len(data)],
        }
        body += data
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(_ALIGNMENT, "little") + text + body
