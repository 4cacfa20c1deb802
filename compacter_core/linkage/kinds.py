"""The finite choice of linkages. It stands apart since naming them needs no package at all."""

from enum import StrEnum


class Linkage(StrEnum):
    """How a graph and its adapters come together.

    merged: one adapter inside the graph; swappable: one at a time, given with a run; bank: one per row of the batch.
    """

    MERGED = "merged"
    SWAPPABLE = "swappable"
    BANK = "bank"
