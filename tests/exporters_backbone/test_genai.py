"""onnxruntime-genai: its builder's graphs are grafted, and it writes with them what PyTorch writes, token for token."""

import runpy
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from compacter_core.adapter import Adapter, Array
from compacter_core.linkage.description import read_description
from compacter_core.pytorch import detach
from compacter_exporters.graft import graft
from compacter_exporters.graph import load_graph
from compacter_exporters.linears import find_linears
from compacter_exporters.linkage.bank import graft_bank
from compacter_exporters.linkage.swappable import graft_swappable
from compacter_exporters.verify import verify
from compacter_runtime.onnx_adapter import write_packed
from tests.exporters_backbone.generators import END, PAD, START, trained
from tests.support.backbones import randomise

og = pytest.importorskip("onnxruntime_genai")
pytest.importorskip("transformers.exporters", reason="the builder needs transformers 5")

# The builder tells a matrix from its transpose by its shape: no other size is as large as the hidden one.
HIDDEN, VOCABULARY, LENGTH, NEW = 64, 80, 7, 10
PRECISIONS: Mapping[str, tuple[str, ...]] = {"fp32": (), "int4": ("--extra_options", "accuracy_level=1")}


def build(checkpoint: Path, output: Path, precision: str) -> None:
    """Run the builder's command in this process, where its imports are loaded already."""
    command = ["builder", "-m", checkpoint, "-o", output, "-e", "cpu", "-p", precision, "-c", output.parent / "cache"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [*map(str, command), *PRECISIONS[precision]])
        runpy.run_module("onnxruntime_genai.models.builder", run_name="__main__")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint and what the builder makes of it."""
    folder = tmp_path_factory.mktemp("genai")
    ids = {"pad_token_id": PAD, "bos_token_id": START, "eos_token_id": END}
    config = LlamaConfig(
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=96,
        vocab_size=VOCABULARY,
        max_position_embeddings=64,
        **ids,
    )
    with torch.random.fork_rng(devices=[]):
        model = LlamaForCausalLM(config)
    randomise(model, seed=3)
    model.save_pretrained(folder / "checkpoint")
    tokenizer = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCABULARY)}, unk_token=f"w{PAD}"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"pad_token": f"w{PAD}", "bos_token": f"w{START}", "eos_token": f"w{END}"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder / "checkpoint")
    for precision in PRECISIONS:
        build(folder / "checkpoint", folder / precision, precision)
    return folder


def beside(built: Path, output: Path) -> Path:
    """A directory for a grafted model, with all that onnxruntime-genai needs beside it."""
    output.mkdir()
    for path in built.iterdir():
        if not path.name.startswith("model.onnx"):
            shutil.copy(path, output)
    return output


def prompts() -> torch.Tensor:
    return torch.randint(3, VOCABULARY, (2, LENGTH), generator=torch.Generator().manual_seed(5))


def written(folder: Path, adapter: Path | None = None) -> Array:
    """What onnxruntime-genai writes greedily, with an adapter of ONNX Runtime's format or without."""
    model = og.Model(str(folder))
    parameters = og.GeneratorParams(model)
    rows = len(prompts())
    length = LENGTH + NEW
    parameters.set_search_options(max_length=length, min_length=length, batch_size=rows, do_sample=False)
    generator = og.Generator(model, parameters)
    adapters = og.Adapters(model)
    if adapter is not None:
        adapters.load(str(adapter), "mine")
        generator.set_active_adapter(adapters, "mine")
    generator.append_tokens(prompts().numpy().astype(np.int32))
    while not generator.is_done():
        generator.generate_next_token()
    return np.stack([generator.get_sequence(row) for row in range(rows)])


def expected(model: Any) -> Array:
    tokens: Array = model.generate(
        prompts(),
        attention_mask=torch.ones_like(prompts()),
        max_new_tokens=NEW,
        min_new_tokens=NEW,
        do_sample=False,
    ).numpy()
    return tokens


def with_weights_of(model: Any, graph: Path) -> None:
    """Give a model the weights of the builder's graph, which int4 has rounded."""
    by_name = {str(layer.node.name): layer for layer in find_linears(load_graph(graph).graph)}
    for index, block in enumerate(model.model.layers):
        where = f"/model/layers.{index}"
        attention, mlp = block.self_attn, block.mlp
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        packed = torch.split(_weight(by_name, f"{where}/attn/qkv_proj"), [part.out_features for part in parts])
        for part, weight in zip(parts, packed, strict=True):
            part.weight.data.copy_(weight)
        attention.o_proj.weight.data.copy_(_weight(by_name, f"{where}/attn/o_proj"))
        for name in ("gate_proj", "up_proj", "down_proj"):
            getattr(mlp, name).weight.data.copy_(_weight(by_name, f"{where}/mlp/{name}"))
    model.lm_head.weight.data.copy_(_weight(by_name, "/lm_head"))


def _weight(by_name: Mapping[str, Any], name: str) -> torch.Tensor:
    """The weight of a layer, [out, in]."""
    (layer,) = (one for node, one in by_name.items() if node.startswith(f"{name}/"))
    return torch.from_numpy(np.ascontiguousarray(layer.values().T))


@pytest.fixture(params=PRECISIONS)
def case(request: pytest.FixtureRequest, llama: Path) -> tuple[Path, Adapter, Array, Array]:
    """A built model, an adapter, and what PyTorch writes with the model's weights, without and with the adapter."""
    model = LlamaForCausalLM.from_pretrained(llama / "checkpoint", attn_implementation="eager").eval()
    adapter = trained(model)
    detach(model)
    with_weights_of(model, llama / request.param / "model.onnx")
    bare = expected(model)
    trained(model)
    return llama / request.param, adapter, bare, expected(model)


@pytest.mark.spec("ONX-4", "ONX-6")
def test_a_merged_adapter(case: tuple[Path, Adapter, Array, Array], tmp_path: Path) -> None:
    built, adapter, bare, tokens = case
    np.testing.assert_array_equal(written(built), bare)
    assert not np.array_equal(bare, tokens)
    folder = beside(built, tmp_path / "merged")
    graft(built / "model.onnx", adapter, folder / "model.onnx")
    np.testing.assert_array_equal(written(folder), tokens)
    report = verify(folder / "model.onnx", adapter)
    assert report.ok, report.as_text()


@pytest.mark.spec("LNK-1", "LNK-2", "LNK-8")
def test_an_adapter_that_genai_loads(case: tuple[Path, Adapter, Array, Array], tmp_path: Path) -> None:
    built, adapter, bare, tokens = case
    folder = beside(built, tmp_path / "swappable")
    graft_swappable(built / "model.onnx", adapter, folder / "model.onnx")
    description = read_description(load_graph(folder / "model.onnx").metadata_props)
    write_packed(tmp_path / "adapter.onnx_adapter", description, adapter)
    np.testing.assert_array_equal(written(folder), bare)
    np.testing.assert_array_equal(written(folder, tmp_path / "adapter.onnx_adapter"), tokens)


@pytest.mark.spec("LNK-1", "LNK-11")
@pytest.mark.parametrize("opened", [graft_swappable, graft_bank])
def test_open_graphs_pass_verify(
    case: tuple[Path, Adapter, Array, Array], opened: Callable[[Path, Adapter, Path], object], tmp_path: Path
) -> None:
    built, adapter, *_ = case
    opened(built / "model.onnx", adapter, tmp_path / "model.onnx")
    report = verify(tmp_path / "model.onnx", adapter)
    assert report.ok, report.as_text()
