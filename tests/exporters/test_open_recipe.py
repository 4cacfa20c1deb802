"""Open graphs in every precision: adapters stay in float, and without one a graph is the backbone in that precision."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

from compacter_core.adapter import Adapter, Array
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.linkage.kinds import Linkage
from compacter_exporters.graph import load_graph
from compacter_exporters.optimise.choices import Fuser, Precision, Target
from compacter_exporters.optimise.halves import halve
from compacter_exporters.optimise.integers import quantise
from compacter_exporters.optimise.open_recipe import build_open
from compacter_exporters.optimise.recipe import Recipe
from compacter_exporters.verify import verify
from tests.exporters.conftest import Exported
from tests.exporters.test_exports import trained
from tests.support.models import tiny_inputs

OPEN = (Linkage.SWAPPABLE, Linkage.BANK)
RECIPES = (
    Recipe(precision=Precision.INT8),
    Recipe(precision=Precision.INT4),
    Recipe(precision=Precision.INT8, sums_apart=True),
    Recipe(precision=Precision.INT4, sums_apart=True),
    Recipe(Target.CUDA, Precision.FP16),
)
NAMES = [f"{one.precision}{'-apart' if one.sums_apart else ''}" for one in RECIPES]
WEIGHTS = {Precision.INT8: "MatMulInteger", Precision.INT4: "MatMulNBits"}


def alone(backbone: Path, target: Path, recipe: Recipe, adapter: Adapter) -> Path:
    """The backbone in a recipe's precision."""
    if recipe.precision.quantises:
        quantise(backbone, target, recipe.precision)
    else:
        halve(backbone, target, recipe.precision, recipe.target, adapter.config)
    return target


def unfused(path: Path, precision: Precision) -> Array:
    """Logits without an adapter, and without what the runtime fuses; in fp16 those of the operators' definition.

    ONNX Runtime on CPUs computes fp16 in fp32, and rounds where it meets operators that it has in fp16.
    """
    inputs = {name: value.numpy() for name, value in tiny_inputs().items()}
    if precision is Precision.FP16:
        (logits,) = ReferenceEvaluator(str(path)).run(["logits"], inputs)
        return np.asarray(logits)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logits"], inputs)[0])


@pytest.mark.spec("LNK-1", "LNK-11", "ONX-38")
@pytest.mark.parametrize("recipe", RECIPES, ids=NAMES)
@pytest.mark.parametrize("linkage", OPEN)
@pytest.mark.parametrize("exporter", ["torchscript17", "dynamo"])
def test_what_an_adapter_gives_stays_in_float(
    exported: Exported, tmp_path: Path, exporter: str, linkage: Linkage, recipe: Recipe
) -> None:
    backbone, (adapter, _) = exported("bert", exporter), trained("bert")
    build_open(backbone, adapter, tmp_path / "open.onnx", linkage, recipe)
    report = verify(tmp_path / "open.onnx", adapter)
    assert report.ok, report.as_text()
    model, bare = load_graph(tmp_path / "open.onnx"), load_graph(alone(backbone, tmp_path / "x.onnx", recipe, adapter))
    given = [one for one in model.graph.inputs if str(one.name).startswith("compacter/")]
    assert given and all(one.dtype is not None and one.dtype.is_floating_point() for one in given)
    mark = WEIGHTS.get(recipe.precision, "LayerNormalization")
    # A bank replaces a quantised head by a product with rows of its own.
    counts = [sum(node.op_type == mark for node in one.graph) for one in (bare, model)]
    assert counts[0] - (linkage is Linkage.BANK) <= counts[1] <= counts[0] and counts[1] > 0


@pytest.mark.spec("LNK-2")
@pytest.mark.parametrize("recipe", RECIPES, ids=NAMES)
@pytest.mark.parametrize("exporter", ["torchscript17", "dynamo"])
def test_without_an_adapter_it_is_the_backbone_in_that_precision(
    exported: Exported, tmp_path: Path, exporter: str, recipe: Recipe
) -> None:
    backbone, (adapter, _) = exported("bert", exporter), trained("bert")
    build_open(backbone, adapter, tmp_path / "open.onnx", Linkage.SWAPPABLE, recipe)
    expected = unfused(alone(backbone, tmp_path / "alone.onnx", recipe, adapter), recipe.precision)
    assert np.array_equal(unfused(tmp_path / "open.onnx", recipe.precision), expected)
    assert not np.array_equal(unfused(backbone, Precision.FP32), expected)


@pytest.mark.parametrize("linkage", OPEN)
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16, Precision.INT4])
def test_graphs_for_cuda_are_fused_before(
    exported: Exported, tmp_path: Path, linkage: Linkage, precision: Precision
) -> None:
    """Checked in structure and on the CPU: no GPU has run them."""
    backbone, (adapter, _) = exported("bert", "dynamo"), trained("bert")
    recipe = Recipe(Target.CUDA, precision, Fuser.ONNXSCRIPT)
    build_open(backbone, adapter, tmp_path / "open.onnx", linkage, recipe)
    assert any(node.op_type == "Attention" for node in load_graph(tmp_path / "open.onnx").graph)
    report = verify(tmp_path / "open.onnx", adapter)
    assert report.ok, report.as_text()


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(Target.CUDA, Precision.BF16),
        Recipe(Target.WEBGPU, Precision.INT4),
        Recipe(Target.TENSORRT),
        Recipe(Target.CPU, Precision.FP16),
    ],
    ids=lambda one: f"{one.target}-{one.precision}",
)
def test_what_no_open_graph_is_made_for(exported: Exported, tmp_path: Path, recipe: Recipe) -> None:
    with pytest.raises(CompacterError) as caught:
        build_open(exported("bert", "dynamo"), trained("bert")[0], tmp_path / "open.onnx", Linkage.SWAPPABLE, recipe)
    assert caught.value.code is ErrorCode.E001
    assert not (tmp_path / "open.onnx").exists()
