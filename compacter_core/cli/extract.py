"""`compacter extract`: the adapter file back out of a grafted model."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from compacter_core.cli.command import Outcome, needs, new_parser

if TYPE_CHECKING:
    from compacter_core.cli.command import Subparsers

_EXAMPLES = """
compacter extract merged/model.onnx -o adapter.safetensors
"""


def add_parser(subparsers: "Subparsers") -> None:
    """Add the command."""
    parser = new_parser(
        subparsers, "extract", run, summary="Take the adapter out of a grafted model, byte for byte", examples=_EXAMPLES
    )
    parser.add_argument("model", type=Path, metavar="MODEL.onnx", help="a model made by compacter graft")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the adapter file to write")


def run(args: argparse.Namespace) -> Outcome:
    """Extract, checking every digest, and write atomically."""
    with needs("onnx"):
        from compacter_exporters.metadata import extract

    from compacter_core.format.atomic import atomic_write
    from compacter_core.format.writer import digest

    data = extract(args.model)
    atomic_write(args.output, data)
    found = {"adapter": str(args.output), "bytes": len(data), "sha256": digest(data)}
    return Outcome(found, f"wrote {args.output}, {len(data):,} bytes, sha256 {found['sha256']}")
