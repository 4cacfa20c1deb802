"""Pieces of markdown."""

from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a bar within a cell is written so that it stays one."""
    lines = [list(header), ["---"] * len(header), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def section(title: str, *parts: str, level: int = 2) -> str:
    """A heading and what stands under it; nothing where nothing does."""
    filled = [part for part in parts if part]
    return "\n\n".join((f"{'#' * level} {title}", *filled)) if filled else ""


def in_order(order: Iterable[str], values: Iterable[str]) -> list[str]:
    """Those of some values that there are, as they are ordered; others behind them."""
    there = set(values)
    known = [value for value in order if value in there]
    return [*known, *sorted(there.difference(known))]
