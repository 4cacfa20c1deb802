"""`compacter import`: an adapter that another library saved, as an adapter file of this format."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

from compacter_core.cli.command import Outcome, needs, new_parser
from compacter_core.errors import CompacterError, ErrorCode

if TYPE_CHECKING:
    from compacter_core.cli.command import Subparsers
    from compacter_core.importers.result import ImportedAdapter

_EXAMPLES = """
compacter import adapterhub saved_adapter --backbone bert-base-uncased -o adapter.safetensors
compacter import opendelta saved_delta --backbone t5-base --allow-pickle -o adapter.safetensors
compacter import adapterhub saved_adapter --without-head -o adapter.safetensors --json
"""


@dataclass(frozen=True, slots=True)
class Kind:
    """One library: the function that reads what it saved, `from_…(path, *, backbone, allow_pickle, with_head)`.

    Args:
        module: where the function is.
        function: its name.
        summary: what it reads.
        takes_shared: whether it has the argument `shared_parameters` too.
    """

    module: str
    function: str
    summary: str
    takes_shared: bool = False


KINDS: Final[Mapping[str, Kind]] = {
    "adapterhub": Kind(
        "compacter_core.importers.adapterhub",
        "from_adapterhub",
        "a directory that AdapterHub saved",
        takes_shared=True,
    ),
    "compacter-paper": Kind(
        "compacter_core.importers.paper", "from_compacter_paper", "the output directory of the paper's code"
    ),
    "opendelta": Kind("compacter_core.importers.opendelta", "from_opendelta", "a directory that OpenDelta saved"),
    "peft": Kind("compacter_core.importers.peft", "from_peft", "a hub profile of this project; PEFT's own are refused"),
}


def add_parser(subparsers: "Subparsers") -> None:
    """Add the command."""
    parser = new_parser(
        subparsers,
        "import",
        run,
        summary="Turn an adapter that another library saved into one file",
        examples=_EXAMPLES,
    )
    parser.add_argument(
        "kind",
        choices=list(KINDS),
        metavar="KIND",
        help="; ".join(f"{name}: {kind.summary}" for name, kind in KINDS.items()),
    )
    parser.add_argument("source", type=Path, metavar="SRC", help="what the library saved")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the adapter file to write")
    add_source_options(parser, backbone="--backbone")


def add_source_options(parser: argparse.ArgumentParser, *, backbone: str) -> None:
    """Add the options that say how a foreign checkpoint is read.

    Args:
        parser: of the command.
        backbone: name of the option for the model that the adapter was trained on.
    """
    parser.add_argument(
        backbone,
        dest="trained_on",
        metavar="DIR",
        help="the model that the adapter was trained on, as transformers saves it; without it the file neither "
        "recognises its backbone nor can be grafted",
    )
    parser.add_argument(
        "--allow-pickle",
        action="store_true",
        help="read pickled checkpoints (.bin): only from a source you trust; safetensors files need no such trust",
    )
    parser.add_argument("--without-head", action="store_true", help="leave the task head out")
    parser.add_argument(
        "--shared-parameters",
        type=Path,
        metavar="FILE",
        help="adapterhub: safetensors file with the shared rule that the checkpoint lacks",
    )


def run(args: argparse.Namespace) -> Outcome:
    """Import, and write the file atomically."""
    from compacter_core.format.writer import canonical_digest, save_adapter
    from compacter_core.layout import count_parameters

    imported = read_source(args.kind, args.source, args)
    save_adapter(imported.adapter, args.output)
    config = imported.adapter.config
    data = {
        "output": str(args.output),
        "name": config.name,
        "method": config.method,
        "sites": len(config.sites),
        "parameters": count_parameters(config),
        "head": None if config.head is None else config.head.task,
        "recognises_backbone": bool(imported.adapter.sketches),
        "sha256": canonical_digest(imported.adapter),
        "notes": list(imported.notes),
    }
    text = (
        f"imported {config.name} ({config.method}, {len(config.sites)} sites, {data['parameters']:,} parameters): "
        f"{args.output}"
    )
    return Outcome(data, "\n".join([text, *(f"note: {note}" for note in imported.notes)]))


def read_source(kind: str, source: Path, args: argparse.Namespace) -> "ImportedAdapter":
    """The adapter in a foreign checkpoint, by the options of `add_source_options`.

    Raises:
        CompacterError: E001 for an option that this kind does not have, and what its importer raises.
    """
    extra = {}
    if args.shared_parameters is not None:
        if not KINDS[kind].takes_shared:
            raise CompacterError(ErrorCode.E001, f"--shared-parameters does not go with {kind}", expected="adapterhub")
        extra["shared_parameters"] = args.shared_parameters
    backbone = None
    with needs("torch"):
        if args.trained_on is not None:
            from compacter_core.pytorch.known_backbone import open_backbone

            backbone = open_backbone(args.trained_on)
        reader = getattr(import_module(KINDS[kind].module), KINDS[kind].function)
        imported: ImportedAdapter = reader(
            source, backbone=backbone, allow_pickle=args.allow_pickle, with_head=not args.without_head, **extra
        )
    return imported
