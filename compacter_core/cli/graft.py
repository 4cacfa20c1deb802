"""`compacter graft`: an adapter into an exported backbone."""

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from compacter_core.cli.command import Outcome, needs, new_parser
from compacter_core.cli.import_adapter import KINDS, add_source_options, read_source
from compacter_core.cli.optimise import (
    add_optimise_options,
    check_optimisable,
    graft_optimised,
    graft_set_optimised,
    is_optimised,
    open_set_optimised,
)
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.linkage.kinds import Linkage

if TYPE_CHECKING:
    from compacter_core.cli.command import Subparsers

_EXAMPLES = """
compacter graft backbone adapter -o merged
compacter graft t5-graphs adapter -o merged
compacter graft backbone adapter/adapter_model.safetensors -o backbone/banking77.onnx
compacter graft backbone/model.onnx adapter -o merged/model.onnx --form plain --json
compacter graft backbone adapter -o swappable --linkage swappable
compacter graft t5-graphs adapter -o bank --linkage bank
compacter graft t5-graphs adapter -o small --linkage swappable --precision int8
compacter graft backbone saved_adapter -o merged --from adapterhub --trained-on bert-base-uncased
compacter graft backbone adapter -o quantised --precision int8
compacter graft backbone adapter -o tuned --tune 1x32 8x128
compacter graft backbone adapter -o swappable --linkage swappable --form sublayer --tune 1x32
compacter graft backbone adapter -o fast --target cpu --form sublayer
compacter graft backbone adapter -o half --target cuda --precision fp16
"""
FORMS = ("auto", "bias-last", "bias-first", "column", "fold", "plain", "dissolved", "function", "sublayer")
MODEL_FILE = "model.onnx"
_COMPANIONS = ("tokenizer.json", "config.json", "generation_config.json")


def add_parser(subparsers: "Subparsers") -> None:
    """Add the command."""
    parser = new_parser(
        subparsers, "graft", run, summary="Merge an adapter into an exported backbone", examples=_EXAMPLES
    )
    parser.add_argument(
        "backbone",
        type=Path,
        metavar="BACKBONE",
        help="made by compacter export: an .onnx file, or a directory; without a model.onnx in it, all its graphs are "
        "grafted, as those of an encoder-decoder",
    )
    parser.add_argument(
        "adapter",
        type=Path,
        metavar="ADAPTER",
        help="an adapter file, or its directory; with --from what that library saved",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="MODEL",
        help="the .onnx file to write, or a directory for model.onnx; beside the backbone it shares the backbone's "
        "external data, elsewhere it gets a copy, with the tokenizer; for a directory of graphs a new directory",
    )
    parser.add_argument(
        "--form",
        choices=FORMS,
        default="auto",
        help="how sites are written (default: where it is possible bias-last, or where residual sums are kept apart "
        "column, in int8 and int4 bias-first, which cost least; fold suits optimisers that run on the result); "
        "dissolved: in the weights of the linear layers, for adapters without an activation; function: as calls of a "
        "function of the model; sublayer: as calls that take in residual sums and norms, fastest on CPUs where "
        "compacter_runtime's kernels serve; also with the linkages swappable and bank",
    )
    parser.add_argument(
        "--linkage",
        choices=list(Linkage),
        default=Linkage.MERGED.value,
        help="merged: this adapter, inside the graph; swappable: one adapter at a time, given with a run; bank: each "
        "row of a batch has its own. For the last two ADAPTER is a template: it decides sites, norms and head, and "
        "is given to the model like any other (default: %(default)s)",
    )
    parser.add_argument(
        "--from",
        dest="kind",
        choices=list(KINDS),
        help="import an adapter that this library saved, and merge it at once",
    )
    add_source_options(parser, backbone="--trained-on")
    add_optimise_options(parser)


def run(args: argparse.Namespace) -> Outcome:
    """Graft, and put beside the model what the runtime needs."""
    with needs("onnx"):
        import compacter_exporters.graft  # noqa: F401 the import is the question

    check_optimisable(args, one_file=not is_set(args.backbone))
    with _adapter_file(args) as (adapter, notes):
        merge = _into_set if is_set(args.backbone) else _into_file
        data, text = (merge if args.linkage == Linkage.MERGED else _open)(args, adapter)
    data |= {} if args.kind is None else {"notes": list(notes)}
    return Outcome(data, "\n".join([text, *(f"note: {note}" for note in notes)]))


