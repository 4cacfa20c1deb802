"""Graphs that an optimiser has been at: decoders with their cache, encoder-decoders, and BERT with fused attention."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import transformers

from compacter_core.config import ATTACH_PRESETS
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.pytorch import detach
from compacter_exporters.choices import Backend
from compacter_exporters.graft import graft
from compacter_exporters.graft_set import graft_directory
from compacter_exporters.linkage.bank import graft_bank
from compacter_exporters.verify import verify
from compacter_runtime.decoder import GraphDecoder
from tests.exporters.conftest import export_tiny
from tests.exporters.optimised import How, optimise
from tests.exporters.quantising import Bits4, Int8, bits4, int8
from tests.exporters.test_exports import check
from tests.exporters.test_exports import trained as trained_encoder
from tests.exporters.test_fused import kept, own
from tests.exporters_backbone.backends import BACKENDS
from tests.exporters_backbone.generators import Generator, generated, greedy_in_graphs, trained

Make = Callable[[Backend, str], Generator]
CASES = (("t5", "fused"), ("gpt2", "fused"), ("llama", "fused"), ("t5", "int8"), ("gpt2", "int8"), ("llama", "bits"))


def changed(source: Path, target: Path, how: str) -> None:
    """One graph of a directory, changed by a tool."""
    match how:
        case "fused":
            optimise(source, How.EXTENDED, target)
        case "int8":
            int8(source, target, Int8(per_channel=True))
        case "bits":
            bits4(source, target, Bits4())


@pytest.mark.spec("ONX-4", "ONX-23", "ONX-28", "ONX-31")
@pytest.mark.parametrize(("model_type", "how"), CASES)
def test_generators(make_generator: Make, tmp_path: Path, model_type: str, how: str) -> None:
    generator = make_generator(BACKENDS[0], model_type)
    graphs = Path(shutil.copytree(generator.graphs, tmp_path / "graphs"))
    for path in generator.graphs.glob("*.onnx"):
        changed(path, graphs / path.name, how)
    assert how == "int8" or any(own(path) != own(generator.graphs / path.name) for path in graphs.glob("*.onnx"))
    for preset in ATTACH_PRESETS if how == "fused" and not generator.is_encoder_decoder else ("houlsby",):
        adapter, merged = trained(generator.model, ATTACH_PRESETS[preset]), tmp_path / preset
        if generator.is_encoder_decoder:
            graft_directory(graphs, adapter, merged)
            report = verify(merged, adapter)
        else:
            graft(graphs / "model.onnx", adapter, merged / "model.onnx")
            report = verify(merged / "model.onnx", adapter)
        assert report.ok, report.as_text()
        for path in graphs.glob("*.onnx"):
            assert kept(merged / path.name, path) == own(path)
        if how == "fused":
            expected = generated(generator.model, generator.prompts, beams=1)
            tokens, _ = greedy_in_graphs(GraphDecoder.load(merged), generator.prompts.numpy())
            np.testing.assert_array_equal(tokens, expected.numpy())
        detach(generator.model)


@pytest.mark.skipif(
    int(transformers.__version__.split(".")[0]) >= 5, reason="its BERT is not what the fusion looks for"
)
@pytest.mark.spec("ONX-4", "ONX-27", "ONX-28")
@pytest.mark.parametrize("preset", ATTACH_PRESETS)
def test_fused_attention_and_embeddings(tmp_path: Path, preset: str) -> None:
    export_tiny("bert", "torchscript14", tmp_path / "exported.onnx")
    backbone = optimise(tmp_path / "exported.onnx", How.TRANSFORMERS, tmp_path / "backbone.onnx")
    assert {name: own(backbone)[name] for name in ("Attention", "EmbedLayerNormalization")} == {
        "Attention": 2,
        "EmbedLayerNormalization": 1,
    }
    check(backbone, tmp_path / "merged.onnx", *trained_encoder("bert", preset=preset))
    assert kept(tmp_path / "merged.onnx", backbone) == own(backbone)


@pytest.mark.skipif(
    int(transformers.__version__.split(".")[0]) >= 5, reason="its BERT is not what the fusion looks for"
)
def test_a_norm_inside_the_embeddings_is_the_same_for_all_rows(tmp_path: Path) -> None:
    export_tiny("bert", "torchscript14", tmp_path / "exported.onnx")
    backbone = optimise(tmp_path / "exported.onnx", How.TRANSFORMERS, tmp_path / "backbone.onnx")
    adapter, _ = trained_encoder("bert", preset="houlsby")
    with pytest.raises(CompacterError, match="EmbedLayerNormalization") as caught:
        graft_bank(backbone, adapter, tmp_path / "bank.onnx")
    assert caught.value.code is ErrorCode.E605
