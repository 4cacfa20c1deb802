"""Writes happen completely or not at all."""

import os
import stat
from pathlib import Path

import pytest

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.atomic import atomic_directory, atomic_file, atomic_write, atomic_write_all
from tests.format.builders import rejected


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fail(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_file_is_created_with_its_parents(tmp_path: Path) -> None:
    atomic_write(tmp_path / "a" / "b" / "c.bin", b"data")
    assert (tmp_path / "a" / "b" / "c.bin").read_bytes() == b"data"
    assert listing(tmp_path / "a" / "b") == ["c.bin"]


def test_a_file_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "c.bin"
    file.write_bytes(b"old and longer")
    atomic_write(str(file), b"new")
    assert file.read_bytes() == b"new"


@pytest.mark.spec("SEC-9")
def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"precious")
    link.symlink_to(target)
    atomic_write(link, b"data")
    assert target.read_bytes() == b"precious"
    assert not link.is_symlink()
    assert link.read_bytes() == b"data"


def test_permissions_are_those_of_a_file_made_in_the_ordinary_way(tmp_path: Path) -> None:
    (tmp_path / "ordinary").write_bytes(b"")
    atomic_write(tmp_path / "atomic", b"")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_the_longest_name_is_possible(tmp_path: Path) -> None:
    atomic_write(tmp_path / ("n" * 255), b"data")
    assert listing(tmp_path) == ["n" * 255]


@pytest.mark.spec("SEC-9")
@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_e006_failure_leaves_the_former_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    file = tmp_path / "c.bin"
    file.write_bytes(b"old")
    if function == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(Path, "replace", fail)
    with rejected(ErrorCode.E006):
        atomic_write(file, b"new")
    assert file.read_bytes() == b"old"
    assert listing(tmp_path) == ["c.bin"]


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is synced and renamed, in order: "fsync" with the size of the file, "rename" with the content."""
    seen: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def spy_fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        seen.append("fsync directory" if stat.S_ISDIR(status.st_mode) else f"fsync {status.st_size}")
        fsync(descriptor)

    def spy_replace(source: Path, target: Path) -> Path:
        seen.append(f"rename {source.read_bytes().decode()}")
        return replace(source, target)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(Path, "replace", spy_replace)
    return seen


@pytest.mark.spec("SEC-9")
def test_a_file_is_complete_and_synced_before_it_is_renamed(tmp_path: Path, events: list[str]) -> None:
    with atomic_file(tmp_path / "c.bin") as stream:
        stream.write(b"data")
    assert events == ["fsync 4", "rename data", "fsync directory"]


def test_all_files_are_complete_and_synced_before_the_first_is_renamed(tmp_path: Path, events: list[str]) -> None:
    atomic_write_all({tmp_path / "a": b"1", tmp_path / "b": b"22", tmp_path / "c": b"333"})
    before = events[: next(i for i, event in enumerate(events) if event.startswith("rename"))]
    assert {"fsync 1", "fsync 2", "fsync 3"} <= set(before)
    assert sorted(event for event in events if event.startswith("rename")) == ["rename 1", "rename 22", "rename 333"]


def test_e006_several_files_change_together_or_not_at_all(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"old")
    second.mkdir()
    for order in ((first, second), (second, first)):
        with rejected(ErrorCode.E006):
            atomic_write_all(dict.fromkeys(order, b"new"))
    assert first.read_bytes() == b"old"
    assert listing(tmp_path) == ["first", "second"]
    second.rmdir()
    atomic_write_all({first: b"new", second: b"other"})
    assert (first.read_bytes(), second.read_bytes()) == (b"new", b"other")


def test_e006_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with rejected(ErrorCode.E006):
        atomic_write(tmp_path / "file" / "c.bin", b"data")


@pytest.mark.spec("SEC-9", "ERR-1")
def test_an_interrupted_block_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic_file(tmp_path / "c.bin") as stream:
        stream.write(b"half")
        raise KeyboardInterrupt
    assert listing(tmp_path) == []


def test_an_error_of_the_block_keeps_its_type(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "c.bin"):
        (tmp_path / "absent").read_bytes()
    with pytest.raises(FileNotFoundError), atomic_directory(tmp_path / "folder"):
        (tmp_path / "absent").read_bytes()


def test_a_directory_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "a" / "folder"
    with atomic_directory(target) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_bytes(b"data")
        assert not target.exists()
    assert (target / "inner" / "file").read_bytes() == b"data"
    assert listing(tmp_path / "a") == ["folder"]


def test_an_empty_directory_is_filled(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with atomic_directory(tmp_path / "folder") as folder:
        (folder / "file").write_bytes(b"data")
    assert listing(tmp_path / "folder") == ["file"]


def test_an_interrupted_directory_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic_directory(tmp_path / "folder") as folder:
        (folder / "file").write_bytes(b"half")
        raise KeyboardInterrupt
    assert listing(tmp_path) == []


def test_e006_a_directory_with_content_is_refused_before_any_work(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    (target / "precious").write_bytes(b"data")
    with rejected(ErrorCode.E006), atomic_directory(target):
        pytest.fail("the block ran")
    assert (target / "precious").read_bytes() == b"data"
    assert listing(tmp_path) == ["folder"]


def test_e006_a_directory_that_was_filled_meanwhile_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with rejected(ErrorCode.E006), atomic_directory(target) as folder:
        (folder / "file").write_bytes(b"ours")
        target.mkdir()
        (target / "file").write_bytes(b"theirs")
    assert (target / "file").read_bytes() == b"theirs"
    assert listing(tmp_path) == ["folder"]


def test_e006_a_file_in_the_place_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "folder").write_bytes(b"data")
    with rejected(ErrorCode.E006), atomic_directory(tmp_path / "folder"):
        pytest.fail("the block ran")


def test_the_error_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(CompacterError, match="somewhere"):
        atomic_write(tmp_path / "somewhere" / ("n" * 300), b"")
