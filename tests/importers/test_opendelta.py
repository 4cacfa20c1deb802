"""OpenDelta's checkpoints compute here what OpenDelta computed with them; what would not is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from safetensors.torch import save_file

from compacter_core.adapter import DType
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.writer import adapter_bytes
from compacter_core.importers.opendelta import from_opendelta
from compacter_core.importers.result import ImportedAdapter
from compacter_core.layout import Part
from compacter_core.vocabulary import Activation, OverrideKind, ProjectionKind
from tests.importers.comparing import Recorded, check_outputs
from tests.importers.conftest import KnownBackbones
from tests.importers.fixtures.tiny import HIDDEN, build
from tests.importers.sources import Change, change_options, change_state, put, remove

FIXTURES: Final = Path(__file__).parent / "fixtures" / "opendelta"
CASES: Final = {
    "bert-compacter": ("BertForSequenceClassification", "bert"),
    "bert-base-phm": ("BertModel", "bert"),
    "roberta-adapter": ("RobertaForSequenceClassification", "roberta"),
    "t5-compacter": ("T5ForConditionalGeneration", "t5"),
    "t5-whole-ffn": ("T5ForConditionalGeneration", "t5"),
    "t5-low-rank": ("T5ForConditionalGeneration", "t5"),
    "gpt2-compacter": ("GPT2LMHeadModel", "gpt2"),
    "gpt2-adapter": ("GPT2Model", "gpt2"),
}


@pytest.fixture
def source(tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a fixture that a test may change."""
    return lambda case: Path(shutil.copytree(FIXTURES / case, tmp_path / "source"))


Import = Callable[..., ImportedAdapter]


@pytest.fixture
def imported(known: KnownBackbones) -> Import:
    """The adapter in a directory, by the case that says which backbone it is of."""

    def read(directory: Path, case: str, *, allow_pickle: bool = True, **options: Any) -> ImportedAdapter:
        return from_opendelta(directory, backbone=known(*CASES[case]), allow_pickle=allow_pickle, **options)

    return read


def refused(imported: Import, directory: Path, case: str, code: ErrorCode, **options: Any) -> CompacterError:
    with pytest.raises(CompacterError) as caught:
        imported(directory, case, **options)
    assert caught.value.code is code, caught.value
    return caught.value


@pytest.mark.parametrize("case", CASES)
def test_outputs_are_those_of_opendelta(imported: Import, case: str) -> None:
    result = imported(FIXTURES / case, case)
    assert result.adapter.sketches
    assert result.adapter.dtype is DType.F32
    check_outputs(result, Recorded.load(FIXTURES / case), build(*CASES[case]))


def test_every_case_has_a_fixture() -> None:
    assert {path.name for path in FIXTURES.iterdir()} == set(CASES)


