"""Grafts into half-precision graphs as a converter writes them: every check of `verify` in F16, PyTorch's answers."""

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxruntime.transformers.float16 import convert_float_to_float16

from compacter_exporters.graft import graft
from compacter_exporters.verify import verify
from tests.exporters.conftest import Exported
from tests.exporters.optimised import How, optimise
from tests.exporters.test_exports import run, trained
from tests.exporters.test_fused import kept, own

CASES = (
    ("as is", "parallel"),
    ("fused", "houlsby"),
    ("fused", "pfeiffer"),
    ("last linears in single", "adapter_plus"),
    ("last linears in single", "houlsby"),
    ("last linears in single", "parallel"),
)


@pytest.mark.spec("ONX-1", "ONX-29")
@pytest.mark.parametrize(("how", "preset"), CASES)
def test_half_precision(exported: Exported, tmp_path: Path, how: str, preset: str) -> None:
    source = exported("bert", "torchscript17")
    if how == "fused":
        source = optimise(source, How.TRANSFORMERS, tmp_path / "fused.onnx")
    backbone = half(source, tmp_path / "backbone.onnx", single="output/dense/MatMul" if how.startswith("last") else "")
    adapter, logits = trained("bert", preset=preset)
    graft(backbone, adapter, tmp_path / "merged.onnx")
    report = verify(tmp_path / "merged.onnx", adapter)
    assert report.ok, report.as_text()
    assert max(check.ratio for check in report.sites.values()) > 2.0**-9, "a bound that is never near says nothing"
    assert kept(tmp_path / "merged.onnx", backbone) == own(backbone)
    error, bare = (np.abs(run(path) - logits.numpy()).max() for path in (tmp_path / "merged.onnx", backbone))
    assert error < bare / 100


def half(source: Path, target: Path, *, single: str) -> Path:
    """Convert to F16, but for the nodes with that in their name."""
    model = onnx.load(source)
    blocked = [node.name for node in model.graph.node if single and single in node.name]
    assert bool(blocked) is bool(single)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        onnx.save(convert_float_to_float16(model, node_block_list=blocked, keep_io_types=True), target)
    return target
