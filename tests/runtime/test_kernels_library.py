"""The kernels for ONNX Runtime as a library: when it is made, what sessions do with it, and life without it."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from compacter_core import native
from compacter_core.adapter import DType, ProjectionParameters, SiteParameters
from compacter_core.reference.adapter import delta
from compacter_core.reference.bounds import delta_bound, worst_ratio
from compacter_core.vocabulary import Activation, ProjectionKind
from compacter_runtime import kernels
from compacter_runtime.loading import open_session, run_session
from tests.support.compilers import CountingCompiler, needs_compiler

D, K = 16, 4
FUNCTION = "Delta_gelu_new_bd_bu_FLOAT"
DOMAIN = "ai.compacter"

_generator = np.random.default_rng(5)
X = _generator.standard_normal((2, 3, D)).astype(np.float32)
TENSORS = {
    name: _generator.standard_normal(shape).astype(np.float32)
    for name, shape in {"Wd": (D, K), "bd": (K,), "Wu": (K, D), "bu": (D,)}.items()
}


SITE = SiteParameters(
    down=ProjectionParameters(kind=ProjectionKind.DENSE, W=TENSORS["Wd"], b=TENSORS["bd"]),
    up=ProjectionParameters(kind=ProjectionKind.DENSE, W=TENSORS["Wu"], b=TENSORS["bu"]),
    non_linearity=Activation.GELU_NEW,
    scaling=1.0,
)


def delta_function() -> onnx.FunctionProto:
    """act(x Wd + bd) Wu + bu, with gelu_new(z) = z sigmoid(1.59.. (z + 0.04.. z³))."""
    nodes = [
        helper.make_node("MatMul", ["x", "Wd"], ["product"]),
        helper.make_node("Add", ["product", "bd"], ["z"]),
        helper.make_node("Constant", [], ["cubic"], value_float=0.044715),
        helper.make_node("Constant", [], ["slope"], value_float=2 * np.sqrt(2 / np.pi)),
        helper.make_node("Mul", ["z", "z"], ["square"]),
        helper.make_node("Mul", ["square", "z"], ["cube"]),
        helper.make_node("Mul", ["cube", "cubic"], ["bend"]),
        helper.make_node("Add", ["z", "bend"], ["argument"]),
        helper.make_node("Mul", ["argument", "slope"], ["steep"]),
        helper.make_node("Sigmoid", ["steep"], ["share"]),
        helper.make_node("Mul", ["z", "share"], ["a"]),
        helper.make_node("MatMul", ["a", "Wu"], ["up"]),
        helper.make_node("Add", ["up", "bu"], ["y"]),
    ]
    return helper.make_function(DOMAIN, FUNCTION, ["x", *TENSORS], ["y"], nodes, [helper.make_opsetid("", 18)])


def write_model(folder: Path, *, calls: bool = True) -> Path:
    """A model of one call, or of one copy."""
    call = helper.make_node(FUNCTION, ["x", *TENSORS], ["y"], domain=DOMAIN)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "sequence", D]) for name in "xy"]
    initialisers = [numpy_helper.from_array(array, name) for name, array in TENSORS.items()]
    node = call if calls else helper.make_node("Identity", ["x"], ["y"])
    graph = helper.make_graph([node], "adapter", values[:1], values[1:], initialisers if calls else [])
    opsets = [helper.make_opsetid("", 18), *([helper.make_opsetid(DOMAIN, 1)] if calls else [])]
    functions = [delta_function()] if calls else []
    model = helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=10)
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A process that has not looked for kernels yet, and where it keeps them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(native.SWITCH, raising=False)
    kernels.library.cache_clear()
    yield tmp_path / "cache/compacter-core"
    kernels.library.cache_clear()


def operators_run(model: Path, folder: Path, *, registers: bool = True) -> list[str]:
    """The types of the operators that a session of one's own is left with."""
    options = onnxruntime.SessionOptions()
    assert not registers or kernels.register(options)
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node]


