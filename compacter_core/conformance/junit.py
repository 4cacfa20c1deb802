"""A report as JUnit XML, which CI services show."""

import re
from typing import Final
from xml.etree import ElementTree

from compacter_core.conformance.report import Report, Result, Row
from compacter_core.conformance.words import Verdict

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ELEMENTS: Final = {
    Verdict.FAILED: "failure",
    Verdict.XPASSED: "failure",
    Verdict.ERROR: "error",
    Verdict.SKIPPED: "skipped",
    Verdict.XFAILED: "skipped",
}


def junit_bytes(report: Report) -> bytes:
    """The report as XML: a test suite for each class and type, a test case for each case."""
    root = ElementTree.Element("testsuites", _totals(report.results) | {"name": _clean(report.capabilities.name)})
    for row in report.rows:
        suite = ElementTree.SubElement(root, "testsuite", _totals(row.results) | {"name": row.name})
        suite.set("timestamp", report.started)
        for result in row.results:
            _add(suite, row, result)
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _totals(results: list[Result] | tuple[Result, ...]) -> dict[str, str]:
    elements = [_ELEMENTS.get(result.verdict) for result in results]
    return {
        "tests": str(len(results)),
        "failures": str(elements.count("failure")),
        "errors": str(elements.count("error")),
        "skipped": str(elements.count("skipped")),
        "time": f"{sum(result.seconds for result in results):.6f}",
    }


def _add(suite: ElementTree.Element, row: Row, result: Result) -> None:
    name = result.case if result.dtype is None else f"{result.case}[{result.dtype.value}]"
    attributes = {"classname": f"{row.cls.value}.{result.op.value}", "name": name, "time": f"{result.seconds:.6f}"}
    case = ElementTree.SubElement(suite, "testcase", attributes)
    element = _ELEMENTS.get(result.verdict)
    if element is not None:
        detail = _clean(result.text or result.verdict.value)
        inner = ElementTree.SubElement(case, element, {"message": detail.splitlines()[0], "type": result.verdict.value})
        inner.text = detail


def _clean(text: str) -> str:
    """Without the characters that XML 1.0 cannot hold, even escaped."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
