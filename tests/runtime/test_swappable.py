"""Serving a swappable model: packed files, what is refused, labels, and what ONNX Runtime does with the files alone."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from compacter_core.adapter import Adapter, Array
from compacter_core.config import Projection
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.writer import adapter_bytes, save_adapter
from compacter_core.linkage.description import Description, read_description
from compacter_core.linkage.swappable import swappable_tensors
from compacter_exporters.graft import graft
from compacter_exporters.linkage.swappable import graft_swappable
from compacter_runtime import Session
from compacter_runtime.onnx_adapter import read_packed, write_packed
from tests.exporters.stacks import LABELS, ROWS, BackboneStack, StackOptions, make_adapter

INPUTS = {"input_ids": np.random.default_rng(5).integers(0, ROWS, (4, 6))}


@dataclass
class Served:
    """A swappable model with its template, and the bare backbone beside it."""

    model: Path
    backbone: Path
    adapter: Adapter
    session: Session

    @property
    def description(self) -> Description:
        session = onnxruntime.InferenceSession(str(self.model))
        return read_description(session.get_modelmeta().custom_metadata_map)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    folder = tmp_path_factory.mktemp("served")
    stack = BackboneStack(StackOptions(), hidden=8, seed=0)
    backbone = stack.save(folder / "backbone.onnx")
    adapter = make_adapter(stack, projection=Projection.compacter(phm_dim=2), bottleneck=4)
    graft_swappable(backbone, adapter, folder / "open.onnx")
    return Served(folder / "open.onnx", backbone, adapter, Session(folder / "open.onnx"))


@pytest.fixture
def packed(served: Served, tmp_path: Path) -> Path:
    path = tmp_path / "tested.onnx_adapter"
    assert write_packed(path, served.description, served.adapter) == path.stat().st_size
    return path


def test_every_source_gives_the_same(served: Served, packed: Path, tmp_path: Path) -> None:
    save_adapter(served.adapter, tmp_path / "a.safetensors")
    sources = (served.adapter, tmp_path / "a.safetensors", packed)
    results = [served.session.run(INPUTS, adapter=served.session.load_adapter(one))["logits"] for one in sources]
    results.append(served.session.run(INPUTS, adapter=packed)["logits"])
    assert all(np.array_equal(results[0], one) for one in results)
    graft(served.backbone, served.adapter, tmp_path / "merged.onnx")
    merged = Session(tmp_path / "merged.onnx").run(INPUTS)["logits"]
    assert np.abs(results[0] - merged).max() <= 2e-5 * np.abs(merged).max()


@pytest.mark.spec("LNK-2")
def test_without_an_adapter_it_is_the_backbone(served: Served) -> None:
    bare = Session(served.backbone).run(INPUTS)["logits"]
    adapter = served.session.load_adapter(served.adapter)
    for _ in range(2):  # an adapter leaves nothing behind
        assert np.array_equal(served.session.run(INPUTS)["logits"], bare)
        assert served.session.run(INPUTS, adapter=adapter)["logits"].shape != bare.shape


def test_labels_are_those_of_the_adapters_head(served: Served) -> None:
    adapter = served.session.load_adapter(served.adapter)
    assert {one.label for one in served.session.classify(INPUTS, adapter=adapter)} <= set("abcde")
    assert {one.label for one in served.session.classify(INPUTS)} <= {str(index) for index in range(LABELS)}


@pytest.mark.spec("LNK-8")
def test_onnx_runtime_alone_takes_the_file(served: Served, packed: Path) -> None:
    """The container is ONNX Runtime's own: its active adapters give what the session gives."""
    session = onnxruntime.InferenceSession(str(served.model))
    adapter = onnxruntime.LoraAdapter()
    adapter.Load(str(packed))
    options = onnxruntime.RunOptions()
    options.add_active_adapter(adapter)
    got = session.run(["logits"], INPUTS, options)[0]
    expected = served.session.run(INPUTS, adapter=packed)["logits"]
    assert np.array_equal(got, expected)


def code_of(action: Callable[[], object]) -> ErrorCode:
    with pytest.raises(CompacterError) as caught:
        action()
    return caught.value.code


@pytest.mark.spec("LNK-9")
def test_every_damaged_byte_is_found(served: Served, packed: Path, tmp_path: Path) -> None:
    """ONNX Runtime reads most of these files without noticing."""
    data, damaged = packed.read_bytes(), tmp_path / "damaged.onnx_adapter"
    generator = np.random.default_rng(0)
    noticed = 0
    places = generator.choice(len(data), 60, replace=False)
    for place in places:
        changed = bytearray(data)
        changed[place] ^= 1 << int(generator.integers(8))
        damaged.write_bytes(changed)
        code = code_of(lambda: read_packed(damaged, served.description))
        assert code in (ErrorCode.E601, ErrorCode.E603)
        try:
            onnxruntime.LoraAdapter().Load(str(damaged))
        except Exception:  # ONNX Runtime's exceptions have no common base class
            noticed += 1
    assert noticed < len(places) / 2


@pytest.mark.spec("LNK-9")
@pytest.mark.parametrize("left", [0, 10, 100, -1, -60])
def test_a_cut_file_is_refused(served: Served, packed: Path, left: int) -> None:
    packed.write_bytes(packed.read_bytes()[:left])
    assert code_of(lambda: served.session.load_adapter(packed)) is ErrorCode.E601


