"""Checkpoint files for tests of what reads them: good, damaged, and hostile ones."""

import io
import json
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch


class Calls:
    """An object whose unpickling calls a function: what a hostile pickle is made of."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self._call


def save_pickle(path: Path, content: object, *, legacy: bool = False) -> Path:
    """A file of `torch.save`, of anything."""
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def save_index(path: Path, places: Mapping[str, str]) -> Path:
    """An index of shards."""
    path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return path


def compress(path: Path) -> Path:
    """The archive written again, compressed."""
    return _rewrite(path, zipfile.ZIP_DEFLATED, lambda name: name)


def rename_pickle(path: Path) -> Path:
    """The archive with its pickle's name in capitals."""
    return _rewrite(path, zipfile.ZIP_STORED, lambda name: name.replace("data.pkl", "DATA.PKL"))


def _rewrite(path: Path, compression: int, rename: Callable[[str], str]) -> Path:
    source = io.BytesIO(path.read_bytes())
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", compression) as new:
        for name in old.namelist():
            new.writestr(rename(name), old.read(name))
    return path


def pickled(content: object) -> bytes:
    """A plain pickle in the protocol of `torch.save`."""
    return pickle.dumps(content, protocol=2)


def claim_size(path: Path, entry: str, size: int) -> Path:
    """The archive with another uncompressed size in its directory for one stored entry."""
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        info: Any = next(info for info in archive.infolist() if info.filename.endswith(entry))
        start = archive.start_dir
    position = data.index(info.filename.encode(), start) - 46
    for field in (position + 20, position + 24):
        data = data[:field] + size.to_bytes(4, "little") + data[field + 4 :]
    path.write_bytes(data)
    return path