def test_options_become_configuration(imported: Import) -> None:
    config = imported(FIXTURES / "t5-compacter", "t5-compacter").adapter.config
    assert config.projection.kind is ProjectionKind.LPHM
    assert (config.projection.phm_dim, config.projection.phm_rank, config.projection.shared_phm_rule) == (2, 2, False)
    assert config.non_linearity is Activation.SILU
    assert [site.id for site in config.sites] == [
        "encoder.0.self_attn",
        "encoder.0.ffn",
        "encoder.1.self_attn",
        "encoder.1.ffn",
        "decoder.0.self_attn",
        "decoder.0.ffn",
    ]
    assert {site.bottleneck_size for site in config.sites} == {HIDDEN // 2}


def test_a_whole_model_gives_overrides_of_norms_alone(imported: Import) -> None:
    result = imported(FIXTURES / "t5-whole-ffn", "t5-whole-ffn")
    kinds = {override.name: override.kind for override in result.adapter.config.overrides}
    assert kinds
    assert set(kinds.values()) == {OverrideKind.NORM}
    assert all(name.endswith("layer_norm.weight") for name in kinds)
    assert result.adapter.config.head is None
    assert any("left to it" in note for note in result.notes)


def test_a_trained_bias_becomes_an_override(imported: Import) -> None:
    config = imported(FIXTURES / "gpt2-adapter", "gpt2-adapter").adapter.config
    assert {override.name: override.kind for override in config.overrides} == {
        "ln_f.weight": OverrideKind.NORM,
        "ln_f.bias": OverrideKind.NORM,
        "h.1.mlp.c_proj.bias": OverrideKind.BIAS,
    }


def test_the_head_comes_along_unless_it_is_left_out(imported: Import) -> None:
    case = "bert-compacter"
    result = imported(FIXTURES / case, case)
    head = result.adapter.config.head
    assert head is not None
    assert head.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert any("does not name its classes" in note for note in result.notes)
    without = imported(FIXTURES / case, case, with_head=False)
    assert without.adapter.config.head is None
    assert not without.adapter.part(Part.HEAD)
    assert any("left out" in note for note in without.notes)


def test_a_trained_pooler_belongs_to_the_head(imported: Import, source: Callable[[str], Path]) -> None:
    directory = source("bert-compacter")
    change_state(
        directory / "pytorch_model.bin",
        lambda state: state.update(
            {
                "bert.pooler.dense.weight": torch.ones(HIDDEN, HIDDEN),
                "bert.pooler.dense.bias": torch.ones(HIDDEN),
            }
        ),
    )
    head = imported(directory, "bert-compacter").adapter.config.head
    assert head is not None
    assert head.layers == ("bert.pooler.dense", "classifier")


def test_buffers_of_older_versions_say_nothing(imported: Import, source: Callable[[str], Path]) -> None:
    directory = source("gpt2-compacter")
    buffers = {"transformer.h.0.attn.bias": torch.ones(1, 1, 12, 12, dtype=torch.uint8)}
    buffers["transformer.h.0.attn.masked_bias"] = torch.tensor(-1e4)
    change_state(directory / "pytorch_model.bin", lambda state: state.update(buffers))
    imported(directory, "gpt2-compacter")


@pytest.mark.parametrize(("dtype", "kept"), [(torch.float16, DType.F16), (torch.bfloat16, DType.BF16)])
def test_half_precision_is_kept_exactly(
    imported: Import, source: Callable[[str], Path], dtype: torch.dtype, kept: DType
) -> None:
    directory, exact = source("bert-compacter"), imported(FIXTURES / "bert-compacter", "bert-compacter").adapter
    change_state(
        directory / "pytorch_model.bin", lambda state: state.update({key: t.to(dtype) for key, t in state.items()})
    )
    adapter = imported(directory, "bert-compacter").adapter
    assert adapter.dtype is kept
    for name, array in exact.tensors.items():
        assert (adapter.tensors[name] == torch.from_numpy(array).to(dtype).float().numpy()).all()
    adapter_bytes(adapter)


def test_safetensors_need_no_opt_in(imported: Import, source: Callable[[str], Path]) -> None:
    directory, wanted = source("bert-compacter"), imported(FIXTURES / "bert-compacter", "bert-compacter")
    save_file(torch.load(directory / "pytorch_model.bin"), directory / "model.safetensors")
    (directory / "pytorch_model.bin").unlink()
    found = imported(directory, "bert-compacter", allow_pickle=False)
    assert adapter_bytes(found.adapter) == adapter_bytes(wanted.adapter)


def test_the_backbone_is_needed() -> None:
    with pytest.raises(CompacterError) as caught:
        from_opendelta(FIXTURES / "bert-compacter", allow_pickle=True)
    assert caught.value.code is ErrorCode.E001


def test_pickles_need_the_opt_in(imported: Import) -> None:
    refused(imported, FIXTURES / "bert-compacter", "bert-compacter", ErrorCode.E112, allow_pickle=False)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"delta_type": "lora"}, ErrorCode.E502),
        ({"delta_type": "parallel_adapter"}, ErrorCode.E502),
        ({"delta_type": None}, ErrorCode.E501),
        ({"shared_phm_rule": True}, ErrorCode.E502),
        ({"shared_W_phm": True}, ErrorCode.E502),
        ({"gating": True}, ErrorCode.E502),
        ({"non_linearity": "leakyrelu"}, ErrorCode.E502),
        ({"non_linearity": None}, ErrorCode.E501),
        ({"non_linearity": 3}, ErrorCode.E501),
        ({"backbone_class": "BertForMaskedLM"}, ErrorCode.E803),
        ({"backbone_class": "BertForTokenClassification", "reduction_factor": 4}, ErrorCode.E304),
        ({"hypercomplex_division": 4}, ErrorCode.E304),
        ({"hypercomplex_division": 3}, ErrorCode.E207),
        ({"hypercomplex_division": True}, ErrorCode.E501),
        ({"phm_rank": 2}, ErrorCode.E304),
        ({"factorized_phm": False}, ErrorCode.E301),
        ({"factorized_phm": "yes"}, ErrorCode.E501),
        ({"factorized_phm_rule": True}, ErrorCode.E302),
        ({"use_bias_up_sampler": False}, ErrorCode.E303),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else value.name,
)
def test_options_are_refused(
    imported: Import, source: Callable[[str], Path], changes: dict[str, Any], code: ErrorCode
) -> None:
    directory = source("bert-compacter")
    change_options(directory / "config.json", **changes)
    refused(imported, directory, "bert-compacter", code)


