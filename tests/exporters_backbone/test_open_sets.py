"""Directories of graphs opened together: what each carries, one packed adapter for all, and what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from compacter_core.adapter import Adapter
from compacter_core.cli.main import main
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.writer import save_adapter
from compacter_core.linkage.bank import bank_input
from compacter_core.linkage.description import STACKS, Description, read_description
from compacter_core.linkage.kinds import Linkage
from compacter_core.pytorch import detach
from compacter_core.vocabulary import Stack
from compacter_exporters.choices import DECODER_FILE, ENCODER_FILE, Backend
from compacter_exporters.graft_set import graft_directory
from compacter_exporters.graph import load_graph
from compacter_exporters.linkage.open_set import open_directory
from compacter_exporters.probe import random_inputs
from compacter_exporters.verify import verify
from compacter_runtime import Generator as GraphGenerator
from compacter_runtime.onnx_adapter import pack, write_packed
from tests.exporters_backbone.backends import BACKENDS
from tests.exporters_backbone.generators import Generator, trained
from tests.exporters_backbone.test_graph_sets import part
from tests.support.served import served_tokenizer

OPEN = (Linkage.SWAPPABLE, Linkage.BANK)


@pytest.fixture(scope="module")
def generator(make_generator: Callable[[Backend, str], Generator]) -> Generator:
    return make_generator(BACKENDS[0], "t5")


@pytest.fixture(scope="module")
def adapter(generator: Generator) -> Adapter:
    adapter = trained(generator.model)
    detach(generator.model)
    return adapter


@pytest.fixture(scope="module")
def opened(
    generator: Generator, adapter: Adapter, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Linkage], Path]:
    """The graphs, opened once for each linkage; not to be changed."""
    folder = tmp_path_factory.mktemp("opened")
    for linkage in OPEN:
        open_directory(generator.graphs, adapter, folder / linkage, linkage)
    return lambda linkage: folder / linkage


def descriptions(folder: Path) -> dict[str, Description]:
    return {path.name: read_description(load_graph(path).metadata_props) for path in folder.glob("*.onnx")}


@pytest.mark.spec("LNK-16")
@pytest.mark.parametrize("linkage", OPEN)
def test_graphs_of_a_directory_have_one_description(opened: Callable[[Linkage], Path], linkage: Linkage) -> None:
    found = descriptions(opened(linkage))
    assert len({one.fingerprint for one in found.values()}) == 1
    for name, one in found.items():
        stack = Stack.ENCODER if name == ENCODER_FILE else Stack.DECODER
        assert load_graph(opened(linkage) / name).metadata_props[STACKS] == stack.value
        assert {site.stack for site in one.here.sites} == {stack}
        assert {site.stack for site in one.template.sites} == set(Stack)


@pytest.mark.spec("LNK-17")
def test_one_packed_adapter_fits_every_graph_in_onnx_runtime(
    opened: Callable[[Linkage], Path], adapter: Adapter, tmp_path: Path
) -> None:
    """As ONNX Runtime's own active adapter, which it refuses with tensors that a graph has no inputs for."""
    folder = opened(Linkage.SWAPPABLE)
    description = descriptions(folder)[ENCODER_FILE]
    write_packed(tmp_path / "packed.onnx_adapter", description, adapter)
    packed, active = pack(description, adapter), onnxruntime.LoraAdapter()
    active.Load(str(tmp_path / "packed.onnx_adapter"))
    for path in folder.glob("*.onnx"):
        session = onnxruntime.InferenceSession(path, _quiet(), providers=["CPUExecutionProvider"])
        inputs = random_inputs(load_graph(path).graph, np.random.default_rng(0), batch=2, length=3)
        options = onnxruntime.RunOptions()
        options.add_active_adapter(active)
        bare, got, wanted = (
            session.run(None, feed, run)
            for feed, run in ((inputs, None), (inputs, options), (inputs | packed.tensors, None))
        )
        assert all(np.array_equal(one, other) for one, other in zip(got, wanted, strict=True))
        assert not np.array_equal(bare[0], got[0])


def _quiet() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return options


@pytest.mark.spec("LNK-17")
def test_a_graph_of_a_bank_has_the_tensors_of_its_own_sites(opened: Callable[[Linkage], Path]) -> None:
    folder = opened(Linkage.BANK)
    for name, one in descriptions(folder).items():
        inputs = {value.name: value for value in load_graph(folder / name).graph.inputs}
        bias = inputs[bank_input("down.bias")].shape
        overrides = inputs[bank_input("overrides")].shape
        assert bias is not None
        assert overrides is not None
        assert bias[1] == len(one.here.sites) < len(one.template.sites)
        assert overrides[1] == len(one.here.overrides) < len(one.template.overrides)


