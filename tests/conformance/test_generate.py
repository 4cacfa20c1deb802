"""The parts of the generator: randomness, choices, redraws, and the writing and checking of suites."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compacter_core.adapter import DType
from compacter_core.conformance.generate import suite as generator
from compacter_core.conformance.generate.builder import Builder
from compacter_core.conformance.generate.configurations import Biases, Choice, Rule, Scale, Sizes, pairwise
from compacter_core.conformance.generate.forward import plan, rounded
from compacter_core.conformance.generate.forward_exact import integers
from compacter_core.conformance.generate.numeric import Plan, add
from compacter_core.conformance.generate.questions import Forward
from compacter_core.conformance.generate.source import Source, split_mix
from compacter_core.conformance.suite import load_suite
from compacter_core.conformance.words import Flag
from compacter_core.errors import CompacterError
from compacter_core.format.codec import round_to
from compacter_core.vocabulary import Activation, ProjectionKind

COMPACTER = Choice(kind=ProjectionKind.LPHM, rule=Rule.SHARED)
DENSE = Choice(kind=ProjectionKind.DENSE, rule=Rule.NONE, activation=Activation.IDENTITY)


def test_split_mix_gives_its_published_values() -> None:
    state, values = 0, []
    for _ in range(3):
        state, value = split_mix(state)
        values.append(value)
    assert values == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_sources_depend_on_their_name_alone() -> None:
    first, again, other = (Source(name).dyadic((64,)) for name in ("a", "a", "b"))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.spec("CNF-3")
@given(name=st.text(max_size=4), exponent=st.integers(-6, 6))
def test_drawn_values_are_exact_in_every_type(name: str, exponent: int) -> None:
    values = Source(name).dyadic((16,), exponent)
    assert (values != 0).all()
    assert (np.abs(values) < 2.0 ** (exponent + 1)).all()
    for dtype in DType:
        np.testing.assert_array_equal(round_to(values, dtype).astype(np.float64), values)


def test_integers_are_of_the_asked_values() -> None:
    assert set(Source("").integers((200,), (-2, 5))) == {-2.0, 5.0}


def test_every_pair_of_choices_occurs() -> None:
    chosen = pairwise()
    settings: tuple[tuple[Callable[[Choice], object], set[object]], ...] = (
        (lambda c: (c.kind, c.rule), {(c.kind, c.rule) for c in chosen}),
        (lambda c: c.shared_W, {False, True}),
        (lambda c: c.biases, set(Biases)),
        (lambda c: c.scale, set(Scale)),
        (lambda c: c.activation, set(Activation)),
    )
    assert len(settings[0][1]) == 2 + 2 * 4
    for (one, values), (other, others) in combinations(settings, 2):
        assert {(one(c), other(c)) for c in chosen} == set(product(values, others))
    assert len({choice.words for choice in chosen}) == len(chosen)


def test_a_case_that_cannot_notice_is_refused() -> None:
    """With A = 0, no mistake about A shows."""
    config = COMPACTER.config()

    def blind(source: Source) -> Forward:
        question = rounded(config)(source)
        tensors = {**question.adapter.tensors, "shared.phm_rule": np.zeros((2, 2, 2), np.float32)}
        return replace(question, adapter=replace(question.adapter, tensors=tensors))

    with pytest.raises(CompacterError, match=r"E801.*rule-transposed"):
        add(Builder(), plan("forward/blind", config), blind)


def test_values_are_drawn_again_until_the_case_notices() -> None:
    """The first draws have bd = 0, which hides a missing bd."""
    config = DENSE.config(Sizes(d=4, k=2))
    draws = []

    def poor_at_first(source: Source) -> Forward:
        question = integers(config)(source)
        draws.append(source)
        if len(draws) > 2:
            return question
        tensors = {name: array * (not name.endswith("down.b")) for name, array in question.adapter.tensors.items()}
        return replace(question, adapter=replace(question.adapter, tensors=tensors))

    builder = Builder()
    add(builder, plan("forward/poor", config, flags=frozenset({Flag.EXACT})), poor_at_first)
    assert len(draws) == 3
    assert [case.id for case in builder.cases] == ["forward/poor"]


def test_exact_cases_keep_within_the_integers_of_bfloat16() -> None:
    config = DENSE.config(Sizes(d=4, k=2))
    case = Plan(id="forward/wide", statements=(), flags=frozenset({Flag.EXACT}), notices=False)

    def wide(source: Source) -> Forward:
        question = integers(config)(source)
        return replace(question, x=question.x * 64)

    with pytest.raises(CompacterError, match="a sum of magnitudes"):
        add(Builder(), case, wide)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A generator of one case."""

    def part(builder: Builder) -> None:
        config = DENSE.config(Sizes(d=4, k=2))
        add(builder, plan("forward/only", config, flags=frozenset({Flag.EXACT})), integers(config))

    monkeypatch.setattr(generator, "PARTS", (part,))


@pytest.mark.spec("CNF-1")
@pytest.mark.usefixtures("small")
def test_a_suite_is_written_and_found_up_to_date(tmp_path: Path) -> None:
    target = tmp_path / "vectors"
    assert generator.generate(target, check=False) == []
    assert list(load_suite(target).cases) == ["forward/only"]
    assert generator.generate(target, check=True) == []
    assert [path.name for path in tmp_path.iterdir()] == ["vectors"]


@pytest.mark.usefixtures("small")
def test_check_names_every_difference_and_writes_nothing(tmp_path: Path) -> None:
    target = tmp_path / "vectors"
    generator.generate(target, check=False)
    names = sorted(path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file())
    adapter, expected = (name for name in names if "adapter" in name or "expected" in name)
    (target / adapter).unlink()
    (target / expected).write_bytes(b"other")
    (target / "stray").write_bytes(b"")
    before = {path: path.read_bytes() for path in target.rglob("*") if path.is_file()}
    assert generator.generate(target, check=True) == sorted([adapter, expected, "stray"])
    assert {path: path.read_bytes() for path in target.rglob("*") if path.is_file()} == before
    assert generator.generate(tmp_path / "absent", check=True) == names


@pytest.mark.usefixtures("small")
def test_writing_replaces_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "vectors"
    target.mkdir()
    (target / "stray").write_bytes(b"")
    generator.generate(target, check=False)
    assert generator.generate(target, check=True) == []


@pytest.mark.usefixtures("small")
def test_what_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CompacterError, match="E006"):
        generator.generate(tmp_path / "file" / "vectors", check=False)


@pytest.mark.usefixtures("small")
def test_progress_goes_to_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator.generate(tmp_path / "vectors", check=False)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "1/1 parts, 1 cases" in captured.err
