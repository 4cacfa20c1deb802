"""Checkpoints in the layout of the paper's code compute here what the paper's equations give; others are refused."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import torch

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.writer import adapter_bytes
from compacter_core.importers.paper import from_compacter_paper
from compacter_core.importers.result import ImportedAdapter
from compacter_core.layout import Part, count_parameters
from compacter_core.vocabulary import Activation, OverrideKind, ProjectionKind
from tests.importers.checkpoints import save_index, save_pickle
from tests.importers.comparing import Recorded, check_outputs
from tests.importers.conftest import KnownBackbones
from tests.importers.fixtures.make_paper import CASES, WIDTH
from tests.importers.fixtures.tiny import HIDDEN, build
from tests.importers.sources import Change, change_options, change_state, put, remove

FIXTURES: Final = Path(__file__).parent / "fixtures" / "paper"
T5: Final = ("T5ForConditionalGeneration", "t5")
CONTROLLER: Final = "encoder.block.1.layer.0.adapter_controller"
ADAPTER: Final = f"{CONTROLLER}.adapters.mrpc"

Import = Callable[..., ImportedAdapter]


@pytest.fixture
def source(tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a fixture that a test may change."""
    return lambda case: Path(shutil.copytree(FIXTURES / case, tmp_path / "source"))


@pytest.fixture
def imported(known: KnownBackbones) -> Import:
    """The adapter in a directory."""

    def read(directory: Path, *, allow_pickle: bool = True, **options: Any) -> ImportedAdapter:
        return from_compacter_paper(directory, **{"backbone": known(*T5), "allow_pickle": allow_pickle, **options})

    return read


def refused(imported: Import, directory: Path, code: ErrorCode, **options: Any) -> CompacterError:
    with pytest.raises(CompacterError) as caught:
        imported(directory, **options)
    assert caught.value.code is code, caught.value
    return caught.value


@pytest.mark.parametrize("case", CASES)
def test_outputs_are_those_of_the_equations(imported: Import, case: str) -> None:
    result = imported(FIXTURES / case)
    assert result.adapter.sketches
    check_outputs(result, Recorded.load(FIXTURES / case), build(*T5))


def test_every_case_has_a_fixture() -> None:
    assert {path.name for path in FIXTURES.iterdir()} == set(CASES)


def test_the_shared_rule_is_one_tensor(imported: Import) -> None:
    adapter = imported(FIXTURES / "compacter").adapter
    config = adapter.config
    assert (config.method, config.name, config.non_linearity) == ("compacter", "mrpc", Activation.GELU_NEW)
    assert config.projection.shared_phm_rule
    assert set(adapter.part(Part.SHARED)) == {"phm_rule"}
    sites, n, rank = 6, 2, 1
    assert [site.id for site in config.sites][-1] == "decoder.0.ffn"
    assert count_parameters(config) == n**3 + sites * (2 * rank * (HIDDEN + WIDTH) + HIDDEN + WIDTH)


def test_everything_can_be_shared(imported: Import) -> None:
    adapter = imported(FIXTURES / "compacter++-all-shared").adapter
    assert adapter.config.method == "compacter++"
    assert set(adapter.part(Part.SHARED)) == {
        "phm_rule_left",
        "phm_rule_right",
        "down.W_left",
        "down.W_right",
        "up.W_left",
        "up.W_right",
    }


def test_trained_norms_become_overrides(imported: Import) -> None:
    config = imported(FIXTURES / "compacter").adapter.config
    assert {override.kind for override in config.overrides} == {OverrideKind.NORM}
    assert len(config.overrides) == 2 * 2 + 1 + 3 + 1  # of the encoder's layers and its last, and of the decoder's
    assert imported(FIXTURES / "adapter-drop").adapter.config.overrides == ()


def test_defaults_of_the_program_hold(imported: Import) -> None:
    config = imported(FIXTURES / "adapter-drop").adapter.config
    assert config.projection.kind is ProjectionKind.DENSE
    assert config.non_linearity is Activation.SILU
    assert [site.id for site in config.sites] == [
        "encoder.1.self_attn",
        "encoder.1.ffn",
        "decoder.0.self_attn",
        "decoder.0.ffn",
    ]


@pytest.mark.parametrize("kept", ["phm_rule", f"{ADAPTER}.up_sampler.phm_rule"])
def test_one_name_of_the_shared_rule_is_enough(imported: Import, source: Callable[[str], Path], kept: str) -> None:
    directory = source("compacter")
    wanted = imported(directory).adapter.tensors["shared.phm_rule"]

    def change(state: dict[str, torch.Tensor]) -> None:
        for key in [key for key in state if key.endswith("phm_rule") and key != kept]:
            del state[key]

    change_state(directory / "pytorch_model.bin", change)
    assert (imported(directory).adapter.tensors["shared.phm_rule"] == wanted).all()


def test_shards_are_read_through_their_index(imported: Import, source: Callable[[str], Path]) -> None:
    directory, wanted = source("compacter"), imported(FIXTURES / "compacter")
    state = torch.load(directory / "pytorch_model.bin")
    places = {key: f"shard-{index % 2}.bin" for index, key in enumerate(state)}
    for shard in set(places.values()):
        save_pickle(directory / shard, {key: tensor for key, tensor in state.items() if places[key] == shard})
    (directory / "pytorch_model.bin").unlink()
    save_index(directory / "pytorch_model.bin.index.json", places)
    assert adapter_bytes(imported(directory).adapter) == adapter_bytes(wanted.adapter)


