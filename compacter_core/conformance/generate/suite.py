"""The whole suite: all cases, and the command that writes it or compares it with what is there."""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from compacter_core.conformance.generate.builder import Builder
from compacter_core.conformance.generate.count import add_count_cases
from compacter_core.conformance.generate.defaults import add_default_cases
from compacter_core.conformance.generate.files_cases import add_file_cases
from compacter_core.conformance.generate.forward import add_forward_cases
from compacter_core.conformance.generate.forward_activations import add_activation_cases
from compacter_core.conformance.generate.forward_edges import add_edge_cases
from compacter_core.conformance.generate.forward_exact import add_exact_forward_cases
from compacter_core.conformance.generate.gradient import add_gradient_cases
from compacter_core.conformance.generate.initialise import add_initialise_cases
from compacter_core.conformance.generate.sublayer import add_sublayer_cases
from compacter_core.errors import CompacterError, ErrorCode

PARTS: Final[tuple[Callable[[Builder], None], ...]] = (
    add_forward_cases,
    add_exact_forward_cases,
    add_activation_cases,
    add_edge_cases,
    add_default_cases,
    add_gradient_cases,
    add_sublayer_cases,
    add_initialise_cases,
    add_count_cases,
    add_file_cases,
)


def build(progress: Callable[[str], None] = lambda _: None) -> Builder:
    """Every case of the suite with its files.

    Args:
        progress: told after each part how far the work is.

    Raises:
        CompacterError: E004 without mpmath; E801 if a case cannot be made to notice its mutants.
    """
    builder = Builder()
    for number, part in enumerate(PARTS, 1):
        part(builder)
        progress(f"{number}/{len(PARTS)} parts, {len(builder.cases)} cases")
    return builder


def generate(directory: Path, *, check: bool) -> list[str]:
    """Write the suite, or compare it with the one that is there.

    Args:
        directory: where the suite is; it is replaced as a whole, and only when the new one is complete.
        check: only compare, write nothing.

    Returns:
        with `check`, the names of files that differ, are missing, or should not be there; else nothing.

    Raises:
        CompacterError: E004, E801 as `build`; E006 if the suite cannot be written.
    """
    with _Progress() as progress:
        contents = build(progress).contents()
    if check:
        return _differences(contents, directory)
    _replace(contents, directory)
    return []


class _Progress:
    """One line on standard error, rewritten; where nobody watches, a line for each part."""

    def __enter__(self) -> Callable[[str], None]:
        begin, end = ("\r\x1b[K", "") if sys.stderr.isatty() else ("", "\n")
        return lambda text: print(f"{begin}generate: {text}", end=end, file=sys.stderr, flush=True)

    def __exit__(self, *_: object) -> None:
        if sys.stderr.isatty():
            print(file=sys.stderr)


def _differences(contents: dict[str, bytes], directory: Path) -> list[str]:
    there = {path.relative_to(directory).as_posix(): path for path in directory.rglob("*") if path.is_file()}
    changed = {name for name in contents.keys() & there.keys() if there[name].read_bytes() != contents[name]}
    return sorted(changed | contents.keys() ^ there.keys())


def _replace(contents: dict[str, bytes], directory: Path) -> None:
    """Write beside the old suite, then exchange the two."""
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}.") as scratch:
            fresh, old = Path(scratch) / "new", Path(scratch) / "old"
            for name, data in contents.items():
                target = fresh / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
            if directory.exists():
                directory.rename(old)
            fresh.rename(directory)
    except OSError as error:
        raise CompacterError(
            ErrorCode.E006, f"cannot write the suite: {error.strerror or error}", value=str(directory)
        ) from error
