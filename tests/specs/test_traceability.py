"""Every statement is tested, every citation is of a statement, and documents agree with each other and the code."""

import re
from collections import Counter
from pathlib import Path

import pytest

from compacter_core.errors import ErrorCode
from tests.specs.citations import Citation, cases, cited_by_cases, cited_by_tests, codes_in_tests
from tests.specs.documents import (
    ROOT,
    SPECS,
    STATEMENT_ID,
    Statement,
    anchors,
    documents,
    links,
    section,
    statements,
    tables,
)

VECTORS = SPECS / "vectors"
TESTS = ROOT / "tests"
TEXTS = documents()
STATEMENTS = statements(TEXTS)
KNOWN = {statement.id for statement in STATEMENTS}

FILE_CODES = re.compile(r"E[1-4][0-9]{2}|E60[1-4]")


def uncited(stated: set[str], citations: set[str]) -> list[str]:
    """Statements that nobody cites."""
    return sorted(stated - citations, key=lambda statement: (statement[:3], int(statement[4:])))


def code_table(heading: str) -> dict[str, list[str]]:
    """The table of codes under a heading of errors.md: code to the other cells of its row."""
    (table,) = tables(section(TEXTS["errors.md"], heading))
    return {row[0]: row[1:] for row in table[1:]}


FORMAT_CODES = {
    code: cells
    for heading in ("Container", "Configuration", "Tensors", "Backbone", "ONNX")
    for code, cells in code_table(heading).items()
}
APPLICATION_CODES = code_table("Applications") | code_table("Importers")


def test_ids_are_unique_and_without_gaps() -> None:
    counts = Counter(statement.id for statement in STATEMENTS)
    assert [name for name, count in counts.items() if count > 1] == []
    for prefix in {statement.prefix for statement in STATEMENTS}:
        numbers = sorted(statement.number for statement in STATEMENTS if statement.prefix == prefix)
        assert numbers == list(range(1, len(numbers) + 1)), prefix


def test_each_prefix_has_one_document_and_the_index_lists_it() -> None:
    index: dict[str, str] = {}
    for row in next(tables(TEXTS["README.md"]))[1:]:
        (target,) = links(row[0])
        index |= dict.fromkeys(row[1].split(", "), target)
    assert {(statement.prefix, statement.document) for statement in STATEMENTS} == set(index.items())


def test_every_statement_is_cited() -> None:
    cited = {citation.statement for citation in (*cited_by_cases(VECTORS), *cited_by_tests(TESTS))}
    missing = uncited(KNOWN, cited)
    assert missing == [], f"{len(missing)} statements that no case and no test cites"


def test_every_citation_is_of_a_statement() -> None:
    citations = [*cited_by_cases(VECTORS), *cited_by_tests(TESTS)]
    assert [citation for citation in citations if citation.statement not in KNOWN] == []


@pytest.mark.spec("CNF-2")
def test_every_case_cites_a_statement() -> None:
    assert [case["id"] for case in cases(VECTORS) if not case["statements"]] == []


@pytest.mark.parametrize("folder", ["compacter_core", "exporters", "runtime", "tests", "examples", "specs", "docs"])
def test_statements_and_documents_that_are_mentioned_exist(folder: str) -> None:
    wrong = []
    allowed = KNOWN | {"FWD-999"}  # the one that tests take for an unknown statement
    for path in sorted((ROOT / folder).rglob("*")):
        if path.suffix not in (".py", ".md", ".js", ".mjs") or path.is_relative_to(TESTS / "specs"):
            continue
        text = path.read_text(encoding="utf-8")
        wrong += [(path.name, match.group()) for match in STATEMENT_ID.finditer(text) if match.group() not in allowed]
        mentioned = re.findall(r"\bspecs/[\w.-]+\.md\b", text)
        wrong += [(path.name, name) for name in mentioned if not (ROOT / name).is_file()]
    assert wrong == []


@pytest.mark.parametrize("name", TEXTS)
def test_links_resolve(name: str) -> None:
    for target in links(TEXTS[name]):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = SPECS / path if path else SPECS / name
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), target


