"""Directories of graphs in every precision: each graph is verified, generates, and shares weights with the others."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from compacter_core.adapter import Adapter
from compacter_core.cli.main import main
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.writer import save_adapter
from compacter_core.pytorch import detach
from compacter_core.vocabulary import Stack
from compacter_exporters.choices import ENCODER_FILE, Backend
from compacter_exporters.fused.apart import take_apart
from compacter_exporters.graft_set import graft_directory
from compacter_exporters.graph import load_graph
from compacter_exporters.norms import find_norms
from compacter_exporters.optimise.choices import Precision, Target
from compacter_exporters.optimise.halves import halve
from compacter_exporters.optimise.narrowing import narrow
from compacter_exporters.optimise.recipe import Recipe, build
from compacter_exporters.optimise.recipe_set import DATA_FILE, build_directory
from compacter_exporters.optimise.wide_nodes import second_layers, wide_nodes
from compacter_exporters.probe import random_inputs, run_model
from compacter_exporters.verify import verify
from compacter_runtime.generator import Generator as Writer
from tests.exporters_backbone.backends import BACKENDS
from tests.exporters_backbone.generators import MODEL_TYPES, Generator, trained
from tests.exporters_backbone.test_graph_sets import part

RECIPES = (
    Recipe(precision=Precision.INT8),
    Recipe(precision=Precision.INT4),
    Recipe(Target.WEBGPU, Precision.FP16),
)
MARKS = {Precision.INT8: "MatMulInteger", Precision.INT4: "MatMulNBits"}
SETS = [(backend, one) for backend in BACKENDS for one in MODEL_TYPES[backend] if one in ("t5", "mt5")]
LARGE = 2.0**14
"""What the scaled `wo` is multiplied with: its results go beyond 65504."""


@pytest.fixture(scope="module", params=SETS, ids="-".join)
def generator(request: pytest.FixtureRequest, make_generator: Callable[[Backend, str], Generator]) -> Generator:
    return make_generator(*request.param)


@pytest.fixture(scope="module")
def adapter(generator: Generator) -> Adapter:
    adapter = trained(generator.model)
    detach(generator.model)
    return adapter


def written(directory: Path, prompts: torch.Tensor) -> Any:
    return Writer(directory).generate({"input_ids": prompts.numpy()}, max_new_tokens=5)


@pytest.mark.spec("ONX-46", "ONX-38", "ONX-39")
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda one: one.precision.value)
def test_every_graph_of_a_directory(generator: Generator, adapter: Adapter, tmp_path: Path, recipe: Recipe) -> None:
    output = tmp_path / "merged"
    report = build_directory(generator.graphs, adapter, output, recipe)
    assert {path.name for path in output.iterdir()} == {
        *(path.name for path in generator.graphs.iterdir() if path.suffix != ".data"),
        DATA_FILE,
    }
    checked = verify(output, adapter)
    assert checked.ok, checked.as_text()
    for name, one in report.graphs.items():
        graph = load_graph(output / name).graph
        assert one.output == str(output / name) and one.model_bytes == (output / name).stat().st_size
        kinds = {node.op_type for node in graph.all_nodes()}
        assert MARKS.get(recipe.precision, "Cast") in kinds
        before = load_graph(generator.graphs / name).graph
        assert [(v.name, v.dtype) for v in graph.inputs] == [(v.name, v.dtype) for v in before.inputs]
        assert [(v.name, v.dtype) for v in graph.outputs] == [(v.name, v.dtype) for v in before.outputs]
        onnx.checker.check_model(str(output / name))
    assert len(written(output, generator.prompts)) == len(generator.prompts)


@pytest.mark.spec("ONX-46")
def test_weights_of_several_graphs_are_written_once(generator: Generator, adapter: Adapter, tmp_path: Path) -> None:
    graft_directory(generator.graphs, adapter, tmp_path / "apart")
    build_directory(generator.graphs, adapter, tmp_path / "shared", Recipe(Target.WEBGPU))
    found: dict[bytes, set[int]] = {}
    for path in (tmp_path / "shared").glob("*.onnx"):
        for value in load_graph(path).graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                found.setdefault(value.const_value.tobytes(), set()).add(value.const_value.offset or 0)
    assert found and all(len(offsets) == 1 for offsets in found.values())
    before, after = (written(tmp_path / name, generator.prompts) for name in ("apart", "shared"))
    np.testing.assert_array_equal(after, before)


@pytest.mark.spec("ONX-46")
def test_graphs_without_a_site_are_made_like_the_others(generator: Generator, adapter: Adapter, tmp_path: Path) -> None:
    cut = part(adapter, Stack.ENCODER)
    report = build_directory(generator.graphs, cut, tmp_path / "merged", Recipe(precision=Precision.INT8))
    assert set(report.graphs) == {ENCODER_FILE} and report.untouched
    for name in report.untouched:
        assert any(node.op_type == "MatMulInteger" for node in load_graph(tmp_path / "merged" / name).graph.all_nodes())
    assert verify(tmp_path / "merged", cut).ok


def test_the_command_takes_directories(generator: Generator, adapter: Adapter, tmp_path: Path) -> None:
    save_adapter(adapter, tmp_path / "a.safetensors")
    files = ["graft", str(generator.graphs), str(tmp_path / "a.safetensors"), "-o", str(tmp_path / "merged")]
    assert main([*files, "--precision", "bf16"]) == 2
    assert main([*files, "--precision", "int8", "--tune", "1x4"]) == 2
    assert not (tmp_path / "merged").exists()
    assert main([*files, "--precision", "int8", "--json"]) == 0
    assert main(["verify", str(tmp_path / "merged"), "--adapter", str(tmp_path / "a.safetensors")]) == 0
    assert main([*files, "--precision", "int8"]) == 2, "the directory is there already"


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda one: one.precision.value)
def test_a_decoder_alone(make_generator: Callable[[Backend, str], Generator], tmp_path: Path, recipe: Recipe) -> None:
    for model_type in ("gpt2", "llama"):
        generator = make_generator(BACKENDS[0], model_type)
        adapter = trained(generator.model)
        detach(generator.model)
        output = tmp_path / model_type / "model.onnx"
        build(generator.graphs / "model.onnx", adapter, output, recipe)
        report = verify(output, adapter)
        assert report.ok, report.as_text()
        for name in ("config.json", "generation_config.json"):
            shutil.copy(generator.graphs / name, output.parent)
        assert written(output.parent, generator.prompts).shape[1] > generator.prompts.shape[1]


@pytest.mark.spec("ONX-47")
def test_the_second_layers_are_the_sites_of_the_feed_forward(generator: Generator) -> None:
    modules = dict(generator.model.named_modules())
    weights = [module.weight.detach().numpy().T for name, module in modules.items() if name.endswith(".wo")]
    for path in generator.graphs.glob("*.onnx"):
        model = load_graph(path)
        found = [layer for graph in model.graphs() for layer in second_layers(graph, find_norms(graph))]
        assert found
        for layer in found:
            assert any(one.shape == layer.weight.shape and np.array_equal(one, layer.values()) for one in weights)
        own = [one for one in weights if any(np.array_equal(one, layer.values()) for layer in found)]
        assert len(own) == generator.model.config.num_layers or "decoder" in path.name


@pytest.fixture
def scaled(generator: Generator, tmp_path: Path) -> Iterator[Path]:
    """Graphs and model with weights of `wo` that leave the range of fp16; the model is as before afterwards."""
    graphs = Path(shutil.copytree(generator.graphs, tmp_path / "graphs"))
    for path in graphs.glob("*.onnx"):
        model = load_graph(path)
        for graph in model.graphs():
            for layer in second_layers(graph, find_norms(graph)):
                _scale(model, layer.node)
        ir.external_data.load_to_model(model)
        ir.save(model, path)
    layers = [module for name, module in generator.model.named_modules() if name.endswith(".wo")]
    with torch.no_grad():
        for layer in layers:
            layer.weight.mul_(LARGE)
        yield graphs
        for layer in layers:
            layer.weight.div_(LARGE)


def _scale(model: ir.Model, product: ir.Node) -> None:
    value: Any = product.inputs[1]
    while value.producer() is not None:  # a Transpose
        value = value.producer().inputs[0]
    if not value.name.endswith("/scaled"):
        old = value.name
        value.const_value = ir.Tensor(value.const_value.numpy() * np.float32(LARGE), name=f"{old}/scaled")
        value.name = f"{old}/scaled"


@pytest.mark.spec("ONX-47")
def test_wo_that_overflows(generator: Generator, scaled: Path, tmp_path: Path) -> None:
    adapter = trained(generator.model)
    detach(generator.model)
    source = scaled / ENCODER_FILE
    inputs = random_inputs(load_graph(source).graph, np.random.default_rng(0), batch=2, length=5)
    (expected,) = run_model(source, inputs, ["last_hidden_state"], None).values()
    halve(source, tmp_path / "wide.onnx", Precision.FP16, Target.WEBGPU, adapter.config)
    naive = load_graph(source)
    narrow(naive, ir.DataType.FLOAT16)
    ir.save(naive, tmp_path / "naive.onnx")
    got = {name: _in_numpy(tmp_path / f"{name}.onnx", inputs) for name in ("wide", "naive")}
    assert not np.isfinite(got["naive"]).all()
    # Half precision before the stream: a few roundoffs of 2^-11 in each of the four sublayers.
    assert np.abs(got["wide"] - expected).max() <= 2.0**-6 * np.abs(expected).max()
    build_directory(scaled, adapter, tmp_path / "merged", Recipe(Target.WEBGPU, Precision.FP16))
    report = verify(tmp_path / "merged", adapter)
    assert report.ok, report.as_text()


def _in_numpy(path: Path, inputs: dict[str, Any]) -> Any:
    """What the operators are defined to give: ONNX Runtime on CPUs computes fp16 in fp32, where nothing overflows."""
    with np.errstate(all="ignore"):
        outputs: Any = ReferenceEvaluator(str(path)).run(None, inputs)
        return outputs[0]


@pytest.mark.spec("ONX-47")
def test_casts_are_at_the_edges_of_the_stream_alone(generator: Generator, adapter: Adapter) -> None:
    for path in generator.graphs.glob("*.onnx"):
        model = load_graph(path)
        take_apart(model)
        narrow(model, ir.DataType.FLOAT16, wide=wide_nodes(model, adapter.config))
        for node in model.graph.all_nodes():
            types = [value.dtype for value in (*node.inputs, *node.outputs) if value is not None]
            if node.op_type == "Cast" and {*types} <= {ir.DataType.FLOAT, ir.DataType.FLOAT16}:
                assert types[0] is not types[1] or node.outputs[0].is_graph_output()


def test_a_failure_leaves_nothing(generator: Generator, adapter: Adapter, tmp_path: Path) -> None:
    graphs = Path(shutil.copytree(generator.graphs, tmp_path / "graphs"))
    (graphs / ENCODER_FILE).write_bytes((graphs / ENCODER_FILE).read_bytes()[:-100])
    with pytest.raises(CompacterError) as caught:
        build_directory(graphs, adapter, tmp_path / "merged", Recipe(precision=Precision.INT8))
    assert caught.value.code is ErrorCode.E005
    assert {path.name for path in tmp_path.iterdir()} == {"graphs"}