def _into_file(args: argparse.Namespace, adapter: Path) -> tuple[dict[str, object], str]:
    """Graft into one graph."""
    from compacter_exporters.forms import Form
    from compacter_exporters.graft import graft

    backbone, output = model_path(args.backbone), model_path(args.output)
    companions = _missing_companions(backbone.parent, output.parent)
    if is_optimised(args):
        data, text = graft_optimised(args, backbone, adapter, output)
        _copy(companions)
        return data, text
    report = graft(backbone, adapter, output, form=Form(args.form))
    _copy(companions)
    return report.as_dict(), f"grafted {report.adapter} into {backbone}: {output} ({_counts(report.forms)})"


def _open(args: argparse.Namespace, template: Path) -> tuple[dict[str, object], str]:
    """Open one graph for adapters at run time, or those of a directory."""
    return (_open_set if is_set(args.backbone) else _open_file)(args, template)


def _open_file(args: argparse.Namespace, template: Path) -> tuple[dict[str, object], str]:
    from compacter_exporters.forms import Form
    from compacter_exporters.linkage.open_set import opener_of
    from compacter_exporters.linkage.opening import open_file

    backbone, output = model_path(args.backbone), model_path(args.output)
    companions = _missing_companions(backbone.parent, output.parent)
    linkage = Linkage(args.linkage)
    if is_optimised(args):
        data, text = graft_optimised(args, backbone, template, output)
    else:
        report = open_file(backbone, template, output, opener_of(linkage, sums_apart=False), form=Form(args.form))
        data, text = report.as_dict(), f"opened {backbone} as {linkage}: {output} ({len(report.sites)} sites)"
    _copy(companions)
    return data, text


def _open_set(args: argparse.Namespace, template: Path) -> tuple[dict[str, object], str]:
    from compacter_exporters.forms import Form
    from compacter_exporters.linkage.open_set import open_directory

    if is_optimised(args):
        report, data = open_set_optimised(args, template)
        without = "no site"
    else:
        report = open_directory(args.backbone, template, args.output, Linkage(args.linkage), form=Form(args.form))
        data, without = report.as_dict(), "no site, copied"
    lines = [f"opened the graphs of {args.backbone} for adapters ({args.linkage}): {args.output}"]
    lines += [f"  {name}: {len(one.sites)} sites" for name, one in report.graphs.items()]
    lines += [f"  {name}: {without}" for name in report.untouched]
    return data, "\n".join(lines)


def _into_set(args: argparse.Namespace, adapter: Path) -> tuple[dict[str, object], str]:
    """Graft into every graph of a directory that holds a site; everything else there is copied."""
    from compacter_exporters.forms import Form
    from compacter_exporters.graft_set import graft_directory

    if is_optimised(args):
        report, data = graft_set_optimised(args, adapter)
        without = "no site"
    else:
        report = graft_directory(args.backbone, adapter, args.output, form=Form(args.form))
        data, without = report.as_dict(), "no site, copied"
    lines = [f"grafted {report.adapter} into the graphs of {args.backbone}: {args.output}"]
    lines += [f"  {name}: {_counts(one.forms)}" for name, one in report.graphs.items()]
    lines += [f"  {name}: {without}" for name in report.untouched]
    return data, "\n".join(lines)


def _counts(forms: Mapping[str, str]) -> str:
    kinds = ", ".join(f"{list(forms.values()).count(form)} {form}" for form in sorted({*forms.values()}))
    return f"{len(forms)} sites, {kinds}"


def is_set(path: Path) -> bool:
    """Whether `path` is a directory of several graphs that belong together, none of them called `model.onnx`."""
    return path.is_dir() and not (path / MODEL_FILE).exists() and any(path.glob("*.onnx"))


@contextmanager
def _adapter_file(args: argparse.Namespace) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """The adapter's file, with what there is to say about it: the user's, or a temporary one of an imported adapter.

    Raises:
        CompacterError: E001 if the options contradict each other, and what the importer raises.
    """
    if args.kind is None:
        foreign = [name for name in ("trained_on", "shared_parameters") if getattr(args, name) is not None]
        foreign += [name for name in ("allow_pickle", "without_head") if getattr(args, name)]
        if foreign:
            raise CompacterError(
                ErrorCode.E001,
                "options of an import without --from",
                value=foreign,
                remedy="Say what to import --from.",
            )
        yield args.adapter, ()
        return
    if args.trained_on is None:
        raise CompacterError(
            ErrorCode.E001,
            "an imported adapter finds its sites by the weights of the model it was trained on",
            expected="--trained-on DIR, the transformers checkpoint that the graph was exported from",
        )
    from compacter_core.format.writer import save_adapter

    imported = read_source(args.kind, args.adapter, args)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "adapter.safetensors"
        save_adapter(imported.adapter, path)
        yield path, imported.notes


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
