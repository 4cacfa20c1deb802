"""Write adapters: one canonical sequence of bytes per adapter, checked before it is written, replaced atomically.

Canonical bytes (FMT-27 to FMT-32): tensors by descending item size, then by name; metadata and configuration as
minified JSON with sorted keys. Equal adapters give equal bytes, so a digest identifies an adapter.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from compacter_core.adapter import Adapter, DType
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.atomic import atomic_write, atomic_write_all
from compacter_core.format.codec import encode
from compacter_core.format.config_json import config_to_json
from compacter_core.format.container import TensorInfo, header_bytes
from compacter_core.format.tensors import check_infos, check_values, part_of
from compacter_core.layout import Part

CONFIG_KEY: Final = "compacter.config"
VERSION_KEY: Final = "compacter.spec_version"
ADAPTER_FILE: Final = "adapter_model.safetensors"
CONFIG_FILE: Final = "adapter_config.json"


def adapter_bytes(adapter: Adapter) -> bytes:
    """The canonical bytes of an adapter.

    Raises:
        CompacterError: what reading these bytes would raise (E1xx, E2xx, E3xx, E4xx); E003 for values that the
            adapter's type cannot hold.
    """
    return b"".join(_canonical(adapter))


def canonical_digest(adapter: Adapter) -> str:
    """`digest(adapter_bytes(adapter))`, without holding all these bytes at once.

    Raises:
        CompacterError: as `adapter_bytes`.
    """
    sha256 = hashlib.sha256()
    for part in _canonical(adapter):
        sha256.update(part)
    return sha256.hexdigest()


def save_adapter(adapter: Adapter, path: Path | str) -> None:
    """Write an adapter to one file; on failure the former content of `path` still stands.

    Raises:
        CompacterError: E006, and as `adapter_bytes`.
    """
    atomic_write(path, adapter_bytes(adapter))


def save_profile(adapter: Adapter, directory: Path | str) -> None:
    """Write the hub profile: the adapter file, and a copy of its configuration that people and hubs can read.

    Other files of the directory are left alone.

    Raises:
        CompacterError: E006, and as `adapter_bytes`.
    """
    folder = Path(directory)
    atomic_write_all(
        {
            folder / ADAPTER_FILE: adapter_bytes(adapter),
            folder / CONFIG_FILE: (config_to_json(adapter.config) + "\n").encode(),
        }
    )


def digest(data: bytes) -> str:
    """SHA-256 of an adapter file's bytes, in hexadecimal: covers the configuration and the tensors."""
    return hashlib.sha256(data).hexdigest()


def _canonical(adapter: Adapter) -> Iterator[bytes]:
    """The canonical bytes: the header, then one tensor after the other."""
    config = config_to_json(adapter.config)
    dtypes = _dtypes(adapter)
    arrays = {**adapter.tensors, **adapter.sketches}
    infos = {name: TensorInfo(dtypes[name], tuple(array.shape)) for name, array in arrays.items()}
    check_infos(adapter.config, infos)
    check_values(arrays)
    order = sorted(infos, key=lambda name: (-infos[name].item_size, name))
    metadata = {CONFIG_KEY: config, VERSION_KEY: adapter.config.spec_version}
    yield header_bytes(metadata, ((name, infos[name]) for name in order))
    for name in order:
        yield encode(name, arrays[name], dtypes[name])


def _dtypes(adapter: Adapter) -> dict[str, DType]:
    """The data type of each tensor in the file, after checking that each stands in the right mapping."""
    for name in adapter.tensors:
        if part_of(name) == Part.SKETCH:
            raise CompacterError(ErrorCode.E303, "a sketch among the adapter's tensors", value=name)
    for name in adapter.sketches:
        if part_of(name) != Part.SKETCH:
            raise CompacterError(ErrorCode.E303, "a tensor among the adapter's sketches", value=name)
    return dict.fromkeys(adapter.tensors, adapter.dtype) | dict.fromkeys(adapter.sketches, DType.F32)
