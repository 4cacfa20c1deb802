"""What `compacter run` does with a model that writes text."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from compacter_core.cli.texts import Item
from compacter_core.errors import CompacterError, ErrorCode

if TYPE_CHECKING:
    from compacter_runtime.choosing import AdapterChoice
    from compacter_runtime.generator import Generator, Written

MAX_NEW_TOKENS = 20


def add_writing_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that are only for models that write."""
    parser.add_argument(
        "--max-new-tokens",
        type=int,
        metavar="N",
        help=f"for a model that writes: at most so many tokens after each text (default: {MAX_NEW_TOKENS})",
    )


def write_rows(generator: "Generator", items: Sequence[Item], args: argparse.Namespace) -> list[dict[str, object]]:
    """What the model writes after each text, in batches of the texts' order.

    Raises:
        CompacterError: E001 for an option that is not for such models, and a batch size below one; as
            `Generator.written`.
    """
    if args.arrays is not None:
        raise CompacterError(ErrorCode.E001, "--arrays is for models that do not write", value=str(args.arrays))
    if args.batch_size < 1:
        raise CompacterError(ErrorCode.E001, "batch_size", value=args.batch_size, expected="at least 1")
    adapter = _adapter(generator, args.adapter)
    count = MAX_NEW_TOKENS if args.max_new_tokens is None else args.max_new_tokens
    rows = []
    for batch in _batches(items, args.batch_size):
        texts = [item.model_input for item in batch]
        written = generator.written(texts, adapter=adapter, max_new_tokens=count)
        rows += [_row(item, one) for item, one in zip(batch, written, strict=True)]
    return rows


def refuse_writing_options(args: argparse.Namespace) -> None:
    """Refuse options of models that write, for one that does not.

    Raises:
        CompacterError: E001.
    """
    if args.max_new_tokens is not None:
        raise CompacterError(
            ErrorCode.E001,
            "--max-new-tokens is for models that write, and this one gives labels or arrays",
            value=args.max_new_tokens,
            expected="a decoder that was exported with its cache, or an encoder with its decoders",
        )


def line(row: dict[str, object]) -> str:
    """What was written, in one line."""
    return " ".join(str(row["written"]).split())


def _adapter(generator: "Generator", source: str | None) -> "AdapterChoice":
    """What to run with: for a bank the name under which the adapter was added to it."""
    if source is None:
        return None
    return generator.adapters.add(source) if generator.adapters.banks else generator.load_adapter(source)


def _batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    from tqdm import tqdm

    starts = range(0, len(items), size)
    for start in tqdm(starts, unit="batch", delay=2.0, leave=False, disable=not sys.stderr.isatty()):
        yield items[start : start + size]


def _row(item: Item, written: "Written") -> dict[str, object]:
    return {**item.as_dict(), "written": written.text, "tokens": list(written.tokens)}
