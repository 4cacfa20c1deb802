"""`compacter export`: a backbone to ONNX, with an adapter inside if one is given."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from compacter_core.cli.command import Outcome, needs, new_parser
from compacter_core.vocabulary import Pooling
from compacter_exporters.choices import Backend, Task

if TYPE_CHECKING:
    from compacter_core.cli.command import Subparsers

_EXAMPLES = """
compacter export bert-base-uncased -o backbone
compacter export ./my-checkpoint -o backbone --opset 20
compacter export roberta-base -o backbone --backend optimum --json
compacter export t5-small -o t5-graphs --task text2text-generation
compacter export gpt2 -o backbone --task text-generation
compacter export bert-base-uncased --adapter adapter -o model
"""
_STAGES = 4
_DEFAULT = "one of: %(choices)s (default: %(default)s)"


def add_parser(subparsers: "Subparsers") -> None:
    """Add the command."""
    parser = new_parser(
        subparsers, "export", run, summary="Export a backbone to ONNX, once for all its adapters", examples=_EXAMPLES
    )
    parser.add_argument("source", metavar="BACKBONE", help="a transformers checkpoint: a directory, or a hub name")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="new directory for the result")
    parser.add_argument("--task", type=Task, choices=list(Task), default=Task.TEXT_CLASSIFICATION, help=_DEFAULT)
    parser.add_argument("--backend", type=Backend, choices=list(Backend), default=Backend.TRANSFORMERS, help=_DEFAULT)
    parser.add_argument("--pooling", type=Pooling, choices=list(Pooling), help="what the head reads, not the pooler")
    parser.add_argument("--opset", type=int, help="ONNX opset (default: the exporter's choice)")
    parser.add_argument(
        "--adapter",
        type=Path,
        metavar="ADAPTER",
        help="put this adapter, a file or its directory, into the model before it is exported. The graphs then carry "
        "no adapter that extract gives back, verify checks or another takes the place of; for that, export without "
        "it and use graft, which also takes a fraction of the time",
    )


def run(args: argparse.Namespace) -> Outcome:
    """Export, with a bar that steps through the stages."""
    with needs("export,cpu"):
        from tqdm import tqdm

        from compacter_exporters.backbone import export_backbone

    with tqdm(total=_STAGES, bar_format="{desc} {bar} {elapsed}", leave=False, disable=None) as bar:

        def step(stage: str) -> None:
            bar.set_description(f"{stage:<6}")
            bar.update()

        model = export_backbone(
            args.source,
            args.output,
            task=args.task,
            backend=args.backend,
            opset=args.opset,
            adapter=args.adapter,
            pooling=args.pooling,
            progress=step,
        )
    directory = model if model.is_dir() else model.parent
    files = {file.name: file.stat().st_size for file in sorted(directory.iterdir())}
    lines = [f"exported {args.source} to {model}", *(f"  {name:<32} {size:>14,} bytes" for name, size in files.items())]
    return Outcome({"model": str(model), "files": files}, "\n".join(lines))
