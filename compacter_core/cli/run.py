"""`compacter run`: labels, or raw outputs, of a model on texts, or what it writes after them."""

import argparse
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compacter_core.cli.command import Outcome, needs, new_parser
from compacter_core.cli.texts import Item, read_items
from compacter_core.cli.writing import add_writing_options, line, refuse_writing_options, write_rows

if TYPE_CHECKING:
    from compacter_core.cli.command import Subparsers
    from compacter_runtime import Generator, Prediction, Session

_EXAMPLES = """
compacter run merged "My card has not arrived." "What is the exchange rate?"
compacter run merged/model.onnx --input validation.jsonl --output predictions.jsonl
compacter run merged --input reviews.txt --provider cuda --batch-size 128 --json
compacter run swappable --input reviews.txt --adapter reviews.onnx_adapter
compacter run backbone --input texts.txt --arrays embeddings.npz
compacter run t5-merged "translate English to German: Good morning." --max-new-tokens 40
compacter run gpt2-swappable --input prompts.txt --adapter stories --output stories.jsonl
"""


def add_parser(subparsers: "Subparsers") -> None:
    """Add the command."""
    parser = new_parser(
        subparsers, "run", run, summary="Classify texts with an ONNX model, or let it write on", examples=_EXAMPLES
    )
    parser.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help="an .onnx file, or a directory with model.onnx or with an encoder and its decoders",
    )
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="texts (default: lines of standard input)")
    parser.add_argument(
        "--input",
        metavar="FILE",
        help="JSONL, CSV or TSV with text, text_pair? and label?; any other file has one text per line; - is stdin. "
        "Where every row has a label, the accuracy is given",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="write the predictions, or the texts, to this file, as JSONL"
    )
    parser.add_argument("--arrays", type=Path, metavar="FILE", help="write the model's outputs instead, as .npz")
    parser.add_argument(
        "--adapter",
        metavar="FILE",
        help="for a swappable model an .onnx_adapter file, and for it and for a bank an adapter file or its directory "
        "(default: the backbone alone)",
    )
    parser.add_argument(
        "--provider", action="append", metavar="NAME", help="cuda, cpu, …; may be repeated, in order of preference"
    )
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="rows per batch (default: %(default)s)")
    parser.add_argument("--threads", type=int, metavar="N", help="threads within an operation (default: all cores)")
    add_writing_options(parser)


def run(args: argparse.Namespace) -> Outcome:
    """Run the model over the texts."""
    with needs("cpu"):
        from compacter_runtime import Generator
        from compacter_runtime.opening import open_model

    items = read_items(args.texts, args.input)
    model = open_model(args.model, providers=args.provider, intra_op_threads=args.threads)
    if isinstance(model, Generator):
        return _run_generator(model, items, args)
    refuse_writing_options(args)
    return _run_session(model, items, args)


def _run_generator(generator: "Generator", items: Sequence[Item], args: argparse.Namespace) -> Outcome:
    rows = write_rows(generator, items, args)
    summary: dict[str, object] = {"rows": len(rows), "providers": list(generator.providers)}
    if args.output is None:
        return Outcome({"texts": rows} | summary, "\n".join(map(line, rows)))
    _save(rows, args.output)
    return Outcome({"output": str(args.output)} | summary, f"wrote {len(rows):,} texts to {args.output}")


def _run_session(session: "Session", items: Sequence[Item], args: argparse.Namespace) -> Outcome:
    if args.arrays is not None:
        return _run_arrays(session, items, args)
    inputs = [item.model_input for item in items]
    adapter = _adapter(session, args)
    predictions = session.classify(inputs, adapter=adapter, batch_size=args.batch_size, progress=sys.stderr.isatty())
    rows = [_row(item, prediction) for item, prediction in zip(items, predictions, strict=True)]
    summary = {"rows": len(rows), "providers": list(session.providers)} | _accuracy(items, predictions)
    if args.output is None:
        return Outcome({"predictions": rows} | summary, "\n".join([*map(_line, rows), *_accuracy_lines(summary)]))

    _save(rows, args.output)
    written = f"wrote {len(rows):,} predictions to {args.output}"
    return Outcome({"output": str(args.output)} | summary, "\n".join([written, *_accuracy_lines(summary)]))


def _save(rows: Sequence[Mapping[str, object]], path: Path) -> None:
    from compacter_core.format.atomic import atomic_write

    atomic_write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())


def _run_arrays(session: "Session", items: Sequence[Item], args: argparse.Namespace) -> Outcome:
    import numpy as np

    from compacter_core.format.atomic import atomic_write

    inputs = [item.model_input for item in items]
    adapter = _adapter(session, args)
    outputs = session.run(inputs, adapter=adapter, batch_size=args.batch_size, progress=sys.stderr.isatty())
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **outputs)
    atomic_write(args.arrays, buffer.getvalue())
    shapes = {name: list(array.shape) for name, array in outputs.items()}
    return Outcome({"arrays": str(args.arrays), "shapes": shapes}, f"wrote {args.arrays}: {shapes}")


def _adapter(session: "Session", args: argparse.Namespace) -> str | None:
    """What to run with: for a bank the name under which the adapter was added to it."""
    source: str | None = args.adapter
    return source if source is None or not session.has_bank else session.bank.add(source)


def _row(item: Item, prediction: "Prediction") -> dict[str, object]:
    return item.as_dict() | {"label": prediction.label, "score": prediction.score, "index": prediction.index}


def _line(row: Mapping[str, object]) -> str:
    texts = (str(row[key]) for key in ("text", "text_pair") if key in row)
    return "\t".join([str(row["label"]), f"{row['score']:.4f}", *(" ".join(text.split()) for text in texts)])


def _accuracy(items: Sequence[Item], predictions: Sequence["Prediction"]) -> dict[str, object]:
    """Share of right predictions, if every item says what is right."""
    if not items or any(item.label is None for item in items):
        return {}
    right = sum(item.label == prediction.label for item, prediction in zip(items, predictions, strict=True))
    return {"accuracy": right / len(items), "right": right}


def _accuracy_lines(summary: Mapping[str, object]) -> list[str]:
    if "accuracy" not in summary:
        return []
    return [f"accuracy {summary['accuracy']:.4f} ({summary['right']} of {summary['rows']})"]
