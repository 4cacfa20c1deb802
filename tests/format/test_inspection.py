"""`inspect_file`: counts that can be checked by hand, and a digest anyone can recompute."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from compacter_core.adapter import DType
from compacter_core.config import Backbone, Projection
from compacter_core.errors import ErrorCode
from compacter_core.format.writer import adapter_bytes, save_adapter, save_profile
from compacter_core.inspection import inspect_bytes, inspect_file
from compacter_core.layout import Part, count_parameters
from compacter_core.vocabulary import Pooling
from tests.format.builders import CONFIG, RawFile, make_adapter, rejected, with_config


@pytest.mark.spec("FWD-23")
def test_counts_of_the_paper(tmp_path: Path) -> None:
    """n^3 + sum over the sites of 2 r (d + k) + d + k (section 3.4), the norm gain d, and the head 3 d + 3."""
    save_adapter(make_adapter(), tmp_path / "a")
    d, n, r = 8, 2, 1
    counts = inspect_file(tmp_path / "a").parameters
    assert counts == {
        Part.SHARED: n**3,
        Part.SITE: sum(2 * r * (d + k) + d + k for k in (4, 2)),
        Part.OVERRIDE: d,
        Part.HEAD: 3 * d + 3,
    }
    assert counts[Part.SHARED] + counts[Part.SITE] == count_parameters(CONFIG)


@pytest.mark.parametrize("dtype", DType)
def test_table_and_sizes_agree_with_the_file(tmp_path: Path, dtype: DType) -> None:
    data = adapter_bytes(make_adapter(dtype=dtype))
    (tmp_path / "a").write_bytes(data)
    inspection = inspect_file(tmp_path / "a")
    raw = RawFile.take_apart(data)
    assert {row.name: (row.dtype.value, list(row.shape), row.nbytes) for row in inspection.tensors} == {
        name: (tensor.dtype, tensor.shape, len(tensor.data)) for name, tensor in raw.tensors.items()
    }
    assert inspection.dtype is dtype
    assert inspection.file_bytes == len(data)
    assert inspection.tensor_bytes == sum(len(tensor.data) for tensor in raw.tensors.values())
    assert inspection.sha256 == hashlib.sha256(data).hexdigest()


def test_as_dict_is_json_and_carries_the_configuration(tmp_path: Path) -> None:
    save_profile(make_adapter(), tmp_path)
    value = json.loads(json.dumps(inspect_file(tmp_path).as_dict()))
    assert value["config"] == json.loads((tmp_path / "adapter_config.json").read_text())
    assert value["parameters"]["total"] == sum(
        value["parameters"][part] for part in ("shared", "site", "override", "head")
    )
    assert len(value["tensors"]) == len(make_adapter().tensors) + len(make_adapter().sketches)


def test_what_the_head_reads_is_said(tmp_path: Path) -> None:
    adapter = make_adapter()
    assert adapter.config.head is not None
    pooled = replace(adapter.config.head, pooler=None, pooling=Pooling.MEAN)
    save_adapter(replace(adapter, config=replace(adapter.config, head=pooled)), tmp_path / "a")
    assert "classifier of the mean of the tokens" in inspect_file(tmp_path / "a").as_text()


def test_a_file_that_is_not_canonical_says_so(tmp_path: Path) -> None:
    raw = RawFile.take_apart(adapter_bytes(make_adapter()))
    (tmp_path / "foreign").write_bytes(raw.put_together())
    save_adapter(make_adapter(), tmp_path / "canonical")
    assert not inspect_file(tmp_path / "foreign").canonical
    assert "not the canonical bytes" in inspect_file(tmp_path / "foreign").as_text()
    assert inspect_file(tmp_path / "canonical").canonical
    assert "not the canonical bytes" not in inspect_file(tmp_path / "canonical").as_text()


def test_text_names_what_matters(tmp_path: Path) -> None:
    save_adapter(make_adapter(), tmp_path / "a")
    text = inspect_file(tmp_path / "a").as_text()
    for words in ("tiny", "phm_dim 2", "shared phm_rule", "8-4-8", "8-2-8", "bert", "3 labels", "gelu_new", "109"):
        assert words in text
    for name in make_adapter().tensors:
        assert name in text


def test_text_without_optional_parts(tmp_path: Path) -> None:
    config = with_config(backbone=None, head=None, overrides=(), projection=Projection.compacter(phm_dim=2))
    save_adapter(replace(make_adapter(config), sketches={}), tmp_path / "a")
    text = inspect_file(tmp_path / "a").as_text()
    assert "not stated" in text
    assert "none" in text


@pytest.mark.spec("SEC-10")
def test_control_characters_do_not_reach_the_terminal(tmp_path: Path) -> None:
    assert isinstance(CONFIG.backbone, Backbone)
    backbone = replace(CONFIG.backbone, id="evil\x1b[2J\r\nname")
    save_adapter(make_adapter(with_config(method="x\x1b]0;title\x07", backbone=backbone)), tmp_path / "a")
    text = inspect_file(tmp_path / "a").as_text()
    assert all(line.isprintable() for line in text.split("\n"))
    assert "\nname" not in text


def test_bytes_are_inspected_like_the_file_they_came_from(tmp_path: Path) -> None:
    save_adapter(make_adapter(), tmp_path / "a")
    data = (tmp_path / "a").read_bytes()
    assert inspect_bytes(data, tmp_path / "a") == inspect_file(tmp_path / "a")


def test_a_broken_file_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(adapter_bytes(make_adapter())[:-1])
    with rejected(ErrorCode.E101):
        inspect_file(tmp_path / "a")
