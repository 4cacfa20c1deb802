"""Adapter files that leave out what has a default: cases with numbers show who does not know the defaults (CFG-5)."""

import json
from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from compacter_core.adapter import DType
from compacter_core.config import Attach
from compacter_core.conformance.adapter_files import config_text, with_config_text
from compacter_core.conformance.case import Case
from compacter_core.conformance.generate.configurations import Choice, Rule, Scale
from compacter_core.conformance.generate.sparse import sparse_text
from compacter_core.conformance.implementation import Answer, Capabilities, Request
from compacter_core.conformance.implementations import create
from compacter_core.conformance.materialise import materialise
from compacter_core.conformance.report import Report
from compacter_core.conformance.runner import Selection, run_suite
from compacter_core.conformance.subject import InProcess
from compacter_core.conformance.suite import default_suite, load_suite
from compacter_core.conformance.words import ConformanceClass, Verdict
from compacter_core.format.config_json import config_from_json, config_to_json
from compacter_core.format.reader import parse_adapter
from compacter_core.vocabulary import Input, ProjectionKind

NUMBERS = frozenset(cls for cls in ConformanceClass if cls.has_numbers)
SUITE = load_suite(default_suite())
SPARSE = [case for case in SUITE.cases.values() if fnmatchcase(case.id, "*/defaults/*")]
REQUIRED = {"spec_version", "method", "name", "hidden_size", "projection", "sites"}

Change = Callable[[dict[str, Any]], None]


class Careless:
    """The reference, but for what it does to the configuration before it reads the file."""

    def __init__(self, change: Change) -> None:
        self._reference = create("reference")
        self._change = change

    def describe(self) -> Capabilities:
        """As the reference."""
        return self._reference.describe()

    def run(self, request: Request) -> Answer:
        """Answer the changed question."""
        path = request.files["adapter"]
        data = path.read_bytes()
        config = json.loads(config_text(data))
        self._change(config)
        path.write_bytes(with_config_text(data, json.dumps(config)))
        return self._reference.run(request)


def run(change: Change, scratch: Path, *patterns: str) -> Report:
    selection = Selection(dtypes=(DType.F32,), patterns=patterns)
    return run_suite(SUITE, InProcess(Careless(change)), scratch, selection=selection)


def bad(report: Report) -> set[str]:
    return {result.case for result in report.results if result.verdict is not Verdict.PASSED}


def test_whoever_requires_a_key_fails_in_every_class_with_numbers(tmp_path: Path) -> None:
    def require(config: dict[str, Any]) -> None:
        _ = config["non_linearity"], config["scaling"], config["attach"]["input"], config["projection"]["shared_W"]

    found = bad(run(require, tmp_path, "*/defaults/*", "*/exact/*", "sublayer/own-placement/*"))
    assert found == {case.id for case in SPARSE}
    assert {case.op.belongs_to for case in SPARSE} == NUMBERS


@pytest.mark.spec("CFG-5")
@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("projection.kind", "low_rank"), ("projection.kind", "phm"), ("projection.shared_phm_rule", True),
        ("projection.factorized_phm_rule", True), ("projection.shared_W", True), ("non_linearity", "gelu"),
        ("non_linearity", "relu"), ("non_linearity", "silu"), ("bias_down", False), ("bias_up", False),
        ("scaling", 0.5), ("scaling", "learned"), ("attach.input", "residual"), ("attach.input", "normed_sum"),
        ("attach.skip", "residual_sum"), ("attach.skip", "normed_sum"), ("attach.post", False),
    ],
)  # fmt: skip
def test_a_wrong_default_is_noticed(tmp_path: Path, key: str, wrong: object) -> None:
    def assume(config: dict[str, Any]) -> None:
        outer, _, inner = key.rpartition(".")
        place = config.setdefault(outer, {}) if outer else config
        place.setdefault(inner, wrong)
        if key == "attach.skip":
            place.setdefault("post", False)

    assert bad(run(assume, tmp_path, "*/defaults/*"))


def test_a_site_without_keys_is_no_site_without_attach(tmp_path: Path) -> None:
    def drop(config: dict[str, Any]) -> None:
        for site in config["sites"]:
            if site.get("attach") == {}:
                del site["attach"]

    assert bad(run(drop, tmp_path, "*/defaults/*")) == {"sublayer/defaults/own-attach"}


@pytest.mark.parametrize("case", SPARSE, ids=lambda case: case.id)
@pytest.mark.parametrize("dtype", DType)
@pytest.mark.spec("CNF-3")
def test_a_cast_adapter_keeps_the_text_of_its_configuration(tmp_path: Path, case: Case, dtype: DType) -> None:
    data = SUITE.files[case.files["adapter"]]
    request = materialise(SUITE, case, dtype, scratch=tmp_path, prefix="0")
    sent = request.files["adapter"].read_bytes()
    assert config_text(sent) == config_text(data)
    assert parse_adapter(sent).dtype is dtype
    assert set(json.loads(config_text(data))) - {"attach"} == REQUIRED - {"attach"}


@pytest.mark.parametrize("kind", ProjectionKind)
def test_the_shortest_text_has_the_same_meaning(kind: ProjectionKind) -> None:
    rule = Rule.SHARED if kind.has_rule else Rule.NONE
    config = Choice(kind=kind, rule=rule, scale=Scale.NUMBER).config(attach=Attach(input=Input.RESIDUAL))
    for meant in (
        config,
        replace(config, extensions={"a": {"must_understand": False}}),
    ):
        assert config_from_json(sparse_text(meant)) == meant
        assert len(sparse_text(meant)) < len(config_to_json(meant))
