"""`compacter export-adapter`: an adapter file as another library's directory."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from compacter_core.cli.command import Outcome, new_parser

if TYPE_CHECKING:
    from compacter_core.cli.command import Subparsers

_EXAMPLES = """
compacter export-adapter adapterhub adapter.safetensors -o for_adapterhub
compacter export-adapter adapterhub adapter.safetensors -o for_adapterhub --norms-beside --json
"""


def add_parser(subparsers: "Subparsers") -> None:
    """Add the command."""
    parser = new_parser(
        subparsers, "export-adapter", run, summary="Write an adapter for another library", examples=_EXAMPLES
    )
    parser.add_argument("kind", choices=["adapterhub"], help="the library")
    parser.add_argument("adapter", type=Path, metavar="FILE", help="an adapter file, or its directory")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="the directory to write, new or empty"
    )
    parser.add_argument(
        "--norms-beside",
        action="store_true",
        help="write norms that the adapter replaces, which AdapterHub cannot hold, into a file of their own",
    )
    parser.add_argument(
        "--without-head", action="store_true", help="leave out the head, which the library may not have the like of"
    )


def run(args: argparse.Namespace) -> Outcome:
    """Write the directory, as a whole or not at all."""
    from compacter_core.format.reader import load_adapter
    from compacter_core.headless import without_head
    from compacter_core.importers.adapterhub import save_adapterhub

    adapter = load_adapter(args.adapter)
    if args.without_head:
        adapter = without_head(adapter)
    notes = save_adapterhub(adapter, args.output, norms_beside=args.norms_beside)
    data = {"name": adapter.config.name, "output": str(args.output), "notes": list(notes)}
    text = [f"wrote {adapter.config.name} for AdapterHub: {args.output}", *(f"note: {note}" for note in notes)]
    return Outcome(data, "\n".join(text))
