"""`compacter verify`: is every site of a model what the reference computes?"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from compacter_core.cli.command import Outcome, needs, new_parser
from compacter_core.cli.graft import is_set, model_path

if TYPE_CHECKING:
    from compacter_core.cli.command import Subparsers

_EXAMPLES = """
compacter verify merged --adapter adapter
compacter verify merged/model.onnx --adapter adapter/adapter_model.safetensors --seed 7 --json
compacter verify bank --adapter banking77 --adapter reviews
"""


def add_parser(subparsers: "Subparsers") -> None:
    """Add the command."""
    parser = new_parser(
        subparsers,
        "verify",
        run,
        summary="Compare every site, norm and head of a grafted model with the reference, inside ONNX Runtime",
        examples=_EXAMPLES,
    )
    parser.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help="made by compacter graft: an .onnx file, or a directory; without a model.onnx in it, all its graphs",
    )
    parser.add_argument(
        "--adapter",
        type=Path,
        required=True,
        action="append",
        metavar="ADAPTER",
        help="the adapter file, or directory; may be repeated for a model that takes adapters at run time: a bank gets "
        "them all in one batch",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the random inputs (default: %(default)s)")
    parser.add_argument(
        "--provider", action="append", metavar="NAME", help="execution provider; may be repeated (default: the CPU)"
    )


def run(args: argparse.Namespace) -> Outcome:
    """Verify; a model that differs is exit code 1."""
    with needs("onnx,cpu"):
        from compacter_exporters.verify import verify_all

    model = args.model if is_set(args.model) else model_path(args.model)
    report = verify_all(model, args.adapter, seed=args.seed, providers=args.provider)
    return Outcome(report.as_dict(), report.as_text(), ok=report.ok)
