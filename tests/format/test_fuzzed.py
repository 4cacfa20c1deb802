"""The invariants of `tests.fuzz.targets`, on inputs that Hypothesis draws: bytes, edits, headers and configurations."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compacter_core.adapter import DType
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.container import parse_header
from tests.format.builders import join, split
from tests.format.strategies import json_values
from tests.fuzz import targets
from tests.fuzz.samples import configs, file_seeds, files
from tests.fuzz.targets import TARGETS, InvariantError, fuzz_config, fuzz_copy, fuzz_file, fuzz_header

anything: st.SearchStrategy[Any] = (
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=8,
    )
    | json_values
)
names = st.from_regex(r"[A-Za-z0-9_-]{1,5}(\.[A-Za-z0-9_-]{1,5}){0,2}", fullmatch=True) | st.text(max_size=8)


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """A header whose entries tile the file, unless one of its values was replaced, as happens in every other one."""
    header: dict[str, Any] = {}
    end = 0
    for name in draw(st.lists(names, max_size=4, unique=True)):
        dtype, size = draw(st.sampled_from([(DType.F64, 8), (DType.F32, 4), (DType.F16, 2), (DType.BF16, 2)]))
        shape = draw(st.lists(st.integers(1, 3), max_size=4))
        begin = end
        for dimension in shape:
            size *= dimension
        end += size
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    if draw(st.booleans()) and header:
        name = draw(st.sampled_from(sorted(header)))
        header[name][draw(st.sampled_from(["dtype", "shape", "data_offsets", "other"]))] = draw(anything)
    if draw(st.booleans()):
        texts: st.SearchStrategy[Any] = st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=3)
        header["__metadata__"] = draw(texts | anything)
    return join(header, bytes(end))


@st.composite
def configurations(draw: st.DrawFn) -> str:
    """A valid configuration with one value somewhere replaced, removed or added."""
    root: Any = json.loads(draw(st.sampled_from(configs())))
    value = root
    while True:
        key = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
        inner = value[key]
        if not isinstance(inner, dict | list) or not inner or draw(st.booleans()):
            break
        value = inner
    if draw(st.integers(0, 3)):
        value[key] = draw(anything)
    else:
        del value[key]
    return json.dumps(root, ensure_ascii=draw(st.booleans()))


@pytest.mark.spec("SEC-7", "SEC-10")
@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=300)
@given(data=st.binary(max_size=64))
def test_bytes(name: str, data: bytes) -> None:
    TARGETS[name].run(data)


@pytest.mark.spec("SEC-7", "FMT-34")
@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name: str) -> None:
    for seed in TARGETS[name].seeds():
        TARGETS[name].run(seed)


@pytest.mark.spec("SEC-7")
@settings(max_examples=300)
@given(headers())
def test_headers(data: bytes) -> None:
    fuzz_header(data)
    fuzz_file(data)


@pytest.mark.spec("SEC-7")
@settings(max_examples=300)
@given(configurations())
def test_configurations(text: str) -> None:
    data = text.encode(errors="surrogatepass")
    fuzz_config(data)
    fuzz_copy(data)
    header, body = split(files()[0])
    header["__metadata__"]["compacter.config"] = text
    fuzz_file(join(header, body))


def test_good_inputs_pass_all_the_way() -> None:
    """Otherwise the invariants about results would be about nothing."""
    assert sum(accepted(data) for data in file_seeds()) > len(files())
    assert [json.loads(text)["hidden_size"] for text in configs()] == [8, 2, 2, 2, 8]


def accepted(data: bytes) -> bool:
    try:
        parse_header(data)
    except CompacterError:
        return False
    return True


@pytest.mark.parametrize(
    "error",
    [
        CompacterError(ErrorCode.E401, "a code that parse_header does not name"),
        ValueError("another exception"),
        RecursionError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_broken_parser_is_a_finding(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(targets, "parse_header", broken)
    with pytest.raises((InvariantError, ValueError, RecursionError)):
        fuzz_header(b"")


def test_a_change_by_writing_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "adapter_bytes", lambda _: files()[1])
    with pytest.raises(InvariantError):
        fuzz_file(files()[0])
