"""Directories of open graphs in every precision, and decoders whose norms stay in another type than their sites."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from compacter_core.adapter import Adapter
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.linkage.kinds import Linkage
from compacter_core.pytorch import detach
from compacter_core.vocabulary import Stack
from compacter_exporters.choices import ENCODER_FILE, Backend
from compacter_exporters.graph import load_graph
from compacter_exporters.optimise.choices import Precision, Target
from compacter_exporters.optimise.integers import quantise
from compacter_exporters.optimise.open_recipe import build_open, build_open_directory
from compacter_exporters.optimise.recipe import Recipe
from compacter_exporters.optimise.recipe_set import DATA_FILE
from compacter_exporters.probe import random_inputs
from compacter_exporters.verify import verify
from compacter_runtime import Generator as GraphGenerator
from tests.exporters_backbone.backends import BACKENDS
from tests.exporters_backbone.generators import MODEL_TYPES, Generator, trained
from tests.exporters_backbone.test_graph_sets import part

OPEN = (Linkage.SWAPPABLE, Linkage.BANK)
INTEGERS = (Precision.INT8, Precision.INT4)
RECIPES = (*(Recipe(precision=one, sums_apart=True) for one in INTEGERS), Recipe(Target.CUDA, Precision.FP16))
MARKS = {Precision.INT8: "MatMulInteger", Precision.INT4: "MatMulNBits"}
SETS = [(backend, one) for backend in BACKENDS for one in MODEL_TYPES[backend] if one in ("t5", "bart")]
Make = Callable[[Backend, str], Generator]


@pytest.fixture(scope="module", params=SETS, ids="-".join)
def generator(request: pytest.FixtureRequest, make_generator: Make) -> Generator:
    return make_generator(*request.param)


@pytest.fixture(scope="module")
def adapter(generator: Generator) -> Adapter:
    adapter = trained(generator.model)
    detach(generator.model)
    return adapter


def written(folder: Path, generator: Generator, adapter: Adapter | None = None) -> Any:
    """The tokens that the graphs of a directory write."""
    graphs, prompts = GraphGenerator(folder), {"input_ids": generator.prompts.numpy()}
    if adapter is None:
        return graphs.generate(prompts, max_new_tokens=5)
    is_bank = any(value.name == "adapter_id" for value in load_graph(folder / ENCODER_FILE).graph.inputs)
    choice: Any = graphs.adapters.add(adapter) if is_bank else graphs.load_adapter(adapter)
    return graphs.generate(prompts, adapter=choice, max_new_tokens=5)


def outputs(path: Path, inputs: dict[str, Any]) -> list[Any]:
    """What a graph gives without what the runtime fuses."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, inputs))


@pytest.mark.spec("LNK-1", "LNK-11", "ONX-38", "ONX-46")
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda one: one.precision.value)
@pytest.mark.parametrize("linkage", OPEN)
def test_every_graph_of_a_directory(
    generator: Generator, adapter: Adapter, tmp_path: Path, linkage: Linkage, recipe: Recipe
) -> None:
    output = tmp_path / "open"
    report = build_open_directory(generator.graphs, adapter, output, linkage, recipe)
    assert {path.name for path in output.iterdir()} == {
        *(path.name for path in generator.graphs.iterdir() if path.suffix != ".data"),
        DATA_FILE,
    }
    checked = verify(output, adapter)
    assert checked.ok, checked.as_text()
    for name, one in report.graphs.items():
        assert one.output == str(output / name) and one.model_bytes == (output / name).stat().st_size
        kinds = {node.op_type for node in load_graph(output / name).graph.all_nodes()}
        assert MARKS.get(recipe.precision, "Cast") in kinds
    assert len(written(output, generator, adapter)) == len(generator.prompts)


@pytest.mark.spec("LNK-2", "LNK-17")
@pytest.mark.parametrize("precision", INTEGERS)
def test_without_an_adapter_it_is_the_quantised_backbone(
    generator: Generator, adapter: Adapter, tmp_path: Path, precision: Precision
) -> None:
    recipe = Recipe(precision=precision)
    build_open_directory(generator.graphs, adapter, tmp_path / "open", Linkage.SWAPPABLE, recipe)
    alone = Path(shutil.copytree(generator.graphs, tmp_path / "alone"))
    inputs = set()
    for path in generator.graphs.glob("*.onnx"):
        quantise(path, alone / path.name, precision)
        feed = random_inputs(load_graph(path).graph, np.random.default_rng(0), batch=2, length=3)
        got, expected = (outputs(folder / path.name, feed) for folder in (tmp_path / "open", alone))
        assert all(np.array_equal(one, other) for one, other in zip(got, expected, strict=True))
        names = {str(one.name) for one in load_graph(tmp_path / "open" / path.name).graph.inputs}
        inputs.add(frozenset(name for name in names if name.startswith("compacter/")))
    assert len(inputs) == 1
    bare = written(tmp_path / "open", generator)
    np.testing.assert_array_equal(bare, written(alone, generator))
    assert not np.array_equal(written(tmp_path / "open", generator, adapter), bare)


@pytest.mark.spec("ONX-46")
@pytest.mark.parametrize("linkage", OPEN)
def test_graphs_without_a_site_are_made_like_the_others(
    generator: Generator, adapter: Adapter, tmp_path: Path, linkage: Linkage
) -> None:
    cut = part(adapter, Stack.ENCODER)
    report = build_open_directory(generator.graphs, cut, tmp_path / "open", linkage, Recipe(precision=Precision.INT8))
    assert set(report.graphs) == {ENCODER_FILE} and report.untouched
    for name in report.untouched:
        assert any(node.op_type == "MatMulInteger" for node in load_graph(tmp_path / "open" / name).graph.all_nodes())


@pytest.mark.spec("LNK-3")
@pytest.mark.parametrize("linkage", OPEN)
def test_norms_in_another_type_than_the_sites_are_refused(
    make_generator: Make, tmp_path: Path, linkage: Linkage
) -> None:
    """A root-mean-square norm in several nodes stays in fp32 (ONX-47), and its gain would be given in fp16."""
    generator = make_generator(BACKENDS[0], "llama")
    adapter = trained(generator.model)
    detach(generator.model)
    recipe, output = Recipe(Target.CUDA, Precision.FP16), tmp_path / "open/model.onnx"
    with pytest.raises(CompacterError, match="in several types") as caught:
        build_open(generator.graphs / "model.onnx", adapter, output, linkage, recipe)
    assert caught.value.code is ErrorCode.E605
    assert not output.exists()
