"""Libraries of C: compiled once, kept by what they are made from, and None where they cannot be."""

import ctypes
import logging
from pathlib import Path

import pytest

from compacter_core import native
from tests.support.compilers import CountingCompiler, needs_compiler, write_compiler

FLAGS = ("-shared", "-fPIC")


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A C file with a header of its own, beside which the cache is."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "source").mkdir()
    path = tmp_path / "source/answer.c"
    path.write_text('#include "vectors.h"\n#include "number.h"\nint answer(void) { return NUMBER; }\n')
    path.with_name("number.h").write_text("#define NUMBER 42\n")
    return path


def kept(tmp_path: Path) -> int:
    """How many files the cache has."""
    return len(list((tmp_path / "cache/compacter-core").iterdir()))


def answer(path: Path | None) -> int:
    assert path is not None
    return int(ctypes.CDLL(str(path)).answer())


@needs_compiler
def test_a_library_is_compiled_once(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And kept under a name that tells what it is made from: the compiler, its flags, and the files."""
    compiler = CountingCompiler(tmp_path)
    monkeypatch.setenv("CC", compiler.command)
    path = native.library(source, FLAGS)
    assert answer(path) == 42
    assert native.library(source, FLAGS) == path
    assert compiler.compilations == 1
    monkeypatch.setenv("CC", f"{compiler.command} -g")
    assert answer(native.library(source, FLAGS)) == 42
    assert answer(native.library(source, (*FLAGS, "-O1"))) == 42
    source.write_text(source.read_text().replace("NUMBER;", "-NUMBER;"))
    assert answer(native.library(source, FLAGS)) == -42
    source.with_name("number.h").write_text("#define NUMBER 7\n")
    assert answer(native.library(source, FLAGS)) == -7
    assert compiler.compilations == kept(tmp_path) == 5


@needs_compiler
@pytest.mark.parametrize("flag", ["-march=native", "-mcpu=native"])
def test_native_is_what_the_machine_makes_of_it(
    flag: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Homes may be shared by machines: of another one, the compiler defines other macros."""
    macros = tmp_path / "macros"
    script = f"""case "$*" in *-dM*) exec cat '{macros}';; esac\ncase "$1" in {flag}) shift;; esac\nexec cc "$@\""""
    monkeypatch.setenv("CC", write_compiler(tmp_path / "cc", script))
    for text in ("#define __AVX2__ 1", "#define __AVX512F__ 1", "#define __AVX2__ 1"):
        macros.write_text(text)
        assert answer(native.library(source, (flag, *FLAGS))) == 42
    assert kept(tmp_path) == 2


@pytest.mark.parametrize("compiler", ["false", "there-is-no-such-compiler"])
@pytest.mark.parametrize("flags", [FLAGS, (*FLAGS, "-march=native")])
def test_without_a_compiler_there_is_a_warning(
    compiler: str,
    flags: tuple[str, ...],
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("CC", compiler)
    with caplog.at_level(logging.WARNING):
        assert native.library(source, flags) is None
    (record,) = caplog.records
    assert "adapters run on plain operations" in record.getMessage()
    assert compiler in record.getMessage()
    assert not list(source.parents[1].rglob("*.so"))


def test_what_cannot_be_loaded(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    script = 'while [ "$1" != -o ]; do shift; done\necho "no library" > "$2"'
    monkeypatch.setenv("CC", write_compiler(tmp_path / "cc", script))
    with caplog.at_level(logging.WARNING):
        assert native.library(source, FLAGS) is None
    assert "adapters run on plain operations" in caplog.text


def test_kernels_are_switched_off(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(native.SWITCH, "off")
    assert native.library(source, FLAGS) is None
    assert not caplog.text
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_cannot_be(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "taken"))
    assert native.library(source, FLAGS) is None
