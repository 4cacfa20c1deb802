"""A bank in a session: every row its own adapter, growing and shrinking, labels of different numbers."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compacter_core.adapter import Adapter, Array
from compacter_core.config import Projection
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.writer import save_adapter
from compacter_exporters.graft import graft
from compacter_exporters.linkage.bank import graft_bank
from compacter_exporters.verify import AGREEMENT
from compacter_runtime import Session
from tests.exporters.stacks import LABELS, ROWS, BackboneStack, StackOptions, make_adapter

COMPACTER = Projection.compacter(phm_dim=2)
TOKENS = np.random.default_rng(5).integers(0, ROWS, (9, 6))
INPUTS = {"input_ids": TOKENS}


@dataclass
class Served:
    """A bank's file, the bare backbone, and a maker of adapters for it."""

    model: Path
    backbone: Path
    stack: BackboneStack

    def adapter(self, name: str, seed: int, *, labels: int = 5, bottleneck: int = 4, **changes: Any) -> Adapter:
        made = make_adapter(self.stack, projection=COMPACTER, bottleneck=bottleneck, seed=seed, **changes)
        generator = np.random.default_rng(seed)
        head = made.config.head
        assert head is not None
        shapes = {"classifier.weight": (labels, 8), "classifier.bias": (labels,)}
        names = tuple(f"{name}{index}" for index in range(labels))
        config = replace(made.config, name=name, head=replace(head, shapes=shapes, labels=names))
        own = {f"head.{key}": generator.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()}
        return replace(made, config=config, tensors={**made.tensors, **own})

    def alone(self, adapter: Adapter, folder: Path) -> Array:
        """Logits of the adapter's own merged graph."""
        graft(self.backbone, adapter, folder / "merged.onnx")
        return Session(folder / "merged.onnx").run(INPUTS)["logits"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    folder = tmp_path_factory.mktemp("served")
    stack = BackboneStack(StackOptions(), hidden=8, seed=0)
    backbone = stack.save(folder / "backbone.onnx")
    made = Served(folder / "bank.onnx", backbone, stack)
    graft_bank(backbone, made.adapter("template", 0), made.model)
    return made


def agree(got: Array, expected: Array) -> bool:
    return bool(np.abs(got - expected).max() <= AGREEMENT * np.abs(expected).max())


@pytest.mark.spec("LNK-11", "LNK-12", "LNK-14")
def test_every_row_has_its_own_adapter(served: Served, tmp_path: Path) -> None:
    """Other label counts, bottlenecks and biases than the template's; each row is what its own merged graph gives."""
    session = Session(served.model)
    adapters = [
        served.adapter("a", 1),
        served.adapter("b", 2, labels=2, bottleneck=2),
        served.adapter("c", 3, labels=7, bias_up=False),
        served.adapter("d", 4, overrides=()),
    ]
    for adapter in adapters:
        assert session.bank.add(adapter) == adapter.config.name
    choice = ["a", None, "b", "c", "d", "c", None, "a", "b"]
    got = session.run(INPUTS, adapter=choice)["logits"]
    assert got.shape == (9, 7)
    expected = {adapter.config.name: served.alone(adapter, tmp_path) for adapter in adapters}
    bare = Session(served.backbone).run(INPUTS)["logits"]
    for row, name in enumerate(choice):
        alone = (bare if name is None else expected[name])[row]
        assert agree(got[row, : len(alone)], alone)
        assert np.isneginf(got[row, len(alone) :]).all()
    predictions = session.classify(INPUTS, adapter=choice)
    for row, (name, prediction) in enumerate(zip(choice, predictions, strict=True)):
        alone = (bare if name is None else expected[name])[row]
        assert prediction.label == f"{name or ''}{alone.argmax()}"


@pytest.mark.spec("LNK-13")
def test_a_bank_grows_and_shrinks_without_a_new_graph(served: Served) -> None:
    session = Session(served.model)
    bank = session.bank
    alone = {}
    for index in range(11):
        adapter = served.adapter(f"n{index}", index, labels=1 + index)
        assert bank.add(adapter) == f"n{index}"
        alone[f"n{index}"] = session.run(INPUTS, adapter=f"n{index}")["logits"]
    assert bank.names == tuple(alone)
    assert bank.capacity >= 11
    grown = bank.capacity
    for name in ("n2", "n7"):
        bank.remove(name)
    bank.add(served.adapter("late", 50))
    bank.add(served.adapter("later", 51))
    assert bank.capacity == grown
    for name in bank.names:
        got = session.run(INPUTS, adapter=name)["logits"]
        if name in alone:
            columns = alone[name].shape[1]
            assert np.array_equal(got[:, :columns], alone[name])
            assert np.isneginf(got[:, columns:]).all()
    assert code_of(lambda: session.run(INPUTS, adapter="n2")) is ErrorCode.E703


@pytest.mark.spec("LNK-11")
def test_batches_keep_rows_and_adapters_together(served: Served) -> None:
    session = Session(served.model)
    session.bank.add(served.adapter("a", 1))
    session.bank.add(served.adapter("b", 2))
    choice = ["a", "b", None, "b", "a", None, "a", "b", "a"]
    whole = session.run(INPUTS, adapter=choice)["logits"]
    assert agree(session.run(INPUTS, adapter=choice, batch_size=2)["logits"][:, :3], whole[:, :3])
    for row in range(9):
        one = session.run({"input_ids": TOKENS[row : row + 1]}, adapter=[choice[row]])["logits"][0]
        assert agree(one[:LABELS], whole[row, :LABELS])


def test_an_adapter_is_replaced_by_name(served: Served) -> None:
    session = Session(served.model)
    session.bank.add(served.adapter("a", 1))
    before = session.run(INPUTS, adapter="a")["logits"]
    session.bank.add(served.adapter("a", 2), name="b")
    assert np.array_equal(session.run(INPUTS, adapter="a")["logits"], before)
    session.bank.add(served.adapter("a", 2))
    after = session.run(INPUTS, adapter="a")["logits"]
    assert np.array_equal(after, session.run(INPUTS, adapter="b")["logits"])
    assert not np.array_equal(after, before)


@pytest.mark.spec("LNK-13")
def test_what_was_chosen_stays_when_the_bank_changes(served: Served) -> None:
    """A generation goes on with its adapters while others come."""
    session = Session(served.model)
    name = session.bank.add(served.adapter("one", 1))
    chosen, expected = session.bank.choose(name, len(TOKENS)), session.run(INPUTS, adapter=name)["logits"]
    for seed in range(2, 9):  # grows
        session.bank.add(served.adapter(f"other{seed}", seed))
    feed = {**INPUTS, **chosen.feeds(np.arange(len(TOKENS)))}
    np.testing.assert_array_equal(session._session.run(["logits"], feed)[0], expected)


@pytest.mark.spec("LNK-15")
def test_a_resident_adapter_is_no_larger_than_its_file(tmp_path: Path) -> None:
    stack = BackboneStack(StackOptions(sublayers=8), hidden=96, seed=0)
    backbone = stack.save(tmp_path / "backbone.onnx")
    adapter = make_adapter(stack, projection=Projection.compacter(phm_dim=4), bottleneck=24)
    save_adapter(adapter, tmp_path / "adapter.safetensors")
    graft_bank(backbone, adapter, tmp_path / "bank.onnx")
    session = Session(tmp_path / "bank.onnx")
    session.bank.add(tmp_path / "adapter.safetensors")
    assert session.bank.bytes_per_adapter <= 1.1 * (tmp_path / "adapter.safetensors").stat().st_size


def code_of(action: Callable[[], object]) -> ErrorCode:
    with pytest.raises(CompacterError) as caught:
        action()
    return caught.value.code


@pytest.mark.spec("LNK-14")
@pytest.mark.parametrize(
    "changes",
    [
        {"projection": Projection.compacter(phm_dim=4)},
        {"projection": Projection.compacter(phm_dim=2, phm_rank=2)},
        {"projection": replace(COMPACTER, shared_phm_rule=False)},
        {"bottleneck": 6},
    ],
    ids=["phm_dim", "rank", "rule", "bottleneck"],
)
def test_adapters_that_do_not_fit_are_refused(served: Served, changes: dict[str, Any]) -> None:
    adapter = make_adapter(served.stack, **{"projection": COMPACTER, "bottleneck": 4, **changes})
    session = Session(served.model)
    assert code_of(lambda: session.bank.add(adapter)) is ErrorCode.E605
    assert session.bank.names == ()


def test_wrong_choices_are_refused(served: Served) -> None:
    session = Session(served.model)
    session.bank.add(served.adapter("a", 1))
    assert code_of(lambda: session.run(INPUTS, adapter=["a"])) is ErrorCode.E703
    assert code_of(lambda: session.run(INPUTS, adapter="b")) is ErrorCode.E703
    assert code_of(lambda: session.run(INPUTS, adapter=Path("a"))) is ErrorCode.E703
    assert code_of(lambda: session.bank.remove("b")) is ErrorCode.E703
    assert code_of(lambda: session.load_adapter("a")) is ErrorCode.E703
    assert code_of(lambda: Session(served.backbone).bank) is ErrorCode.E703
