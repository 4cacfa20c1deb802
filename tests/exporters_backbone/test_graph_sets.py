"""Directories of graphs: what is grafted, what is copied, and what is refused with nothing left behind."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest

from compacter_core.adapter import Adapter
from compacter_core.cli.main import main
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.writer import save_adapter
from compacter_core.pytorch import detach
from compacter_core.vocabulary import Stack
from compacter_exporters.choices import DECODER_FILE, DECODER_WITH_PAST_FILE, ENCODER_FILE, Backend
from compacter_exporters.graft import graft
from compacter_exporters.graft_set import graft_directory
from compacter_exporters.graph import load_graph
from compacter_exporters.metadata import extract
from compacter_exporters.verify import verify
from tests.exporters_backbone.backends import BACKENDS
from tests.exporters_backbone.generators import Generator, trained

Damage = Callable[[Path], None]


@pytest.fixture(scope="module")
def generator(make_generator: Callable[[Backend, str], Generator]) -> Generator:
    return make_generator(BACKENDS[0], "t5")


@pytest.fixture(scope="module")
def adapter(generator: Generator) -> Adapter:
    adapter = trained(generator.model)
    detach(generator.model)
    return adapter


@pytest.fixture
def graphs(generator: Generator, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(generator.graphs, tmp_path / "graphs"))


def part(adapter: Adapter, stack: Stack, *, all_overrides: bool = False) -> Adapter:
    """The adapter with the sites of one stack."""
    config = adapter.config
    overrides = config.overrides if all_overrides else tuple(o for o in config.overrides if o.name.startswith(stack))
    cut = replace(config, sites=tuple(site for site in config.sites if site.stack is stack), overrides=overrides)
    kept = (*(f"override.{one.name}" for one in overrides), f"site.{stack}.", "shared.")
    return replace(
        adapter,
        config=cut,
        tensors={name: array for name, array in adapter.tensors.items() if name.startswith(kept)},
        sketches={name: array for name, array in adapter.sketches.items() if name.startswith(f"sketch.{stack}.")},
    )


def refused(graphs: Path, adapter: Adapter, text: str) -> None:
    with pytest.raises(CompacterError, match=text) as caught:
        graft_directory(graphs, adapter, graphs.parent / "merged")
    assert caught.value.code is ErrorCode.E604
    assert not (graphs.parent / "merged").exists()


def test_everything_else_is_copied_and_every_graph_carries_the_adapter(
    graphs: Path, adapter: Adapter, tmp_path: Path
) -> None:
    (graphs / "notes.txt").write_text("kept")
    save_adapter(adapter, tmp_path / "adapter.safetensors")
    before = {path.name: path.read_bytes() for path in graphs.iterdir()}
    graft_directory(graphs, tmp_path / "adapter.safetensors", tmp_path / "merged")
    assert {path.name: path.read_bytes() for path in graphs.iterdir()} == before
    assert {path.name for path in (tmp_path / "merged").iterdir()} == set(before)
    assert (tmp_path / "merged/notes.txt").read_text() == "kept"
    for path in (tmp_path / "merged").glob("*.onnx"):
        assert extract(path) == (tmp_path / "adapter.safetensors").read_bytes()


@pytest.mark.spec("ONX-23")
def test_an_encoders_adapter_leaves_the_decoders_as_they_are(graphs: Path, adapter: Adapter, tmp_path: Path) -> None:
    report = graft_directory(graphs, part(adapter, Stack.ENCODER), tmp_path / "merged")
    assert set(report.graphs) == {ENCODER_FILE}
    for name in report.untouched:
        assert (tmp_path / "merged" / name).read_bytes() == (graphs / name).read_bytes()
        load_graph(tmp_path / "merged" / name)
    assert verify(tmp_path / "merged", part(adapter, Stack.ENCODER)).ok


@pytest.mark.spec("ONX-24")
def test_overrides_of_a_stack_without_a_site_are_refused(graphs: Path, adapter: Adapter) -> None:
    refused(graphs, part(adapter, Stack.ENCODER, all_overrides=True), "stack without a site")


@pytest.mark.spec("ONX-24")
def test_a_site_in_none_of_the_graphs_is_refused(graphs: Path, adapter: Adapter) -> None:
    for path in graphs.glob("encoder*"):
        path.unlink()
    refused(graphs, adapter, r"encoder\.0\.self_attn is not in the graph")


@pytest.mark.spec("ONX-24")
def test_one_graph_alone_does_not_hold_the_adapter(graphs: Path, adapter: Adapter, tmp_path: Path) -> None:
    with pytest.raises(CompacterError, match=r"decoder\.0\.self_attn is not in the graph"):
        graft(graphs / ENCODER_FILE, adapter, tmp_path / "merged.onnx")


def _change(path: Path, *, times: float, count: int | None = None) -> None:
    """Other weights in the linears of a graph, in all of them or in the last few."""
    model = onnx.load(path)
    weights = [one for one in model.graph.initializer if len(one.dims) == 2 and one.dims[1] == 16]
    for tensor in weights if count is None else weights[-count:]:
        array = onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array(times * array[::-1].copy(), tensor.name))
    onnx.save(model, path)


@pytest.mark.spec("ONX-24")
def test_a_graph_of_another_export_is_refused(graphs: Path, adapter: Adapter) -> None:
    _change(graphs / DECODER_WITH_PAST_FILE, times=1.0)
    refused(graphs, adapter, "no site of the adapter is in this graph")


@pytest.mark.spec("ONX-23")
def test_half_a_stack_is_refused(graphs: Path, adapter: Adapter) -> None:
    model = ir.load(graphs / DECODER_FILE)
    ir.external_data.load_to_model(model)
    ir.save(model, graphs / DECODER_FILE)
    _change(graphs / DECODER_FILE, times=1.0, count=1)
    refused(graphs, adapter, "is not in the graph")


def test_a_directory_without_graphs_is_e005(tmp_path: Path, adapter: Adapter) -> None:
    with pytest.raises(CompacterError) as caught:
        graft_directory(tmp_path, adapter, tmp_path / "merged")
    assert caught.value.code is ErrorCode.E005


def test_the_commands_take_directories(
    graphs: Path, adapter: Adapter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_adapter(adapter, tmp_path / "adapter.safetensors")
    files = [str(graphs), str(tmp_path / "adapter.safetensors"), "-o", str(tmp_path / "merged")]
    assert main(["graft", *files, "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["graphs"]) == {path.name for path in graphs.glob("*.onnx")}
    checked = [str(tmp_path / "merged"), "--adapter", str(tmp_path / "adapter.safetensors")]
    assert main(["verify", *checked]) == 0
    assert "site encoder_model: encoder.0.self_attn" in capsys.readouterr().out
    assert main(["verify", str(graphs), "--adapter", checked[2], "--json"]) == 1
