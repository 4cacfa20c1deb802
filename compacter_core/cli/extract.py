"""`compacter extract`: the adapter file back out of a grafted model."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from compacter_core.cli.command import Outcome, needs, new_parser

if TYPE_CHECKING:
    from compacter_core.cli.command import Subparsers

_EXAMPLES = """
compacter extract merged/model.onnx -o adapter.safetensors
compacter extract banking77.onnx_adapter -o adapter.safetensors
"""


def add_parser(subparsers: "Subparsers") -> None:
    """Add the command."""
    parser = new_parser(
        subparsers, "extract", run, summary="Take the adapter out of a grafted model, byte for byte", examples=_EXAMPLES
    )
    parser.add_argument(
        "model", type=Path, metavar="MODEL.onnx", help="a model made by compacter graft, or a file of pack"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the adapter file to write")


def run(args: argparse.Namespace) -> Outcome:
    """Extract, checking every digest, and write atomically."""
    from compacter_core.format.atomic import atomic_write
    from compacter_core.format.writer import digest

    data = read_grafted(args.model)
    atomic_write(args.output, data)
    found = {"adapter": str(args.output), "bytes": len(data), "sha256": digest(data)}
    return Outcome(found, f"wrote {args.output}, {len(data):,} bytes, sha256 {found['sha256']}")


def read_grafted(path: Path) -> bytes:
    """The adapter file in a grafted model or in a packed adapter.

    Raises:
        CompacterError: as reading the one or the other raises.
    """
    from compacter_core.linkage.packed import SUFFIX, read_packed_file

    if path.suffix == SUFFIX:
        return read_packed_file(path)[0]
    with needs("onnx"):
        from compacter_exporters.metadata import extract
    return extract(path)
