"""From AdapterHub's directory to ONNX Runtime in one command."""

import json
from pathlib import Path

import pytest
import torch
from adapters import CompacterConfig, CompacterPlusPlusConfig

from compacter_core.cli.main import main
from compacter_core.importers.adapterhub import from_adapterhub
from compacter_core.pytorch import attach_adapter
from compacter_core.pytorch.known_backbone import open_backbone
from tests.interop_adapterhub.graphs import export, greedy, merge, output_name, run_graph
from tests.interop_adapterhub.sources import SHARED_FILE, Source, difference
from tests.interop_adapterhub.world import RELATIVE_F32, load_plain


def graft_command(source: Source, graphs: Path, directory: Path, output: Path) -> list[str]:
    return [
        *("graft", str(graphs), str(directory), "-o", str(output)),
        *("--from", "adapterhub", "--trained-on", str(source.backbone)),
    ]


def test_encoder_and_head_in_one_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = Source(tmp_path, "DistilBertForSequenceClassification", "distilbert", dtype=torch.float32)
    graphs = export(source, tmp_path)
    directory = source.save(tmp_path, CompacterPlusPlusConfig(phm_dim=2, reduction_factor=4))
    assert main([*graft_command(source, graphs, directory, tmp_path / "merged"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["notes"] == []
    name = output_name(source.model_class)
    want = {name: source.outputs()[name]}
    assert difference(want, {name: run_graph(tmp_path / "merged" / "model.onnx", source)}) <= RELATIVE_F32
    assert difference(want, {name: run_graph(graphs, source)}) > 1e3 * RELATIVE_F32
    assert main(["extract", str(tmp_path / "merged" / "model.onnx"), "-o", str(tmp_path / "a.safetensors")]) == 0
    model = str(tmp_path / "merged" / "model.onnx")
    assert main(["verify", model, "--adapter", str(tmp_path / "a.safetensors")]) == 0


def test_generation(tmp_path: Path) -> None:
    """AdapterHub, PyTorch and the graphs write the same text, token by token."""
    source = Source(tmp_path, "T5ForConditionalGeneration", "t5", dtype=torch.float32)
    graphs = export(source, tmp_path)
    directory = source.save(tmp_path, CompacterConfig(phm_dim=2, reduction_factor=4, cross_adapter=True))
    command = graft_command(source, graphs, directory, tmp_path / "merged")
    assert main(command) == 2  # without the rule that AdapterHub lost
    assert not (tmp_path / "merged").exists()
    assert main([*command, "--shared-parameters", str(tmp_path / SHARED_FILE)]) == 0
    prompt, start, steps = source.inputs["input_ids"], 0, 8
    options = {"max_new_tokens": steps, "min_new_tokens": steps, "do_sample": False, "decoder_start_token_id": start}
    theirs = source.model.generate(input_ids=prompt, **options).tolist()
    imported = from_adapterhub(
        directory, backbone=open_backbone(source.backbone), shared_parameters=tmp_path / SHARED_FILE
    )
    model = load_plain(source, source.model_class)
    without = model.generate(input_ids=prompt, **options).tolist()
    attach_adapter(model, imported.adapter)
    assert model.generate(input_ids=prompt, **options).tolist() == theirs
    written = greedy(tmp_path / "merged", prompt, start, steps)
    assert without != theirs
    assert written == theirs
    merged = merge(graphs, imported.adapter, directory, tmp_path / "again")
    assert difference({"": source.outputs()["logits"]}, {"": run_graph(merged, source)}) <= RELATIVE_F32


@pytest.mark.parametrize(
    "options", [["--trained-on", "x"], ["--allow-pickle"], ["--without-head"], ["--shared-parameters", "x"]]
)
def test_options_of_an_import_need_one(options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graft", str(tmp_path / "model.onnx"), "adapter", "-o", str(tmp_path / "merged"), *options]) == 2
    assert "E001" in capsys.readouterr().err


def test_an_import_needs_the_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graft", str(tmp_path / "model.onnx"), "a", "-o", str(tmp_path), "--from", "adapterhub"]) == 2
    assert "--trained-on" in capsys.readouterr().err
