"""The verdict on an answer: equal code, equal value, equal bytes, or numbers within their bounds (CNF-11 to CNF-13)."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compacter_core.adapter import Array, DType
from compacter_core.conformance.case import Case
from compacter_core.conformance.compare import Expected, Precision, compare, expected_tensors
from compacter_core.conformance.draws import check_draws, distributions
from compacter_core.conformance.implementation import Answer, Done, Failed, Rejected, Request, Skipped
from compacter_core.conformance.onnx_evaluation import onnx_evaluator
from compacter_core.conformance.suite import Suite
from compacter_core.conformance.tensor_files import read_tensors
from compacter_core.conformance.values import different
from compacter_core.conformance.words import Op, Verdict
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.config_json import config_from_json, config_to_json


@dataclass(frozen=True, slots=True)
class Reply:
    """A question and the answer to it."""

    request: Request
    answer: Answer


@dataclass(frozen=True, slots=True)
class Judgement:
    """How a case went.

    Args:
        verdict: passed, failed, error or skipped.
        worst_ratio: of error to bound; None for answers without numbers.
        detail: got and expected, or the reason; None for a case that passed.
    """

    verdict: Verdict
    worst_ratio: float | None = None
    detail: str | None = None


_PASSED = Judgement(Verdict.PASSED)


def judge(suite: Suite, case: Case, precision: Precision | None, replies: Sequence[Reply]) -> Judgement:
    """Judge a case.

    Args:
        suite: where the expectation is.
        case: what was asked.
        precision: types of storage and of sums; None for operations without numbers.
        replies: one; three for `initialise`, the second with the seed of the first and the third with another.

    Raises:
        CompacterError: E801 if the case's expectation cannot be used; E004 if onnx is needed and not installed.
    """
    first = replies[0]
    unanswered = next(filter(None, map(_without_answer, replies)), None)
    if unanswered is not None:
        return unanswered
    if case.expect.code is not None:
        return _judge_code(case.expect.code, first.answer)
    for reply in replies:
        if isinstance(reply.answer, Rejected):
            return _failed(f"got the rejection {_named(reply.answer.code)}, expected {_wanted(case)}")
    return _judge_work(suite, case, precision, replies)


def _without_answer(reply: Reply) -> Judgement | None:
    match reply.answer:
        case Failed(message):
            return Judgement(Verdict.ERROR, detail=message)
        case Skipped(reason):
            return Judgement(Verdict.SKIPPED, detail=reason)
    return None


def _judge_work(suite: Suite, case: Case, precision: Precision | None, replies: Sequence[Reply]) -> Judgement:
    """Judge what was done."""
    expect, first = case.expect, replies[0]
    if expect.value is not None:
        return _judge_value(case, first.answer)
    if expect.file is not None:
        wanted = suite.files[expect.file]
        return _judge_output(first, lambda data: _judge_bytes(data, wanted))
    if expect.tensors is not None:
        expected = _expected(suite, expect.tensors, precision)
        if case.op is Op.GRAFT:
            evaluate = _evaluation(first.request)
            return _judge_output(first, lambda data: _judge_tensors(evaluate(data), expected))
        return _judge_output(first, lambda data: _judge_stored(data, first.request.dtype, expected))
    return _judge_draws(case, replies)


def _failed(detail: str, worst_ratio: float | None = None) -> Judgement:
    return Judgement(Verdict.FAILED, worst_ratio, detail)


def _wanted(case: Case) -> str:
    return {Op.READ: "the file to be read", Op.MATCH: "a match"}.get(case.op, "an answer")


def _judge_code(expected: str, answer: Answer) -> Judgement:
    if not isinstance(answer, Rejected):
        return _failed(f"got no rejection, expected {_named(expected)}")
    if answer.code != expected:
        return _failed(f"got the rejection {_named(answer.code)}, expected {_named(expected)}")
    return _PASSED


def _named(code: str) -> str:
    title = ErrorCode[code].value if code in ErrorCode.__members__ else "no code of the specification"
    return f"{code} ({title})"


def _judge_value(case: Case, answer: Answer) -> Judgement:
    got = dict(answer.value) if isinstance(answer, Done) else {}
    expected = dict(case.expect.value or {})
    if case.op is Op.READ and "config" in got and "config" in expected:
        try:
            got["config"] = _meaning(got["config"])
        except CompacterError as error:
            return _failed(f"the answer's config is not valid: {error}")
        expected["config"] = _meaning(expected["config"])
    difference = different(got, expected)
    return _PASSED if difference is None else _failed(difference)


def _meaning(config: object) -> Any:
    """A configuration with defaults filled in and optional keys left out: equal meaning, equal value."""
    return json.loads(config_to_json(config_from_json(json.dumps(config))))


def _judge_output(reply: Reply, verdict: Callable[[bytes], Judgement]) -> Judgement:
    """Judge the file that the implementation wrote; no file, or one of another kind, is no answer."""
    try:
        return verdict(_output(reply))
    except CompacterError as error:
        return Judgement(Verdict.ERROR, detail=str(error))


def _output(reply: Reply) -> bytes:
    if not reply.request.out.is_file():  # nor a pipe, which would never end
        raise CompacterError(
            ErrorCode.E801, "the answer was ok, but there is no output file", value=reply.request.out.name
        )
    return reply.request.out.read_bytes()


def _judge_bytes(got: bytes, expected: bytes) -> Judgement:
    if got == expected:
        return _PASSED
    offset = next(
        (i for i, (a, b) in enumerate(zip(got, expected, strict=False)) if a != b), len(min(got, expected, key=len))
    )
    around = slice(max(0, offset - 8), offset + 24)
    return _failed(
        f"the bytes differ from offset {offset} on: got {got[around]!r}, expected {expected[around]!r} "
        f"(from offset {around.start}; lengths {len(got)} and {len(expected)})"
    )


def _stored(data: bytes) -> dict[str, Array]:
    return {name: tensor.array for name, tensor in read_tensors(data, "the output").items()}


def _judge_stored(data: bytes, dtype: DType | None, expected: Mapping[str, Expected]) -> Judgement:
    """The bounds are those of results stored in the request's type; in a wider one they would be easy to keep."""
    tensors = read_tensors(data, "the output")
    wrong = [f"{name} has type {tensor.dtype}" for name, tensor in sorted(tensors.items()) if tensor.dtype is not dtype]
    if dtype is not None and wrong:
        return _failed(f"{', '.join(wrong)}; expected {dtype}, the type of the request")
    return _judge_tensors({name: tensor.array for name, tensor in tensors.items()}, expected)


