"""Every corruption of one byte and every truncation of a sample file: refused, or reported by the digest of the file.

A corrupted file that is not refused has the same tensors, by name, shape and type. What then differs is the values of
tensors; or the configuration, in one of the few keys where another byte makes another valid word (`FREE`). The
format has no checksum of its own: the digest that a user was given tells both.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from compacter_core.adapter import Adapter
from compacter_core.cli.main import main
from compacter_core.config import AdapterConfig, Projection, Site
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.config_json import config_to_json
from compacter_core.format.reader import load_adapter, load_content, load_with_bytes, parse_adapter
from compacter_core.format.writer import ADAPTER_FILE, adapter_bytes, digest, save_profile
from compacter_core.inspection import inspect_file
from compacter_core.vocabulary import Activation, ProjectionKind
from tests.format.builders import make_adapter, rejected

SMALL = adapter_bytes(
    replace(
        make_adapter(
            AdapterConfig(
                method="m",
                name="n",
                hidden_size=2,
                projection=Projection(kind=ProjectionKind.DENSE),
                sites=(Site(id="encoder.0.ffn", bottleneck_size=1),),
                non_linearity=Activation.RELU,
            )
        ),
        sketches={},
    )
)
"""About 900 bytes: every byte is replaced by every other one."""

RICH = adapter_bytes(make_adapter())
"""With sketches, overrides, a head with labels and a backbone: every bit of its header is flipped."""

FREE = {"method", "name", "non_linearity", "scaling", "training", "backbone", "head"}
"""Keys of the configuration that may differ in a file that is not refused: labels, words (`relu`, `gelu`) and numbers
that decide no tensor."""

SLICES = 8


@pytest.mark.spec("SEC-7", "SEC-13", "FMT-1")
@pytest.mark.parametrize("part", range(SLICES))
def test_every_byte_of_a_small_file_replaced_by_every_other_one(part: int) -> None:
    outcomes = corrupt(SMALL, dict.fromkeys(range(part, len(SMALL), SLICES), range(256)))
    assert outcomes["refused"] > outcomes["equal configuration"] > outcomes["other configuration"]


@pytest.mark.spec("SEC-7", "SEC-13")
@pytest.mark.parametrize("part", range(SLICES))
def test_every_flipped_bit_of_the_header_of_a_rich_file(part: int) -> None:
    end = 8 + int.from_bytes(RICH[:8], "little")
    corrupt(RICH, {position: [RICH[position] ^ 1 << bit for bit in range(8)] for position in range(part, end, SLICES)})


@pytest.mark.spec("FMT-1", "SEC-7")
def test_every_truncation_is_refused() -> None:
    for data in (SMALL, RICH):
        for size in range(len(data)):
            with rejected(ErrorCode.E101):
                parse_adapter(data[:size])


@pytest.mark.spec("FMT-14")
def test_every_appended_byte_is_refused() -> None:
    for byte in range(256):
        with rejected(ErrorCode.E105):
            parse_adapter(SMALL + bytes([byte]))


@pytest.mark.spec("SEC-13")
def test_the_digest_reports_a_changed_value_and_passes_the_file_itself(tmp_path: Path) -> None:
    changed = bytearray(SMALL)
    changed[-1] ^= 1
    file = tmp_path / "file"
    file.write_bytes(changed)
    assert load_adapter(file).config == parse_adapter(SMALL).config
    for load in (load_adapter, load_content, load_with_bytes, inspect_file):
        with rejected(ErrorCode.E113):
            load(file, expected_sha256=digest(SMALL))
    file.write_bytes(SMALL)
    for expected in (digest(SMALL), digest(SMALL).upper()):
        assert load_content(file, expected_sha256=expected).sha256 == digest(SMALL)
    save_profile(make_adapter(), tmp_path / "profile")
    expected = digest((tmp_path / "profile" / ADAPTER_FILE).read_bytes())
    assert load_adapter(tmp_path / "profile", expected_sha256=expected)


@pytest.mark.spec("SEC-13")
def test_the_digest_is_checked_before_the_values(tmp_path: Path) -> None:
    """A flipped bit may make a NaN; that the file is another one is the better news."""
    file = tmp_path / "file"
    file.write_bytes(SMALL[:-4] + b"\xff\xff\xff\xff")
    with rejected(ErrorCode.E306):
        load_adapter(file)
    with rejected(ErrorCode.E113):
        load_adapter(file, expected_sha256=digest(SMALL))


@pytest.mark.parametrize("expected", ["", "0" * 63, "0" * 65, "g" * 64, f"{'0' * 64}\n"])
def test_e001_no_digest(expected: str, tmp_path: Path) -> None:
    with rejected(ErrorCode.E001):
        load_adapter(tmp_path, expected_sha256=expected)


@pytest.mark.spec("SEC-13")
def test_inspect_checks_a_digest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.write_bytes(SMALL)
    assert main(["inspect", str(file), "--sha256", digest(SMALL), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sha256"] == digest(SMALL)
    assert main(["inspect", str(file), "--sha256", digest(RICH)]) == 2
    assert "E113" in capsys.readouterr().err


def corrupt(data: bytes, replacements: Mapping[int, Iterable[int]]) -> Counter[str]:
    """Replace bytes by the values at their position, one at a time, and check what comes of each.

    Returns how often each outcome was seen.
    """
    good, known, outcomes = parse_adapter(data), digest(data), Counter[str]()
    changed = bytearray(data)
    for position, values in replacements.items():
        for value in values:
            if value != data[position]:
                changed[position] = value
                assert digest(bytes(changed)) != known
                outcomes[outcome(bytes(changed), good)] += 1
        changed[position] = data[position]
    return outcomes


def outcome(data: bytes, good: Adapter) -> str:
    """How a corrupted file differs from the good one; anything but the outcomes of the module's text is an error."""
    try:
        adapter = parse_adapter(data)
    except CompacterError:
        return "refused"
    assert described(adapter) == described(good)
    ours, theirs = (json.loads(config_to_json(config)) for config in (adapter.config, good.config))
    different = {key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)}
    assert different <= FREE
    return "other configuration" if different else "equal configuration"


def described(adapter: Adapter) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and type of every tensor."""
    arrays = {**adapter.tensors, **adapter.sketches}
    return {name: (array.shape, f"{array.dtype} {adapter.dtype}") for name, array in arrays.items()}
