"""Swappable graphs in the form sublayer: without an adapter the backbone bit for bit, with one the plain numbers."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from compacter_core.adapter import Adapter, Array
from compacter_core.cli.main import main
from compacter_core.config import ATTACH_PRESETS, Projection
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.writer import adapter_bytes
from compacter_core.linkage.description import read_description
from compacter_core.linkage.kinds import Linkage
from compacter_core.linkage.swappable import swappable_tensors
from compacter_core.vocabulary import NormStyle
from compacter_exporters.agreement import agreement
from compacter_exporters.checks import Numbers
from compacter_exporters.forms import Form
from compacter_exporters.functions import DOMAIN
from compacter_exporters.linkage.open_set import opener_of
from compacter_exporters.linkage.opening import open_file
from compacter_exporters.linkage.swappable import graft_swappable
from compacter_exporters.optimise.choices import Precision
from compacter_exporters.optimise.integers import quantise
from compacter_exporters.optimise.open_recipe import build_open
from compacter_exporters.optimise.recipe import Recipe
from compacter_exporters.verify import verify
from compacter_runtime import Session, kernels
from compacter_runtime.onnx_adapter import write_packed
from tests.exporters.stacks import ROWS, BackboneStack, StackOptions, make_adapter

INPUTS = {"input_ids": np.random.default_rng(5).integers(0, ROWS, (3, 7))}


def made(
    folder: Path, norm_style: NormStyle = NormStyle.POST, *, preset: str = "houlsby"
) -> tuple[Path, BackboneStack, Adapter]:
    stack = BackboneStack(StackOptions(norm_style=norm_style), hidden=8, seed=0)
    backbone = stack.save(folder / "backbone.onnx")
    projection = Projection.compacter(phm_dim=2)
    return backbone, stack, make_adapter(stack, projection=projection, bottleneck=4, attach=ATTACH_PRESETS[preset])


def logits(path: Path, adapter: Adapter | None = None, *, kernel: bool = False, fusing: bool = False) -> Array:
    """The model's logits, by kernels or without, and with what the runtime fuses or without."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if not fusing:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if kernel and not kernels.register(options):
        pytest.skip("there are no kernels")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    tensors = {}
    if adapter is not None:
        tensors = swappable_tensors(read_description(session.get_modelmeta().custom_metadata_map), adapter)
    return np.asarray(session.run(["logits"], INPUTS | tensors)[0])


def agrees(got: Array, expected: Array) -> bool:
    return agreement({"logits": expected}, {"logits": got}, Numbers.of(ir.DataType.FLOAT)).ok


def calls(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node if node.domain == DOMAIN]


@pytest.mark.spec("LNK-2", "LNK-22")
@pytest.mark.parametrize("sums_apart", [True, False])
@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize("norm_style", NormStyle)
def test_numbers(tmp_path: Path, norm_style: NormStyle, kernel: bool, sums_apart: bool) -> None:
    backbone, stack, adapter = made(tmp_path, norm_style)
    path, plain = tmp_path / "open.onnx", tmp_path / "plain.onnx"
    graft_swappable(backbone, adapter, plain)
    graft_swappable(backbone, adapter, path, sums_apart=sums_apart, form=Form.SUBLAYER)
    kind = "Norm" if norm_style is NormStyle.POST else "Residual"
    assert calls(path) == len(adapter.config.sites) * [f"{kind}_factors_sites_gelu_new_bd_bu_b_FLOAT"]
    bare = logits(backbone)
    assert np.array_equal(logits(path, kernel=kernel), bare)
    if kernel or norm_style is NormStyle.PRE:  # else the session fuses the call's sum with the norm
        assert np.array_equal(logits(path, kernel=kernel, fusing=True), bare)
    other = make_adapter(stack, projection=Projection.compacter(phm_dim=2), bottleneck=6, seed=9)
    for one in (adapter, other):
        expected = logits(plain, one)
        assert agrees(logits(path, one, kernel=kernel), expected)
        report = verify(path, one)
        assert report.ok, report.as_text()
        assert set(report.forms.values()) == {"before_bias"}


