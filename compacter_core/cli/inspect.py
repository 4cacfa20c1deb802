"""`compacter inspect`: what is in an adapter file, or in the adapter of a grafted model."""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from compacter_core.cli.command import Outcome, needs, new_parser
from compacter_core.cli.extract import read_grafted
from compacter_core.linkage.packed import SUFFIX

if TYPE_CHECKING:
    from compacter_core.cli.command import Subparsers
    from compacter_core.inspection import Inspection

_EXAMPLES = """
compacter inspect adapter/adapter_model.safetensors
compacter inspect adapter
compacter inspect adapter --sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
compacter inspect merged/model.onnx --json
compacter inspect banking77.onnx_adapter
"""


def add_parser(subparsers: "Subparsers") -> None:
    """Add the command."""
    parser = new_parser(
        subparsers,
        "inspect",
        run,
        summary="Check an adapter file and print its configuration, tensors, sizes, counts and digest",
        examples=_EXAMPLES,
    )
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="an adapter file or directory, a grafted .onnx model or a packed adapter",
    )
    parser.add_argument("--sha256", metavar="DIGEST", help="fail unless the adapter file has this digest")


def run(args: argparse.Namespace) -> Outcome:
    """Inspect."""
    with needs("onnx"):
        is_inside = args.file.suffix in (".onnx", SUFFIX)
        inspection = (_inspect_inside if is_inside else _inspect)(args.file, args.sha256)
    return Outcome(inspection.as_dict(), inspection.as_text())


def _inspect(path: Path, sha256: str | None) -> "Inspection":
    from compacter_core.inspection import inspect_file

    return inspect_file(path, expected_sha256=sha256)


def _inspect_inside(path: Path, sha256: str | None) -> "Inspection":
    with tempfile.TemporaryDirectory() as scratch:
        adapter = Path(scratch) / "adapter.safetensors"
        adapter.write_bytes(read_grafted(path))
        return replace(_inspect(adapter, sha256), path=path)