def test_an_untied_copy_of_the_head_is_only_checked_if_asked(imported: Import, source: Callable[[str], Path]) -> None:
    directory = source("compacter")
    change_state(directory / "pytorch_model.bin", put("lm_head.weight", torch.ones(20, HIDDEN)))
    refused(imported, directory, ErrorCode.E502)
    assert any("left out" in note for note in imported(directory, with_head=False).notes)


def test_a_t5_is_needed(imported: Import, known: KnownBackbones) -> None:
    refused(imported, FIXTURES / "compacter", ErrorCode.E001, backbone=None)
    refused(imported, FIXTURES / "compacter", ErrorCode.E401, backbone=known("BertModel", "bert"))


def test_pickles_need_the_opt_in(imported: Import) -> None:
    refused(imported, FIXTURES / "compacter", ErrorCode.E112, allow_pickle=False)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"add_layer_norm_before_adapter": True}, ErrorCode.E502),
        ({"add_layer_norm_after_adapter": True}, ErrorCode.E502),
        ({"add_layer_norm_after_adapter": None}, ErrorCode.E502),
        ({"bitfit": True}, ErrorCode.E502),
        ({"intrinsic_model": True}, ErrorCode.E502),
        ({"prefix_tuning": True}, ErrorCode.E502),
        ({"train_task_adapters": False}, ErrorCode.E502),
        ({"train_task_adapters": None}, ErrorCode.E502),
        ({"non_linearity": "mish"}, ErrorCode.E502),
        ({"non_linearity": 1}, ErrorCode.E501),
        ({"shared_phm_rule": "yes"}, ErrorCode.E501),
        ({"task_adapter_layers_encoder": "all"}, ErrorCode.E501),
        ({"task_adapter_layers_encoder": [True]}, ErrorCode.E501),
        ({"task_adapter_layers_encoder": [0]}, ErrorCode.E303),
        ({"add_adapter_in_self_attention": False}, ErrorCode.E303),
        ({"task_adapter_in_decoder": False}, ErrorCode.E303),
        ({"task_reduction_factor": 4}, ErrorCode.E304),
        ({"task_reduction_factor": 0}, ErrorCode.E501),
        ({"phm_rank": 2}, ErrorCode.E304),
        ({"hypercomplex_division": None}, ErrorCode.E304),
        ({"factorized_phm": False}, ErrorCode.E301),
        ({"factorized_phm_rule": True}, ErrorCode.E302),
        ({"shared_phm_rule": False}, ErrorCode.E303),
        ({"shared_W_phm": True}, ErrorCode.E307),
        ({"hypercomplex_adapters": False}, ErrorCode.E301),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else value.name,
)
def test_options_are_refused(
    imported: Import, source: Callable[[str], Path], changes: dict[str, Any], code: ErrorCode
) -> None:
    directory = source("compacter")
    change_options(directory / "training_config.json", **changes)
    refused(imported, directory, code)


def test_ranks_that_are_multiplied_elementwise_are_refused(imported: Import, source: Callable[[str], Path]) -> None:
    directory = source("low-rank")
    change_options(directory / "training_config.json", low_rank_rank=2)
    refused(imported, directory, ErrorCode.E503)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (put("phm_rule", torch.ones(2, 2, 2)), ErrorCode.E307),
        (put(f"{ADAPTER}.up_sampler.phm_rule", torch.ones(2, 2, 2)), ErrorCode.E307),
        (put(f"{ADAPTER}.up_sampler.phm_rule", torch.ones(4, 2, 1)), ErrorCode.E304),
        (put(f"{ADAPTER}.up_sampler.b", torch.full((HIDDEN,), torch.inf)), ErrorCode.E306),
        (put(f"{CONTROLLER}.pre_layer_norm.weight", torch.ones(HIDDEN)), ErrorCode.E303),
        (put(f"{ADAPTER.replace('mrpc', 'cola')}.up_sampler.b", torch.ones(HIDDEN)), ErrorCode.E502),
        (put(f"{ADAPTER.replace('layer.0', 'layer.2')}.up_sampler.b", torch.ones(HIDDEN)), ErrorCode.E303),
        (put("prefix_shared", torch.ones(3, HIDDEN)), ErrorCode.E303),
        (put("shared.weight", torch.ones(20, HIDDEN)), ErrorCode.E502),
        (put("encoder.block.0.layer.1.layer_norm.weight", torch.ones(3)), ErrorCode.E304),
        (remove("phm_rule"), ErrorCode.E302),
        (remove(f"{ADAPTER}.up_sampler.W_left"), ErrorCode.E301),
        (remove(ADAPTER), ErrorCode.E301),
        (lambda state: [state.pop(key) for key in list(state) if "adapters" in key], ErrorCode.E301),
    ],
)
def test_tensors_are_refused(imported: Import, source: Callable[[str], Path], change: Change, code: ErrorCode) -> None:
    directory = source("compacter")
    change_state(directory / "pytorch_model.bin", change)
    refused(imported, directory, code)


@pytest.mark.parametrize("name", ["training_config.json", "pytorch_model.bin"])
def test_missing_files_are_refused(imported: Import, source: Callable[[str], Path], name: str) -> None:
    directory = source("compacter")
    (directory / name).unlink()
    refused(imported, directory, ErrorCode.E501)
