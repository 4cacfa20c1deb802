"""Files, forms and adapters that a graft refuses, before anything is written."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from compacter_core.adapter import Adapter
from compacter_core.config import ATTACH_PRESETS, AdapterConfig, Head, Override, Projection
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.writer import adapter_bytes
from compacter_core.layout import Part
from compacter_core.vocabulary import OverrideKind
from compacter_exporters.forms import Form
from compacter_exporters.graft import graft
from compacter_exporters.metadata import extract
from compacter_exporters.verify import verify
from tests.exporters.stacks import LABELS, BackboneStack, StackOptions, make_adapter
from tests.support.blocking import run_blocked

OPTIONS = StackOptions()


def make(overrides: tuple[Override, ...] | None = None) -> Adapter:
    stack = BackboneStack(OPTIONS, hidden=8, seed=0)
    stack.model()
    return make_adapter(stack, projection=Projection.compacter(phm_dim=2), bottleneck=4, overrides=overrides)


def configured(adapter: Adapter, change: Callable[[AdapterConfig], AdapterConfig]) -> Adapter:
    return replace(adapter, config=change(adapter.config))


@pytest.fixture(name="backbone")
def _backbone(tmp_path: Path) -> Path:
    return BackboneStack(OPTIONS, hidden=8, seed=0).save(tmp_path / "backbone.onnx")


@pytest.fixture(name="external")
def _external(tmp_path: Path) -> Path:
    """A backbone whose weights are in a file of their own."""
    model = BackboneStack(OPTIONS, hidden=8, seed=0).model()
    (tmp_path / "source").mkdir()
    path = tmp_path / "source" / "backbone.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def refused(code: ErrorCode, backbone: Path, adapter: Adapter | Path, *, form: Form = Form.AUTO) -> CompacterError:
    output = backbone.with_name("merged.onnx")
    before = {path.name: path.read_bytes() for path in backbone.parent.iterdir() if path.is_file()}
    with pytest.raises(CompacterError) as caught:
        graft(backbone, adapter, output, form=form)
    assert caught.value.code is code
    assert {path.name: path.read_bytes() for path in backbone.parent.iterdir() if path.is_file()} == before
    return caught.value


@pytest.mark.spec("ONX-2")
@pytest.mark.parametrize("preset", ["pfeiffer", "parallel", "adapter_plus"])
def test_fold_of_another_placement(backbone: Path, preset: str) -> None:
    adapter = configured(make(), lambda config: replace(config, attach=ATTACH_PRESETS[preset]))
    refused(ErrorCode.E605, backbone, adapter, form=Form.FOLD)


@pytest.mark.spec("ONX-5")
def test_another_hidden_size(backbone: Path) -> None:
    stack = BackboneStack(OPTIONS, hidden=16, seed=0)
    stack.model()
    refused(ErrorCode.E401, backbone, make_adapter(stack, projection=Projection.compacter(phm_dim=2), bottleneck=4))


@pytest.mark.spec("ONX-6")
def test_an_adapter_without_sketches(backbone: Path) -> None:
    refused(ErrorCode.E604, backbone, replace(make(), sketches={}))


def test_a_missing_file(tmp_path: Path) -> None:
    refused(ErrorCode.E005, tmp_path / "nothing.onnx", make())


@pytest.mark.parametrize("content", [b"", b"not an ONNX model", b"\x08"])
def test_a_file_that_is_no_model(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    refused(ErrorCode.E005, path, make())


def test_an_adapter_file_that_is_missing(backbone: Path) -> None:
    refused(ErrorCode.E005, backbone, backbone.with_name("nothing.safetensors"))


@pytest.mark.spec("ONX-11")
@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("layer.7.norm.weight", OverrideKind.NORM, ErrorCode.E404),
        ("layer.0.norm.variance", OverrideKind.NORM, ErrorCode.E404),
        ("layer.0.weight", OverrideKind.BIAS, ErrorCode.E404),
        ("layer.9.bias", OverrideKind.BIAS, ErrorCode.E404),
        ("classifier.weight", OverrideKind.HEAD, ErrorCode.E405),
    ],
)
def test_overrides_that_cannot_be_placed(backbone: Path, name: str, kind: OverrideKind, code: ErrorCode) -> None:
    refused(code, backbone, make((Override(name=name, kind=kind),)))


@pytest.mark.spec("ONX-11")
def test_an_override_of_another_size(backbone: Path) -> None:
    adapter = make((Override(name="layer.0.norm.weight", kind=OverrideKind.NORM),))
    tensors = {**adapter.tensors, f"{Part.OVERRIDE}.layer.0.norm.weight": np.ones(6, np.float32)}
    refused(ErrorCode.E404, backbone, replace(adapter, tensors=tensors))


@pytest.mark.spec("ONX-11")
def test_another_number_of_norms(backbone: Path) -> None:
    adapter = make()
    described = adapter.config.backbone
    assert described is not None
    more = replace(described, norms=(*described.norms, "pooler.norm"))
    refused(ErrorCode.E604, backbone, configured(adapter, lambda config: replace(config, backbone=more)))


@pytest.mark.spec("ONX-10")
@pytest.mark.parametrize("op_type", ["Sub", "Mul"])
def test_no_residual_sum_behind_a_site(backbone: Path, op_type: str) -> None:
    model = onnx.load(backbone)
    residual = next(node for node in model.graph.node if node.op_type == "Add" and "bias" not in "".join(node.input))
    residual.op_type = op_type
    onnx.save(model, backbone)
    assert "no single residual sum" in str(refused(ErrorCode.E604, backbone, make()))


@pytest.mark.spec("ONX-10")
def test_two_sums_behind_a_site(backbone: Path) -> None:
    model = onnx.load(backbone)
    place, residual = next(
        (i, node)
        for i, node in enumerate(model.graph.node)
        if node.op_type == "Add" and "bias" not in "".join(node.input)
    )
    second = onnx.helper.make_node("Add", residual.input, ["second"], name="second")
    model.graph.node.insert(place, second)
    model.graph.output.append(onnx.helper.make_tensor_value_info("second", onnx.TensorProto.FLOAT, None))
    onnx.save(model, backbone)
    assert "no single residual sum" in str(refused(ErrorCode.E604, backbone, make()))


@pytest.mark.spec("ONX-10")
def test_another_norm_behind_a_site(backbone: Path) -> None:
    adapter = make(())
    described = adapter.config.backbone
    assert described is not None
    swapped = replace(described, norms=(described.norms[0], *described.norms[:0:-1]))
    changed = configured(adapter, lambda config: replace(config, backbone=swapped))
    assert "another norm" in str(refused(ErrorCode.E604, backbone, changed))


@pytest.mark.spec("ONX-11", "ONX-17", "ONX-22")
@pytest.mark.parametrize("form", [Form.BIAS_LAST, Form.BIAS_FIRST, Form.COLUMN, Form.FOLD, Form.PLAIN])
def test_bias_overrides_are_grafted_verified_and_extracted(backbone: Path, tmp_path: Path, form: Form) -> None:
    adapter = make((Override(name="layer.1.bias", kind=OverrideKind.BIAS),))
    graft(backbone, adapter, tmp_path / "merged.onnx", form=form)
    report = verify(tmp_path / "merged.onnx", adapter)
    assert report.ok, report.as_text()
    assert extract(tmp_path / "merged.onnx") == adapter_bytes(adapter)


@pytest.mark.spec("ONX-12")
@pytest.mark.parametrize(
    "shapes", [{"classifier.weight": (5, 12)}, {"classifier.weight": (5, 8), "classifier.out.weight": (5, 5)}]
)
def test_a_head_that_does_not_fit(backbone: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    layers = tuple(name.removesuffix(".weight") for name in shapes)
    head = Head(task="text-classification", layers=layers, shapes=shapes)
    tensors = {f"{Part.HEAD}.{name}": np.ones(shape, np.float32) for name, shape in shapes.items()}
    adapter = configured(make(), lambda config: replace(config, head=head))
    kept = {name: array for name, array in adapter.tensors.items() if not name.startswith(f"{Part.HEAD}.")}
    refused(ErrorCode.E604, backbone, replace(adapter, tensors=kept | tensors))


def reshaped(backbone: Path, *shape: int) -> None:
    """Let the logits go through a Reshape, as decoders' do that answer at the last token."""
    model = onnx.load(backbone)
    model.graph.node[-1].output[0] = "unshaped"
    model.graph.node.append(onnx.helper.make_node("Reshape", ["unshaped", "shape"], ["logits"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(shape), "shape"))
    onnx.save(model, backbone)


@pytest.mark.spec("ONX-12")
def test_another_number_of_classes_than_a_reshape_behind_the_head_takes(backbone: Path, tmp_path: Path) -> None:
    reshaped(backbone, -1, LABELS)
    adapter = make()
    assert adapter.config.head is not None
    assert "num_labels=5" in str(refused(ErrorCode.E604, backbone, adapter))
    shapes = {"classifier.weight": (LABELS, 8), "classifier.bias": (LABELS,)}
    head = replace(adapter.config.head, shapes=shapes, labels=("a", "b", "c"))
    tensors = {f"{Part.HEAD}.{name}": np.ones(shape, np.float32) for name, shape in shapes.items()}
    fitting = configured(replace(adapter, tensors={**adapter.tensors, **tensors}), lambda c: replace(c, head=head))
    graft(backbone, fitting, tmp_path / "merged.onnx")
    assert verify(tmp_path / "merged.onnx", fitting).ok


@pytest.mark.spec("ONX-12")
def test_a_graph_without_logits(backbone: Path) -> None:
    model = ir.load(backbone)
    model.graph.outputs[0].name = "hidden"
    ir.save(model, backbone)
    assert "text-classification" in str(refused(ErrorCode.E604, backbone, make()))


def test_the_output_must_not_overwrite_the_backbone(external: Path) -> None:
    for target in (external, external.with_name("weights.bin")):
        before = target.read_bytes()
        with pytest.raises(CompacterError) as caught:
            graft(external, make(), target)
        assert caught.value.code is ErrorCode.E006
        assert target.read_bytes() == before


def test_missing_external_data(external: Path) -> None:
    external.with_name("weights.bin").unlink()
    refused(ErrorCode.E005, external, make())


@pytest.mark.spec("SEC-12")
@pytest.mark.parametrize("location", ["../secret", "/etc/hostname", "link"])
def test_external_data_outside_the_directory(external: Path, location: str) -> None:
    secret = external.parent.parent / "secret"
    secret.write_bytes(bytes(1 << 12))
    external.with_name("link").symlink_to(secret)
    model = onnx.load(external, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    external.write_bytes(model.SerializeToString())
    refused(ErrorCode.E005, external, make())


def test_external_data_is_shared_in_the_same_directory(external: Path) -> None:
    report = graft(external, make(), external.with_name("merged.onnx"))
    assert report.shared
    assert report.data_files == ("weights.bin",)
    assert {path.name for path in external.parent.iterdir()} == {"backbone.onnx", "weights.bin", "merged.onnx"}
    assert verify(external.with_name("merged.onnx"), make()).ok


def test_external_data_is_copied_to_another_directory(external: Path, tmp_path: Path) -> None:
    output = tmp_path / "elsewhere" / "merged.onnx"
    report = graft(external, make(), output)
    assert not report.shared
    assert {path.name for path in output.parent.iterdir()} == {"merged.onnx", *report.data_files}
    for path in external.parent.iterdir():
        path.unlink()
    assert verify(output, make()).ok


def test_the_label_count_of_the_output_follows_the_head(backbone: Path, tmp_path: Path) -> None:
    graft(backbone, make(), tmp_path / "merged.onnx")
    shape = ir.load(tmp_path / "merged.onnx").graph.outputs[0].shape
    assert shape is not None
    assert shape[-1] == 5


def test_merging_and_extracting_need_no_torch() -> None:
    code = "import compacter_exporters.graft, compacter_exporters.metadata, compacter_exporters.verify"
    done = run_blocked(code, {"torch", "transformers", "onnxscript"})
    assert done.returncode == 0, done.stderr
