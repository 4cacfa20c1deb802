"""Paths made to hang, to reach other files or to run code, and files that change while they are read."""

import os
import pickle
import stat
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from compacter_core.adapter import Array
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format import reader
from compacter_core.format.codec import Fill, read_array
from compacter_core.format.container import TensorInfo
from compacter_core.format.reader import load_adapter
from compacter_core.format.writer import ADAPTER_FILE, CONFIG_FILE, save_adapter, save_profile
from tests.format.builders import make_adapter, rejected
from tests.format.hostile import plain

posix = pytest.mark.skipif(os.name != "posix", reason="pipes and devices are files on POSIX systems only")


@pytest.mark.spec("SEC-5")
@pytest.mark.parametrize("where", ["file", "profile"])
def test_pickles_and_archives_run_nothing(where: str, tmp_path: Path) -> None:
    path = tmp_path / ADAPTER_FILE
    target = tmp_path if where == "profile" else path
    mark = tmp_path / "ran"
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as stream:
        stream.writestr("archive/data.pkl", pickle.dumps(Touch(str(mark))))
    for data in (pickle.dumps(Touch(str(mark))), archive.getvalue()):
        path.write_bytes(data)
        with rejected(ErrorCode.E112):
            load_adapter(target)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Touch(str(mark))))  # noqa: S301 (this is the attack)
    assert mark.exists()


@posix
@pytest.mark.spec("SEC-6", "SEC-7")
def test_links_are_followed_to_regular_files_only(tmp_path: Path) -> None:
    """Caches of hubs are made of links, so a link is no offence; what is read has to be a regular file."""
    blobs, profile = tmp_path / "blobs", tmp_path / "profile"
    save_profile(make_adapter(), blobs)
    profile.mkdir()
    (profile / ADAPTER_FILE).symlink_to(blobs / ADAPTER_FILE)
    (profile / CONFIG_FILE).symlink_to(Path("..") / "blobs" / CONFIG_FILE)
    for link, target in (("link", blobs / ADAPTER_FILE), ("folder", profile)):
        (tmp_path / link).symlink_to(target)
    for path in (profile, profile / ADAPTER_FILE, tmp_path / "link", tmp_path / "folder"):
        assert load_adapter(path).config == make_adapter().config
    links = {
        "dangling": "absent",
        "loop": "loop",
        "null": "/dev/null",
        "zero": "/dev/zero",
        "empty": str(tmp_path / "d"),
    }
    (tmp_path / "d").mkdir()
    for link, destination in links.items():
        (tmp_path / link).symlink_to(destination)
        with rejected(ErrorCode.E005):
            load_adapter(tmp_path / link)
        (profile / ADAPTER_FILE).unlink()
        (profile / ADAPTER_FILE).symlink_to(tmp_path / link)
        with rejected(ErrorCode.E005):
            load_adapter(profile)


@pytest.mark.spec("SEC-14")
@posix
@pytest.mark.spec("SEC-7")
@pytest.mark.parametrize("name", [ADAPTER_FILE, CONFIG_FILE])
def test_a_pipe_does_not_hang(name: str, tmp_path: Path) -> None:
    save_profile(make_adapter(), tmp_path)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with rejected(ErrorCode.E005):
        load_adapter(tmp_path)


@pytest.mark.spec("SEC-14")
@posix
@pytest.mark.spec("SEC-7")
def test_a_pipe_that_takes_the_place_of_a_file_does_not_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between looking at the file and opening it, somebody replaces it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    monkeypatch.setattr(Path, "stat", lambda *_, **__: SimpleNamespace(st_mode=stat.S_IFREG))
    with pytest.raises(CompacterError, match="E005: cannot read: not a regular file"):
        load_adapter(pipe)


def test_a_name_that_no_system_has(tmp_path: Path) -> None:
    for name in ("a\0b", "x" * 5_000):
        with rejected(ErrorCode.E005):
            load_adapter(tmp_path / name)


@pytest.mark.spec("SEC-7")
@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda file: os.truncate(file, file.stat().st_size - 1), ErrorCode.E101),
        (lambda file: os.truncate(file, 100), ErrorCode.E101),
        (lambda file: os.truncate(file, 0), ErrorCode.E101),
        (lambda file: file.open("ab").write(b"x") and None, ErrorCode.E105),
    ],
    ids=["last byte", "within the header", "empty", "grown"],
)
def test_a_file_that_changes_its_size_while_it_is_read(
    change: Callable[[Path], None], code: ErrorCode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    save_adapter(plain(2, 256, 64), file)

    def changing(fill: Fill, info: TensorInfo) -> Array:
        monkeypatch.undo()
        change(file)
        return read_array(fill, info)

    monkeypatch.setattr(reader, "read_array", changing)
    with rejected(code):
        load_adapter(file)


def test_a_file_that_is_replaced_between_reading_and_reading_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`load_with_bytes` gives the bytes of the adapter that it gives, or nothing."""
    file = tmp_path / "file"
    save_adapter(make_adapter(), file)
    load = reader.load_content

    def replacing(*arguments: Any, **options: Any) -> reader.FileContent:
        content = load(*arguments, **options)
        save_adapter(make_adapter(seed=1), file)
        return content

    monkeypatch.setattr(reader, "load_content", replacing)
    with rejected(ErrorCode.E005):
        reader.load_with_bytes(file)


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self.path,)