def test_files_that_documents_name_exist() -> None:
    named = {path for text in TEXTS.values() for path in re.findall(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|json|md))`", text)}
    assert named
    assert [path for path in sorted(named) if not (ROOT / path).is_file() and not (SPECS / path).is_file()] == []


@pytest.mark.spec("ERR-2", "ERR-5")
def test_the_tables_of_codes_are_those_of_the_code() -> None:
    documented = {code: cells[0] for code, cells in (FORMAT_CODES | APPLICATION_CODES).items()}
    assert documented == {code.name: code.value for code in ErrorCode}


def test_every_code_names_the_rules_that_it_stands_for() -> None:
    named = {code: set(cells[1].split(", ")) for code, cells in FORMAT_CODES.items()}
    stated: dict[str, set[str]] = {code: set() for code in FORMAT_CODES}
    for statement in STATEMENTS:
        for code in statement.codes:
            stated[code].add(statement.id)
    assert named == stated


@pytest.mark.spec("ERR-3")
def test_every_file_code_has_a_case() -> None:
    assert {code for code in FORMAT_CODES if FILE_CODES.fullmatch(code)} == set(FORMAT_CODES)
    expected = {case["expect"]["code"] for case in cases(VECTORS) if "code" in case["expect"]}
    assert sorted(set(FORMAT_CODES) - expected) == []
    assert sorted(expected - set(FORMAT_CODES)) == [], "codes of applications in the suite"


def test_every_code_of_applications_is_tested() -> None:
    assert sorted(set(APPLICATION_CODES) - codes_in_tests(TESTS)) == []


class TestTheCheckItself:
    """The check can fail."""

    def test_statements_are_found_with_their_whole_text(self) -> None:
        text = (
            "Text [FWD-9].\n\n- **[FWD-1]** One [E301].\n"
            "- **[FWD-2]** Two,\n  indented [E302; x: E303]:\n\n      more\n\nEnd [E304].\n"
        )
        assert statements({"a.md": text}) == [
            Statement("FWD-1", "One [E301].", "a.md"),
            Statement("FWD-2", "Two,\n  indented [E302; x: E303]:\n\n      more", "a.md"),
        ]
        assert [statement.codes for statement in statements({"a.md": text})] == [{"E301"}, {"E302", "E303"}]

    def test_markers_are_found_wherever_they_stand(self, tmp_path: Path) -> None:
        (tmp_path / "inner").mkdir()
        (tmp_path / "inner" / "test_a.py").write_text(
            'import pytest\npytestmark = pytest.mark.spec("FWD-1")\n'
            '@pytest.mark.spec("FWD-2", NAME)\nclass TestX:\n  @pytest.mark.spec("FWD-3")\n  def test_y(self): ...\n',
            encoding="utf-8",
        )
        assert list(cited_by_tests(tmp_path)) == [
            Citation("FWD-1", "inner/test_a.py:2"),
            Citation("FWD-2", "inner/test_a.py:3"),
            Citation("NAME", "inner/test_a.py:3"),
            Citation("FWD-3", "inner/test_a.py:5"),
        ]

    def test_what_nobody_cites_is_listed_in_order(self) -> None:
        assert uncited({"FWD-10", "FWD-2", "CNV-1", "FWD-3"}, {"FWD-3", "FWD-4"}) == ["CNV-1", "FWD-2", "FWD-10"]

    def test_anchors_are_githubs(self) -> None:
        assert anchors("# One, two: `three_four`\n## A-b\n```\n# no heading\n```\n") == {"one-two-three_four", "a-b"}

    def test_tables_and_sections(self) -> None:
        text = "# A\n\n| x | y |\n| --- | --- |\n| 1 | \\|2\\| |\n\n## B\ntext\n# C\nend"
        assert list(tables(text)) == [[["x", "y"], ["1", "|2|"]]]
        assert section(text, "B") == "\ntext\n"
        assert section(text, "A").endswith("## B\ntext\n")
