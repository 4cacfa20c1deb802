"""Which statements of the specification the cases about files test."""

from collections.abc import Mapping
from typing import Final

KINDS: Final = ("FMT-19", "FMT-20", "FMT-22", "CFG-5", "CFG-7", "CFG-8", "FWD-9", "FWD-10")
CONFIGURATION: Final = ("CFG-3", "CFG-4", "CFG-5", "CFG-9", "FMT-19", "FMT-22")
WORDS: Final = ("CFG-11",)
PLACEMENTS: Final = ("PLC-6", "PLC-7")
TYPES: Final = ("FMT-10", "FMT-13", "FMT-23", "FMT-24", "SKT-2", "CNV-4")
SKETCHES: Final = ("SKT-2", "SKT-3", "SKT-4")
TEXTS: Final = ("CFG-1", "CFG-2")
CONTAINER: Final = ("FMT-1", "FMT-3", "FMT-14")
NAMES: Final = ("FMT-7", "FMT-8")
VERSIONS: Final = ("VER-1", "VER-3")
LIMITS: Final = ("SEC-2", "SEC-7")
PROFILE: Final = ("FMT-35",)

BY_CODE: Final[Mapping[str, tuple[str, ...]]] = {
    "E101": ("FMT-1",),
    "E102": ("FMT-2", "SEC-1"),
    "E103": ("FMT-3",),
    "E104": ("FMT-5",),
    "E105": ("FMT-14",),
    "E106": ("FMT-13",),
    "E107": ("FMT-11",),
    "E108": ("FMT-7",),
    "E109": ("FMT-8", "SEC-6"),
    "E110": ("FMT-10",),
    "E111": ("FMT-9",),
    "E112": ("FMT-15", "SEC-5"),
    "E201": ("FMT-16",),
    "E202": ("CFG-1",),
    "E203": ("CFG-4",),
    "E204": ("VER-1",),
    "E205": ("CFG-3", "VER-6"),
    "E206": ("FMT-35",),
    "E207": ("CFG-10",),
    "E208": ("CFG-9",),
    "E209": ("CFG-11",),
    "E210": ("PLC-6",),
    "E211": ("CFG-12",),
    "E301": ("FMT-19",),
    "E302": ("FMT-19",),
    "E303": ("FMT-20",),
    "E304": ("FMT-22",),
    "E305": ("FMT-23",),
    "E306": ("FMT-24",),
    "E307": ("FMT-25",),
    "E308": ("FMT-21",),
    "E309": ("FMT-26", "SEC-3"),
    "E401": ("SKT-7",),
    "E402": ("SKT-8",),
    "E403": ("SKT-9", "SKT-5"),
    "E404": ("SKT-10",),
    "E405": ("SKT-11",),
}
"""The statements behind each code, where a case does not say which ones it tests."""