def check_values(model: Path, providers: list[str] | None = None) -> None:
    (y,) = run_session(open_session(model, providers or ["cpu"], None), None, {"x": X}, ["x"])
    assert worst_ratio(y, delta(SITE, X), delta_bound(SITE, X, storage=DType.F32, accumulate=DType.F32)) <= 1


def warning_of(model: Path, caplog: pytest.LogCaptureFixture) -> str:
    """The one that is logged for two sessions, whose values are right."""
    with caplog.at_level(logging.WARNING):
        check_values(model)
        check_values(model)
    (record,) = caplog.records
    return record.getMessage()


@needs_compiler
def test_it_is_compiled_once_and_kept(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for all sessions and processes."""
    compiler = CountingCompiler(tmp_path)
    monkeypatch.setenv("CC", compiler.command)
    model = write_model(tmp_path)
    check_values(model)
    check_values(model)
    kernels.library.cache_clear()
    check_values(model)
    assert compiler.compilations == 1
    assert list(cache.iterdir()) == [kernels.library()]


@needs_compiler
def test_sessions_run_the_operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of `open_session` and of users, in the place of what the function consists of."""
    model = write_model(tmp_path)
    assert operators_run(model, tmp_path) == [FUNCTION]
    assert FUNCTION not in operators_run(model, tmp_path, registers=False)
    registered: list[bool] = []
    original = kernels.register

    def noted(options: onnxruntime.SessionOptions) -> bool:
        registered.append(original(options))
        return registered[-1]

    monkeypatch.setattr(kernels, "register", noted)
    check_values(model)
    assert registered == [True]


@pytest.mark.parametrize("compiler", ["false", "there-is-no-such-compiler"])
def test_without_a_compiler_the_function_serves(
    compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With one warning for all sessions."""
    monkeypatch.setenv("CC", compiler)
    model = write_model(tmp_path)
    assert "adapters run on plain operations" in warning_of(model, caplog)
    assert not kernels.register(onnxruntime.SessionOptions())


@needs_compiler
def test_what_onnx_runtime_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A library without operators, as one for another version would be: the function serves, with one warning."""
    (tmp_path / "empty.c").write_text("int nothing;\n")
    monkeypatch.setattr(kernels, "_SOURCE", tmp_path / "empty.c")
    model = write_model(tmp_path)
    warning = warning_of(model, caplog)
    assert "ONNX Runtime refused" in warning and f"{native.SWITCH}=off" in warning


def test_kernels_are_switched_off(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(native.SWITCH, "off")
    check_values(write_model(tmp_path))
    assert not kernels.register(onnxruntime.SessionOptions())
    assert not caplog.text
    assert not cache.exists()


def test_other_models_compile_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "library", lambda *_: pytest.fail("something is compiled"))
    session = open_session(write_model(tmp_path, calls=False), ["cpu"], None)
    np.testing.assert_array_equal(run_session(session, None, {"x": X}, ["x"])[0], X)


def test_other_providers_compile_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operators are for CPUs: where another provider comes first, it gets what the function consists of."""
    other = next((name for name in onnxruntime.get_available_providers() if name != "CPUExecutionProvider"), None)
    if other is None:
        pytest.skip("ONNX Runtime has no other provider")
    monkeypatch.setattr(native, "library", lambda *_: pytest.fail("something is compiled"))
    open_session(write_model(tmp_path), [other, "cpu"], None)


def test_whether_a_model_calls_adapters(tmp_path: Path) -> None:
    """It is read from the file; a string that merely begins so is no domain."""
    assert kernels.calls_adapters(write_model(tmp_path))
    model = onnx.load(write_model(tmp_path, calls=False))
    helper.set_model_props(model, {"note": f"{DOMAIN}.other"})
    onnx.save(model, tmp_path / "noted.onnx")
    (tmp_path / "empty.onnx").touch()
    assert not kernels.calls_adapters(tmp_path / "noted.onnx")
    assert not kernels.calls_adapters(tmp_path / "empty.onnx")