def _evaluation(request: Request) -> Callable[[bytes], dict[str, Array]]:
    """Turns an ONNX model into its outputs for the case's feeds."""
    stored = read_tensors(request.files["feeds"].read_bytes(), "suite: feeds")
    feeds = {name: tensor.array for name, tensor in stored.items()}
    evaluate = onnx_evaluator()
    return lambda model: evaluate(model, feeds)


def _expected(suite: Suite, path: str, precision: Precision | None) -> dict[str, Expected]:
    stored = {name: tensor.array for name, tensor in read_tensors(suite.files[path], f"suite: {path}").items()}
    return expected_tensors(stored, precision, path)


def _judge_tensors(got: Mapping[str, Array], expected: Mapping[str, Expected]) -> Judgement:
    comparison = compare(got, expected)
    if comparison.problem is not None:
        return _failed(comparison.problem, comparison.worst_ratio)
    return Judgement(Verdict.PASSED, comparison.worst_ratio)


def _judge_draws(case: Case, replies: Sequence[Reply]) -> Judgement:
    expected = distributions(case.expect.distribution or {}, case.id)
    tensors: list[dict[str, Array]] = []
    for reply in replies:
        try:
            tensors.append(_stored(_output(reply)))
        except CompacterError as error:
            return Judgement(Verdict.ERROR, detail=str(error))
    problems = check_draws(case.args, tensors, expected)
    return _failed("; ".join(problems)) if problems else _PASSED