def test_ranks_that_opendelta_multiplies_elementwise_are_refused(
    imported: Import, source: Callable[[str], Path]
) -> None:
    directory = source("t5-low-rank")
    change_options(directory / "config.json", low_rank_rank=2)
    refused(imported, directory, "t5-low-rank", ErrorCode.E503)


def test_another_width_of_a_dense_adapter_is_refused(imported: Import, source: Callable[[str], Path]) -> None:
    directory = source("roberta-adapter")
    change_options(directory / "config.json", bottleneck_dim=4)
    refused(imported, directory, "roberta-adapter", ErrorCode.E304)


PREFIX: Final = "bert.encoder.layer.1.output.dense.compactor"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (remove(f"{PREFIX}.up_sampler.phm_rule"), ErrorCode.E302),
        (remove(f"{PREFIX}.up_sampler.W_left"), ErrorCode.E301),
        (remove(PREFIX), ErrorCode.E301),
        (remove("bert."), ErrorCode.E301),
        (put(f"{PREFIX}.up_sampler.extra", torch.ones(1)), ErrorCode.E303),
        (put(f"{PREFIX}.up_sampler.b", torch.ones(3)), ErrorCode.E304),
        (put(f"{PREFIX}.up_sampler.b", torch.full((HIDDEN,), torch.nan)), ErrorCode.E306),
        (put(f"{PREFIX.replace('output.dense', 'intermediate')}.down_sampler.b", torch.ones(4)), ErrorCode.E502),
        (put(f"{PREFIX.replace('dense', 'dropout')}.down_sampler.b", torch.ones(4)), ErrorCode.E502),
        (put(f"roberta{PREFIX[4:]}.down_sampler.b", torch.ones(4)), ErrorCode.E502),
        (put("bert.embeddings.word_embeddings.weight", torch.ones(20, HIDDEN)), ErrorCode.E502),
        (put("bert.encoder.layer.0.output.LayerNorm.weight", torch.ones(3)), ErrorCode.E304),
        (put("bert.encoder.layer.0.mystery", torch.ones(3)), ErrorCode.E303),
        (put("classifier.mystery", torch.ones(3)), ErrorCode.E303),
        (put("classifier.ids", torch.arange(3)), ErrorCode.E303),
    ],
)
def test_tensors_are_refused(
    imported: Import,
    source: Callable[[str], Path],
    change: Change,
    code: ErrorCode,
) -> None:
    directory = source("bert-compacter")
    change_state(directory / "pytorch_model.bin", change)
    refused(imported, directory, "bert-compacter", code)


def test_another_language_model_head_is_refused(imported: Import, source: Callable[[str], Path]) -> None:
    directory = source("t5-whole-ffn")
    change_state(directory / "pytorch_model.bin", put("lm_head.weight", torch.ones(20, HIDDEN)))
    refused(imported, directory, "t5-whole-ffn", ErrorCode.E502)


@pytest.mark.parametrize("name", ["config.json", "pytorch_model.bin"])
def test_missing_files_are_refused(imported: Import, source: Callable[[str], Path], name: str) -> None:
    directory = source("bert-compacter")
    (directory / name).unlink()
    refused(imported, directory, "bert-compacter", ErrorCode.E501)