@pytest.mark.spec("LNK-22")
@pytest.mark.parametrize("preset", sorted({*ATTACH_PRESETS} - {"houlsby"}))
def test_other_placements_verify(tmp_path: Path, preset: str) -> None:
    backbone, _, adapter = made(tmp_path, preset=preset)
    graft_swappable(backbone, adapter, tmp_path / "open.onnx", form=Form.SUBLAYER)
    assert np.array_equal(logits(tmp_path / "open.onnx"), logits(backbone))
    report = verify(tmp_path / "open.onnx", adapter)
    assert report.ok, report.as_text()


@pytest.mark.spec("LNK-22")
@pytest.mark.parametrize("damage", ["body", "site", "residual"])
def test_damage_is_noticed(tmp_path: Path, damage: str) -> None:
    backbone, _, adapter = made(tmp_path)
    path = tmp_path / "open.onnx"
    graft_swappable(backbone, adapter, path, form=Form.SUBLAYER)
    model = onnx.load(path)
    first, second = (node for node in model.graph.node if node.domain == DOMAIN)
    if damage == "body":
        next(node for node in model.functions[0].node if node.op_type == "Tanh").op_type = "Sin"
    elif damage == "site":
        del second.attribute[:]
        second.attribute.extend(first.attribute)
    else:
        second.input[1] = second.input[0]
    onnx.save(model, path)
    try:
        assert not verify(path, adapter).ok
    except CompacterError as error:
        assert error.code in (ErrorCode.E604, ErrorCode.E606)


@pytest.mark.spec("LNK-8", "LNK-22")
@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_packed_adapters(tmp_path: Path) -> None:
    backbone, _, adapter = made(tmp_path)
    path, packed = tmp_path / "open.onnx", tmp_path / "one.onnx_adapter"
    graft_swappable(backbone, adapter, path, form=Form.SUBLAYER)
    write_packed(packed, read_description(dict(onnx_metadata(path))), adapter)
    session = Session(path)
    expected = logits(path, adapter)
    result = session.run(INPUTS, adapter=packed)["logits"]
    assert agrees(result, expected)


def onnx_metadata(path: Path) -> list[tuple[str, str]]:
    return [(one.key, one.value) for one in onnx.load(path).metadata_props]


@pytest.mark.spec("LNK-2", "LNK-22")
@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize("sums_apart", [True, False])
def test_int8(tmp_path: Path, sums_apart: bool, kernel: bool) -> None:
    backbone, _, adapter = made(tmp_path)
    recipe = Recipe(precision=Precision.INT8, form=Form.SUBLAYER, sums_apart=sums_apart)
    build_open(backbone, adapter, tmp_path / "open.onnx", Linkage.SWAPPABLE, recipe)
    quantise(backbone, tmp_path / "alone.onnx", Precision.INT8)
    assert len(calls(tmp_path / "open.onnx")) == len(adapter.config.sites)
    assert np.array_equal(logits(tmp_path / "open.onnx", kernel=kernel), logits(tmp_path / "alone.onnx"))
    report = verify(tmp_path / "open.onnx", adapter)
    assert report.ok, report.as_text()


@pytest.mark.parametrize("linkage", [Linkage.SWAPPABLE, Linkage.BANK])
@pytest.mark.parametrize("form", sorted({*Form} - {Form.AUTO, Form.SUBLAYER}))
def test_forms_that_are_refused(tmp_path: Path, linkage: Linkage, form: Form) -> None:
    backbone, _, adapter = made(tmp_path)
    opener = opener_of(linkage, sums_apart=False)
    with pytest.raises(CompacterError) as caught:
        open_file(backbone, adapter, tmp_path / "open.onnx", opener, form=form)
    assert caught.value.code is ErrorCode.E001
    assert not (tmp_path / "open.onnx").exists()


@pytest.mark.parametrize("more", [(), ("--precision", "int8")])
def test_the_command_has_the_form(tmp_path: Path, more: tuple[str, ...]) -> None:
    (tmp_path / "built").mkdir()
    backbone, _, adapter = made(tmp_path / "built")
    file, path = tmp_path / "adapter.safetensors", tmp_path / "open.onnx"
    file.write_bytes(adapter_bytes(adapter))
    options = ["--linkage", "swappable", "--form", "sublayer", *more, "--json"]
    assert main(["graft", str(backbone), str(file), "-o", str(path), *options]) == 0
    assert len(calls(path)) == len(adapter.config.sites)
    assert main(["verify", str(path), "--adapter", str(file)]) == 0
