"""What the page says about results."""

from dataclasses import replace

from tests.export_matrix.causes import causes, reason
from tests.export_matrix.cells import Cell, Outcome
from tests.export_matrix.linkages import BACKBONE
from tests.export_matrix.results import Results
from tests.export_matrix.summary import summary, totals, trained
from tests.export_matrix.table import as_markdown

MERGED = "merged fold"
DONE = Outcome(within=True, ratio=0.25, error=1e-6, difference=1e-6, agreement=1.0, fused=9, own=9)
BARE = Outcome(difference=1e-6, agreement=1.0, fused=9, own=9)
COARSE = Outcome(refused="E605", why="the weight of /layer.0/MatMul is too coarse")
LABELLED = replace(DONE, accuracy=0.7, torch_accuracy=0.75, agreement=0.9, difference=0.12)


def of(*outcomes: Outcome, linkage: str = MERGED) -> Results:
    """Cells of as many backbones."""
    return {Cell(f"backbone {i}", "one", "fp32", linkage): one for i, one in enumerate(outcomes)}


def test_every_cell_is_shown() -> None:
    text = as_markdown(
        {
            Cell("bert", "one", "fp32", BACKBONE): BARE,
            Cell("bert", "one", "fp32", MERGED): replace(DONE, fused=8, lost={"BiasGelu": 1}),
            Cell("bert", "two", "fp32", MERGED): Outcome(refused="E604", why="a reason"),
            Cell("bert", "two", "int8", MERGED): replace(DONE, same_tokens=False, agreement=0.5),
        }
    )
    assert "| bert | one | 1e-06, 9 | 0.25 (1e-06), 1e-06, 8 of 9 |" in text
    assert "| bert | two | - | E604 |" in text
    assert "| bert | two | 0.25 (1e-06), 1e-06 50%, ≠, 9 |" in text
    assert "| E604 | a reason | 1 | bert | two | fp32 | merged fold |" in text


def test_backbones_are_summed_up() -> None:
    assert "| one | 2/2, 0.75, = |" in summary(of(DONE, replace(DONE, ratio=0.75)))
    assert "| one | 1/2 (1 refused), 0.25, = |" in summary(of(DONE, COARSE))
    assert "| one | 0/2 (1 failed, 1 outside), 3.00, ≠ 1 |" in summary(
        of(replace(DONE, within=False, ratio=3.0, lost={"BiasGelu": 1}), Outcome(failed="ValueError", why="no"))
    )
    assert "| one | 1/1 |" in summary(of(BARE, linkage=BACKBONE))


def test_totals_tell_failures_of_others_from_those_of_this_project() -> None:
    theirs = Outcome(failed="Fail", why="no", is_theirs=True)
    text = totals(
        of(DONE, DONE, replace(DONE, within=False, ratio=2.0), COARSE, theirs, replace(theirs, is_theirs=False))
    )
    assert text.startswith("6 cells. 2 of 3 models")
    assert "up to 2.00 of a bound; 1 cells are refused, 1 fail in other tools" in text
    assert text.endswith("1 fail otherwise.")


def test_labelled_rows_have_a_table_of_their_own() -> None:
    bare = Cell("real", "one", "fp32", BACKBONE)
    text = trained({Cell("real", "one", "fp32", MERGED): LABELLED, bare: BARE} | of(DONE))
    assert "| precision | exporter | backbone | merged fold (0.750) |" in text
    assert "| fp32 | one | 100.0%, 1e-06 | 0.700, 90.0%, 1e-01 |" in text
    assert trained(of(DONE)) == ""


def test_equal_reasons_are_told_once() -> None:
    other = replace(COARSE, why="the weight of node_MatMul_7 is too coarse")
    lost = replace(DONE, lost={"BiasGelu": 2})
    failed = Outcome(failed="Fail", why="no")
    text = causes(of(COARSE, other, lost, failed, replace(failed, is_theirs=True)))
    assert "| E605 | the weight of … is too coarse | 2 | backbone 0; backbone 1 |" in text
    assert "| BiasGelu | 1 | backbone 2 |" in text
    assert (
        text.index("| Fail | no | 1 | backbone 4 |")
        < text.index("## Failed\n")
        < text.index("| Fail | no | 1 | backbone 3 |")
    )
    assert causes(of(DONE)) == ""


def test_reasons_are_short() -> None:
    assert reason("site encoder.0.ffn of /a/b c_1 is not there") == "site … of … is not there"
    assert len(reason("word " * 100)) < 170