@pytest.mark.spec("LNK-5", "LNK-13")
@pytest.mark.parametrize("linkage", OPEN)
def test_an_adapter_of_one_stack_leaves_the_other_as_it_is(
    generator: Generator, opened: Callable[[Linkage], Path], adapter: Adapter, tmp_path: Path, linkage: Linkage
) -> None:
    encoder = part(adapter, Stack.ENCODER)
    graft_directory(generator.graphs, encoder, tmp_path / "merged")
    prompts = {"input_ids": generator.prompts.numpy()}
    expected, whole = GraphGenerator(tmp_path / "merged").generate(prompts), GraphGenerator(opened(linkage))
    choice: Any
    if linkage is Linkage.BANK:
        other = whole.adapters.add(adapter, name="other")
        choice = whole.adapters.add(encoder)
        both = whole.generate(prompts, adapter=other)
        whole.adapters.remove("other")
        with pytest.raises(CompacterError, match="no such adapter"):
            whole.generate(prompts, adapter="other")
    else:
        choice, both = whole.load_adapter(encoder), whole.generate(prompts, adapter=whole.load_adapter(adapter))
    assert np.array_equal(whole.generate(prompts, adapter=choice), expected)
    assert not np.array_equal(both, expected)
    report = verify(opened(linkage), encoder)
    assert report.ok, report.as_text()
    assert not any(name.startswith("decoder") for name in report.sites)


@pytest.mark.spec("LNK-20")
@pytest.mark.parametrize("linkage", OPEN)
def test_graphs_that_were_not_opened_together_are_refused(
    generator: Generator, opened: Callable[[Linkage], Path], adapter: Adapter, tmp_path: Path, linkage: Linkage
) -> None:
    mixed = Path(shutil.copytree(opened(linkage), tmp_path / "mixed"))
    open_directory(generator.graphs, part(adapter, Stack.ENCODER), tmp_path / "other", linkage)
    for file in (tmp_path / "other").glob(f"{ENCODER_FILE}*"):
        shutil.copy(file, mixed)
    for look in (GraphGenerator, lambda folder: verify(folder, adapter)):
        with pytest.raises(CompacterError, match="opened for different adapters") as caught:
            look(mixed)
        assert caught.value.code is ErrorCode.E403
    for file in generator.graphs.glob(f"{DECODER_FILE}*"):
        shutil.copy(file, tmp_path / "other")
    with pytest.raises(CompacterError, match="takes no adapters") as caught:
        verify(tmp_path / "other", adapter)
    assert caught.value.code is ErrorCode.E601


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs a command line with --json and returns its result, or the error's fields."""

    def run(*line: object, code: int = 0) -> Any:
        assert main([*map(str, line), "--json"]) == code
        shown = capsys.readouterr()
        return json.loads(shown.err)["error"] if code == 2 else json.loads(shown.out)

    return run


def test_the_command_that_writes_takes_every_linkage(
    generator: Generator, adapter: Adapter, call: Callable[..., Any], tmp_path: Path
) -> None:
    """The same tokens from a merged model, and from open ones that are given the adapter."""
    file = tmp_path / "adapter.safetensors"
    save_adapter(adapter, file)
    folders = {linkage: tmp_path / linkage for linkage in Linkage}
    for linkage, folder in folders.items():
        call("graft", generator.graphs, file, "-o", folder, "--linkage", linkage)
        served_tokenizer().save(str(folder / "tokenizer.json"))
    texts = ["a b c", "d", "e f"]
    bare = call("run", folders[Linkage.SWAPPABLE], *texts)["texts"]
    merged = call("run", folders[Linkage.MERGED], *texts)["texts"]
    assert [row["tokens"] for row in bare] != [row["tokens"] for row in merged]
    assert [tuple(row["tokens"]) for row in merged] == [
        one.tokens for one in GraphGenerator(folders[Linkage.MERGED]).written(texts)
    ]
    for linkage in OPEN:
        assert call("run", folders[linkage], *texts, "--adapter", file, "--batch-size", 32)["texts"] == merged
    assert call("run", folders[Linkage.MERGED], "a", "--adapter", file, code=2)["code"] == "E703"


def test_the_commands_open_pack_and_verify_directories(
    generator: Generator, adapter: Adapter, call: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / "adapter.safetensors"
    save_adapter(adapter, file)
    for linkage in OPEN:
        report = call("graft", generator.graphs, file, "-o", tmp_path / linkage, "--linkage", linkage)
        assert set(report["graphs"]) == {path.name for path in generator.graphs.glob("*.onnx")}
        assert {path.name for path in (tmp_path / linkage).iterdir()} == {
            path.name for path in generator.graphs.iterdir()
        }
    packed = call("pack", tmp_path / Linkage.SWAPPABLE, file, "-o", tmp_path / "a.onnx_adapter")
    assert packed["bytes"] == (tmp_path / "a.onnx_adapter").stat().st_size
    prompts = {"input_ids": generator.prompts.numpy()}
    graphs = GraphGenerator(tmp_path / Linkage.SWAPPABLE)
    ways = [graphs.generate(prompts, adapter=one) for one in (file, tmp_path / "a.onnx_adapter", None)]
    assert np.array_equal(ways[0], ways[1])
    assert not np.array_equal(ways[0], ways[2])
    assert call("pack", tmp_path / Linkage.BANK, file, "-o", tmp_path / "b", code=2)["code"] == "E703"
    assert call("verify", tmp_path / Linkage.BANK, "--adapter", file, "--adapter", file)["ok"]
