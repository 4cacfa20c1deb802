"""Models that write, open for adapters: token for token what PyTorch writes, greedily and with beams."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compacter_core.adapter import Adapter
from compacter_core.config import ATTACH_PRESETS
from compacter_core.linkage.kinds import Linkage
from compacter_core.pytorch import detach
from compacter_exporters.choices import Backend
from compacter_exporters.graft import graft
from compacter_exporters.graft_set import graft_directory
from compacter_exporters.linkage.bank import graft_bank
from compacter_exporters.linkage.open_set import open_directory
from compacter_exporters.linkage.swappable import graft_swappable
from compacter_exporters.verify import verify
from compacter_runtime import Generator as GraphGenerator
from compacter_runtime.decoder import GraphDecoder, graph_files
from compacter_runtime.generating_model import GeneratingModel
from tests.exporters_backbone.backends import BACKENDS
from tests.exporters_backbone.generators import NEW_TOKENS, PAD, Generator, generated, trained

Make = Callable[[Backend, str], Generator]
BEAMS = (1, 3)
PRESETS = ("houlsby", "pfeiffer", "parallel")
# One of each kind: T5 and BART in several graphs, in optimum's exports with branches too; GPT-2 and Llama in one.
# Gemma's norms multiply with 1 + weight.
MODEL_TYPES = {
    Backend.TRANSFORMERS: ("gemma", "gpt2", "llama", "t5"),
    Backend.OPTIMUM: ("bart", "gemma", "gpt2", "llama", "t5"),
}
CASES = [(backend, model_type) for backend in BACKENDS for model_type in MODEL_TYPES[backend]]


@pytest.fixture(params=CASES, ids="-".join, scope="module")
def generator(request: pytest.FixtureRequest, make_generator: Make) -> Generator:
    return make_generator(*request.param)


def linked(generator: Generator, adapter: Adapter, output: Path, linkage: Linkage) -> Path:
    """A directory that `compacter_runtime.Generator` takes."""
    graphs = generator.graphs
    if generator.is_encoder_decoder:
        if linkage is Linkage.MERGED:
            graft_directory(graphs, adapter, output)
        else:
            open_directory(graphs, adapter, output, linkage)
        return output
    writers: dict[Linkage, Any] = {Linkage.SWAPPABLE: graft_swappable, Linkage.BANK: graft_bank, Linkage.MERGED: graft}
    writers[linkage](graphs / "model.onnx", adapter, output / "model.onnx")
    for name in ("config.json", "generation_config.json"):
        (output / name).write_bytes((graphs / name).read_bytes())
    return output


def assert_writes(
    graphs: GraphGenerator, prompts: torch.Tensor, expected: dict[int, torch.Tensor], adapter: Any
) -> None:
    """Greedily without PyTorch, and with `generate`."""
    tokens = graphs.generate({"input_ids": prompts.numpy()}, adapter=adapter, max_new_tokens=NEW_TOKENS)
    np.testing.assert_array_equal(tokens, expected[1].numpy())
    model = GeneratingModel(graphs, adapter=adapter)
    for beams in BEAMS:
        assert torch.equal(generated(model, prompts, beams=beams), expected[beams])


def mixed(first: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """The rows of `others` with the first of `first`, as long as the longest of them."""
    length = max(first.shape[1], others.shape[1])
    first, others = (torch.nn.functional.pad(one, (0, length - one.shape[1]), value=PAD) for one in (first, others))
    rows = torch.cat([first[:1], others[1:]])
    return rows[:, : int((rows != PAD).any(dim=0).nonzero().max()) + 1]


@pytest.mark.spec("ONX-4", "ONX-45", "LNK-1", "LNK-2", "LNK-11", "LNK-19")
@pytest.mark.parametrize("preset", PRESETS)
def test_tokens_are_pytorchs_in_every_linkage(generator: Generator, preset: str, tmp_path: Path) -> None:
    model, prompts = generator.model, generator.prompts
    bare = {beams: generated(model, prompts, beams=beams) for beams in BEAMS}
    adapter = trained(model, ATTACH_PRESETS[preset])
    expected = {beams: generated(model, prompts, beams=beams) for beams in BEAMS}
    detach(model)
    assert all(not torch.equal(bare[beams], expected[beams]) for beams in BEAMS)

    assert_writes(GraphGenerator(linked(generator, adapter, tmp_path / "m", Linkage.MERGED)), prompts, expected, None)

    swappable = GraphGenerator(linked(generator, adapter, tmp_path / "s", Linkage.SWAPPABLE))
    assert_writes(swappable, prompts, bare, None)
    assert_writes(swappable, prompts, expected, swappable.load_adapter(adapter))

    bank = GraphGenerator(linked(generator, adapter, tmp_path / "b", Linkage.BANK))
    name = bank.adapters.add(adapter)
    assert_writes(bank, prompts, expected, name)
    both = {beams: mixed(bare[beams], expected[beams]) for beams in BEAMS}
    assert_writes(bank, prompts, both, [None, name, name])


@pytest.mark.spec("LNK-2", "LNK-16", "LNK-18")
def test_open_graphs_are_the_backbone_until_they_get_an_adapter(generator: Generator, tmp_path: Path) -> None:
    """Bit for bit in every graph and branch, and with the adapter each passes `verify`."""
    adapter = trained(generator.model)
    detach(generator.model)
    prompts = generator.prompts.numpy()
    folder = linked(generator, adapter, tmp_path / "swappable", Linkage.SWAPPABLE)
    for merged in (False, True):
        if all(path.exists() for path in graph_files(folder, merged=merged)):
            bare, opened = (steps(GraphDecoder.load(one, merged=merged), prompts) for one in (generator.graphs, folder))
            assert all(np.array_equal(one, other) for one, other in zip(bare, opened, strict=True))
    for linkage in (Linkage.SWAPPABLE, Linkage.BANK):
        folder = linked(generator, adapter, tmp_path / f"open-{linkage}", linkage)
        verified = verify(folder if generator.is_encoder_decoder else folder / "model.onnx", adapter)
        assert verified.ok, verified.as_text()


def steps(decoder: GraphDecoder, prompts: Any) -> list[Any]:
    """Logits of a prompt and of two tokens behind it."""
    state = decoder.start(prompts[:, :5], np.ones_like(prompts[:, :5]))
    parts = []
    for start, stop in ((0, 5), (5, 6), (6, 7)):
        if decoder.encoder is None:
            state.mask = np.ones_like(prompts[:, :stop])
        parts.append(decoder.step(prompts[:, start:stop], state))
    return parts
