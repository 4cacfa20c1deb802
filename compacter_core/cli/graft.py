"""`compacter graft`: an adapter into an exported backbone."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from compacter_core.cli.command import Outcome, needs, new_parser
from compacter_core.errors import CompacterError, ErrorCode

if TYPE_CHECKING:
    from compacter_core.cli.command import Subparsers

_EXAMPLES = """
compacter graft backbone adapter -o merged
compacter graft backbone adapter/adapter_model.safetensors -o backbone/banking77.onnx
compacter graft backbone/model.onnx adapter -o merged/model.onnx --form plain --json
"""
FORMS = ("auto", "fold", "plain")
MODEL_FILE = "model.onnx"
_COMPANIONS = ("tokenizer.json", "config.json")


def add_parser(subparsers: "Subparsers") -> None:
    """Add the command."""
    parser = new_parser(
        subparsers, "graft", run, summary="Merge an adapter into an exported backbone", examples=_EXAMPLES
    )
    parser.add_argument("backbone", type=Path, metavar="BACKBONE", help="made by compacter export: directory or .onnx")
    parser.add_argument("adapter", type=Path, metavar="ADAPTER", help="an adapter file, or its directory")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="MODEL",
        help="the .onnx file to write, or a directory for model.onnx; beside the backbone it shares the backbone's "
        "external data, elsewhere it gets a copy, with the tokenizer",
    )
    parser.add_argument(
        "--form", choices=FORMS, default="auto", help="how sites are written (default: fold where it is possible)"
    )


def run(args: argparse.Namespace) -> Outcome:
    """Graft, and put beside the model what the runtime needs."""
    with needs("onnx"):
        from compacter_exporters.forms import Form
        from compacter_exporters.graft import graft

    backbone = model_path(args.backbone)
    output = model_path(args.output)
    companions = _missing_companions(backbone.parent, output.parent)
    report = graft(backbone, args.adapter, output, form=Form(args.form))
    _copy(companions)
    forms = ", ".join(f"{list(report.forms.values()).count(form)} {form}" for form in sorted({*report.forms.values()}))
    text = f"grafted {report.adapter} into {backbone}: {output} ({len(report.forms)} sites, {forms})"
    return Outcome(report.as_dict(), text)


def model_path(path: Path) -> Path:
    """The .onnx file that `path` names: itself, or `model.onnx` in that directory."""
    return path if path.suffix == ".onnx" else path / MODEL_FILE


def _missing_companions(source: Path, target: Path) -> dict[Path, bytes]:
    """Files of the backbone that the target's directory lacks.

    Raises:
        CompacterError: E006 if it holds those of another backbone: with them the model would read texts wrongly.
    """
    missing = {}
    for name in _COMPANIONS:
        if not (source / name).is_file() or source.resolve() == target.resolve():
            continue
        data = (source / name).read_bytes()
        if not (target / name).exists():
            missing[target / name] = data
        elif (target / name).read_bytes() != data:
            raise CompacterError(
                ErrorCode.E006,
                "the output's directory belongs to another backbone",
                value=str(target / name),
                remedy="Choose another directory.",
            )
    return missing


def _copy(files: dict[Path, bytes]) -> None:
    from compacter_core.format.atomic import atomic_write

    for path, data in files.items():
        atomic_write(path, data)