def repack(
    path: Path, description: Description, adapter: Adapter, monkeypatch: pytest.MonkeyPatch, **changed: Array | None
) -> None:
    """Write a packed file whose digest is right but whose tensors are not: `down_weight=None` leaves one out."""
    whole = swappable_tensors(description, adapter)
    for name, array in changed.items():
        full = next(key for key in whole if key.endswith(name.replace("_", ".")))
        if array is None:
            del whole[full]
        else:
            whole[full] = array
    monkeypatch.setattr("compacter_runtime.onnx_adapter.swappable_tensors", lambda *_: whole)
    write_packed(path, description, adapter)


@pytest.mark.spec("LNK-9")
@pytest.mark.parametrize(
    ("changed", "code"),
    [
        (None, ErrorCode.E602),
        (np.zeros((8, 5), np.float32), ErrorCode.E304),
        (np.zeros((8, 4), np.float64), ErrorCode.E305),
    ],
    ids=["missing", "shape", "type"],
)
def test_wrong_tensors_are_refused(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: Array | None, code: ErrorCode
) -> None:
    path = tmp_path / "wrong.onnx_adapter"
    repack(path, served.description, served.adapter, monkeypatch, down_weight=changed)
    assert code_of(lambda: served.session.load_adapter(path)) is code


@pytest.mark.spec("LNK-9")
def test_a_superfluous_tensor_is_refused(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(served.adapter.config, sites=served.adapter.config.sites[:1])
    kept = {name: array for name, array in served.adapter.tensors.items() if ".encoder.1." not in name}
    sketches = {name: array for name, array in served.adapter.sketches.items() if ".encoder.1." not in name}
    fewer = replace(served.adapter, config=config, tensors=kept, sketches=sketches)
    whole = swappable_tensors(served.description, served.adapter)
    monkeypatch.setattr("compacter_runtime.onnx_adapter.swappable_tensors", lambda *_: whole)
    write_packed(tmp_path / "more.onnx_adapter", served.description, fewer)
    assert code_of(lambda: served.session.load_adapter(tmp_path / "more.onnx_adapter")) is ErrorCode.E303


@pytest.mark.spec("LNK-9")
def test_a_file_of_another_graph_is_refused(served: Served, packed: Path, tmp_path: Path) -> None:
    """ONNX Runtime runs it, and what it computes is the backbone or worse."""
    stack = BackboneStack(StackOptions(), hidden=8, seed=1)
    backbone = stack.save(tmp_path / "backbone.onnx")
    template = make_adapter(stack, projection=Projection.compacter(phm_dim=2), bottleneck=4)
    graft_swappable(backbone, template, tmp_path / "other.onnx")
    assert code_of(lambda: Session(tmp_path / "other.onnx").load_adapter(packed)) is ErrorCode.E403


@pytest.mark.spec("LNK-9")
def test_a_file_of_onnx_runtime_alone_is_refused(served: Served, tmp_path: Path) -> None:
    container = onnxruntime.AdapterFormat()
    container.set_model_version(served.description.version)
    container.set_parameters({"x": onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros((2, 2), np.float32))})
    container.export_adapter(str(tmp_path / "bare.onnx_adapter"))
    assert code_of(lambda: served.session.load_adapter(tmp_path / "bare.onnx_adapter")) is ErrorCode.E601


def test_the_adapter_file_is_inside(served: Served, packed: Path) -> None:
    assert adapter_bytes(read_packed(packed, served.description).adapter) == adapter_bytes(served.adapter)


def test_tensors_outlive_the_container_they_were_read_from(served: Served, packed: Path) -> None:
    tensors = read_packed(packed, served.description).tensors
    assert all(array.base is None for array in tensors.values())
    made = served.session.load_adapter(served.adapter).tensors
    assert all(np.array_equal(tensors[name], array) for name, array in made.items())


def test_models_that_take_no_adapters_say_so(served: Served, packed: Path) -> None:
    bare = Session(served.backbone)
    assert code_of(lambda: bare.load_adapter(packed)) is ErrorCode.E703
    assert code_of(lambda: bare.run(INPUTS, adapter=packed)) is ErrorCode.E703
    assert code_of(lambda: served.session.run(INPUTS, adapter=["tested", None])) is ErrorCode.E703
    assert code_of(lambda: served.session.load_adapter("missing.onnx_adapter")) is ErrorCode.E005


def test_bound_inputs_of_onnx_runtime_ignore_active_adapters(served: Served, packed: Path) -> None:
    """Whoever binds inputs has to bind the tensors, too. Should ONNX Runtime mend this, nothing here depends on it."""
    session = onnxruntime.InferenceSession(str(served.model))
    adapter = onnxruntime.LoraAdapter()
    adapter.Load(str(packed))
    options = onnxruntime.RunOptions()
    options.add_active_adapter(adapter)
    options.log_severity_level = 4
    binding = session.io_binding()
    binding.bind_cpu_input("input_ids", INPUTS["input_ids"])
    binding.bind_output("logits")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        session.run_with_iobinding(binding, options)
    ignored = binding.copy_outputs_to_cpu()[0]
    assert np.array_equal(ignored, Session(served.backbone).run(INPUTS)["logits"])
    bound = session.io_binding()
    bound.bind_cpu_input("input_ids", INPUTS["input_ids"])
    for name, array in served.session.load_adapter(packed).tensors.items():
        bound.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
    bound.bind_output("logits")
    session.run_with_iobinding(bound)
    assert np.array_equal(bound.copy_outputs_to_cpu()[0], served.session.run(INPUTS, adapter=packed)["logits"])
