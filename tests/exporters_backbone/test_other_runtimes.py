"""Grafted graphs are plain ONNX: ONNX's reference and OpenVINO compute with them what ONNX Runtime does."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from compacter_core.adapter import Array
from compacter_core.config import ATTACH_PRESETS
from compacter_core.graph_files import MERGED_DECODER_FILE
from compacter_core.pytorch import detach
from compacter_exporters.agreement import agreement
from compacter_exporters.checks import Numbers
from compacter_exporters.choices import Backend
from compacter_exporters.forms import Form
from compacter_exporters.graft import graft
from compacter_exporters.graft_set import graft_directory
from compacter_exporters.graph import load_graph
from compacter_exporters.probe import random_inputs, run_model
from tests.exporters_backbone.backends import BACKENDS
from tests.exporters_backbone.conftest import Exported
from tests.exporters_backbone.generators import Generator, trained
from tests.support.models import tiny_model

Inputs = Mapping[str, Array]
Run = Callable[[Path, Inputs, list[str]], dict[str, Array]]


def by_reference(path: Path, inputs: Inputs, names: list[str]) -> dict[str, Array]:
    results: Any = ReferenceEvaluator(str(path)).run(names, dict(inputs))
    return dict(zip(names, results, strict=True))


def by_openvino(path: Path, inputs: Inputs, names: list[str]) -> dict[str, Array]:
    openvino: Any = pytest.importorskip("openvino")
    # Single precision also on processors that would take a faster type.
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = compiled(dict(inputs))
    return {name: results[name] for name in names}


RUNTIMES: Final = {"reference": by_reference, "openvino": by_openvino}


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> Run:
    run: Run = RUNTIMES[request.param]
    return run


def asked(model: Path) -> tuple[list[str], Inputs]:
    """Names of all outputs, and some inputs."""
    graph = load_graph(model).graph
    inputs = random_inputs(graph, np.random.default_rng(1), batch=2, length=5)
    return [str(value.name) for value in graph.outputs], inputs


def takes(run: Run, backbone: Path) -> bool:
    """Whether a runtime runs the bare backbone: OpenVINO has no If whose branches give values of different ranks."""
    names, inputs = asked(backbone)
    try:
        run(backbone, inputs, names)
    except RuntimeError as error:
        if "dynamic rank" not in str(error):
            raise
        return False
    return True


def assert_agrees(run: Run, backbone: Path, model: Path) -> None:
    """All outputs are ONNX Runtime's, and the adapter makes a difference."""
    names, inputs = asked(model)
    got, numbers = run(model, inputs, names), Numbers.of(ir.DataType.FLOAT)
    check = agreement(run_model(model, inputs, names, None), got, numbers)
    assert check.ok, check
    assert not agreement(run_model(backbone, inputs, names, None), got, numbers).ok


@pytest.mark.parametrize(
    ("preset", "form"), [("houlsby", Form.FOLD), *((preset, Form.PLAIN) for preset in ATTACH_PRESETS)]
)
def test_an_encoder(
    runtime: Run,
    export: Callable[[Backend, str], Exported],
    preset: str,
    form: Form,
    tmp_path: Path,
) -> None:
    backbone = export(BACKENDS[0], "bert").model
    adapter = trained(tiny_model("bert", layers=1), ATTACH_PRESETS[preset])
    graft(backbone, adapter, tmp_path / "model.onnx", form=form)
    assert_agrees(runtime, backbone, tmp_path / "model.onnx")


def test_a_decoder_with_its_cache(
    runtime: Run,
    make_generator: Callable[[Backend, str], Generator],
    tmp_path: Path,
) -> None:
    generator = make_generator(BACKENDS[0], "gpt2")
    adapter = trained(generator.model)
    detach(generator.model)
    graft(generator.graphs / "model.onnx", adapter, tmp_path / "model.onnx", form=Form.PLAIN)
    assert_agrees(runtime, generator.graphs / "model.onnx", tmp_path / "model.onnx")


def test_an_encoder_decoder(
    runtime: Run,
    make_generator: Callable[[Backend, str], Generator],
    tmp_path: Path,
) -> None:
    generator = make_generator(BACKENDS[0], "t5")
    adapter = trained(generator.model)
    detach(generator.model)
    graft_directory(generator.graphs, adapter, tmp_path / "merged", form=Form.PLAIN)
    taken = {path: takes(runtime, path) for path in sorted(generator.graphs.glob("*.onnx"))}
    assert {path.name for path in taken if not taken[path]} <= {MERGED_DECODER_FILE}
    for path in filter(taken.__getitem__, taken):
        assert_agrees(runtime, path, tmp_path / "merged" / path.name)
