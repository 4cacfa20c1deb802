"""`compacter pack`: an adapter as an `.onnx_adapter` file for a swappable model."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from compacter_core.cli.command import Outcome, needs, new_parser
from compacter_core.cli.graft import is_set, model_path

if TYPE_CHECKING:
    from compacter_core.cli.command import Subparsers

_EXAMPLES = """
compacter pack swappable adapter -o banking77.onnx_adapter
compacter pack swappable/model.onnx adapter/adapter_model.safetensors -o banking77.onnx_adapter --json
"""


def add_parser(subparsers: "Subparsers") -> None:
    """Add the command."""
    parser = new_parser(
        subparsers,
        "pack",
        run,
        summary="Make the .onnx_adapter file of an adapter for a swappable model",
        examples=_EXAMPLES,
    )
    parser.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help="made by compacter graft --linkage swappable: an .onnx file, or a directory; the file fits all its graphs",
    )
    parser.add_argument("adapter", type=Path, metavar="ADAPTER", help="an adapter file, or its directory")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="the .onnx_adapter file to write"
    )


def run(args: argparse.Namespace) -> Outcome:
    """Pack, for the very graph, or the graphs of the very directory: others refuse the file."""
    with needs("cpu"):
        from compacter_runtime import Generator, Session
        from compacter_runtime.onnx_adapter import write_packed

    from compacter_core.format.reader import load_adapter

    if is_set(args.model):
        swappable = Generator(args.model).adapters.swappable
    else:
        swappable = Session(model_path(args.model)).swappable
    adapter = load_adapter(args.adapter)
    size = write_packed(args.output, swappable.description, adapter)
    found = {"adapter": adapter.config.name, "output": str(args.output), "bytes": size}
    return Outcome(found, f"packed {adapter.config.name} for {args.model}: {args.output}, {size:,} bytes")
