"""Two reports side by side: which verdicts changed, and which errors came closer to their bounds."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from compacter_core.conformance.report import REPORT_VERSION
from compacter_core.conformance.words import Verdict
from compacter_core.errors import CompacterError, ErrorCode

_BADNESS: Final = {
    Verdict.PASSED: 0,
    Verdict.XFAILED: 1,
    Verdict.SKIPPED: 1,
    Verdict.XPASSED: 2,
    Verdict.FAILED: 2,
    Verdict.ERROR: 3,
}
_SHOWN_RATIOS: Final = 10


@dataclass(frozen=True, slots=True)
class Difference:
    """One case in one type in two reports; None stands for a report without it."""

    case: str
    dtype: str | None
    before: Verdict | None
    after: Verdict | None
    ratio_before: float | None
    ratio_after: float | None

    @property
    def is_worse(self) -> bool:
        """Whether a verdict is worse, or a case that passed is gone."""
        if self.before is None:
            return False
        if self.after is None:
            return self.before is Verdict.PASSED
        return _BADNESS[self.after] > _BADNESS[self.before]

    @property
    def name(self) -> str:
        """Case and type."""
        return self.case if self.dtype is None else f"{self.case} [{self.dtype}]"

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "case": self.case,
            "dtype": self.dtype,
            "before": self.before,
            "after": self.after,
            "worst_ratio_before": self.ratio_before,
            "worst_ratio_after": self.ratio_after,
            "worse": self.is_worse,
        }


@dataclass(frozen=True, slots=True)
class Diff:
    """What differs.

    Args:
        same_suite: whether both reports are about one suite.
        verdicts: other verdicts, and cases that only one report has.
        ratios: other ratios of error to bound where both passed, the largest increase first.
    """

    same_suite: bool
    verdicts: tuple[Difference, ...]
    ratios: tuple[Difference, ...]

    @property
    def is_worse(self) -> bool:
        """Whether anything got worse."""
        return any(difference.is_worse for difference in self.verdicts)

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "same_suite": self.same_suite,
            "worse": self.is_worse,
            "verdicts": [difference.as_dict() for difference in self.verdicts],
            "ratios": [difference.as_dict() for difference in self.ratios],
        }

    def as_text(self) -> str:
        """Verdicts first, then the ratios that grew or shrank most."""
        lines = [] if self.same_suite else ["the reports are about different suites"]
        for each in self.verdicts:
            before, after = each.before or "not there", each.after or "not there"
            lines.append(f"{'worse' if each.is_worse else 'other'}  {each.name}: {before} -> {after}")
        shown = self.ratios[:_SHOWN_RATIOS]
        lines += [f"ratio  {each.name}: {each.ratio_before:.6g} -> {each.ratio_after:.6g}" for each in shown]
        if len(self.ratios) > _SHOWN_RATIOS:
            lines.append(f"... and {len(self.ratios) - _SHOWN_RATIOS} more ratios")
        return "\n".join(lines) or "no difference"


def diff_reports(before: Path, after: Path) -> Diff:
    """Compare two report files.

    Raises:
        CompacterError: E005 if one cannot be read, E801 if one is no report.
    """
    old, new = _load(before), _load(after)
    olds, news = _by_case(old, before), _by_case(new, after)
    both = [_difference(key, olds.get(key), news.get(key)) for key in sorted({**olds, **news})]
    ratios = [each for each in both if each.before is each.after and None not in (each.ratio_before, each.ratio_after)]
    return Diff(
        same_suite=old["suite"] == new["suite"],
        verdicts=tuple(each for each in both if each.before is not each.after),
        ratios=tuple(sorted((each for each in ratios if _change(each) != 0.0), key=_change, reverse=True)),
    )


def _change(difference: Difference) -> float:
    return (difference.ratio_after or 0.0) - (difference.ratio_before or 0.0)


def _difference(key: tuple[str, str], old: dict[str, Any] | None, new: dict[str, Any] | None) -> Difference:
    case, dtype = key
    return Difference(
        case=case,
        dtype=dtype or None,
        before=None if old is None else Verdict(old["verdict"]),
        after=None if new is None else Verdict(new["verdict"]),
        ratio_before=None if old is None else old["worst_ratio"],
        ratio_after=None if new is None else new["worst_ratio"],
    )


def _load(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise CompacterError(ErrorCode.E005, f"cannot read: {error.strerror}", value=str(path)) from error
    except (ValueError, RecursionError) as error:
        raise _no_report(path, f"is not JSON ({error})") from error
    if not isinstance(value, dict) or value.get("report") != REPORT_VERSION or "suite" not in value:
        raise _no_report(path, "is no report of this version")
    return value


def _by_case(report: dict[str, Any], path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    try:
        results = {(result["case"], result["dtype"] or ""): result for result in report["results"]}
        for result in results.values():
            Verdict(result["verdict"])
            _ = result["worst_ratio"]
    except (KeyError, TypeError, ValueError) as error:
        raise _no_report(path, f"has results that are none ({error!r})") from error
    return results


def _no_report(path: Path, what: str) -> CompacterError:
    return CompacterError(
        ErrorCode.E801, f"{path} {what}", expected="a file that compacter conformance run --report wrote"
    )
