"""A quantised weight in which one large value makes the steps so large that little is left of the others."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from compacter_core.adapter import Adapter
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.sketch import THRESHOLD, sketch_indices, weight_name
from compacter_exporters.graft import graft
from compacter_exporters.layer_sketches import COARSE_THRESHOLD
from compacter_exporters.verify import verify
from tests.exporters.conftest import Exported
from tests.exporters.quantising import Int8, int8
from tests.exporters.test_exports import trained


def with_outlier(source: Path, adapter: Adapter, site: str, deviations: float, target: Path) -> Path:
    """The backbone in int8, after one value of a site's weight that is not in its sketch became that large."""
    model = onnx.load(source)
    sketch = adapter.sketches[weight_name(site)]
    for tensor in model.graph.initializer:
        weight = numpy_helper.to_array(tensor).copy()
        if weight.ndim != 2 or weight.shape[1] != adapter.config.hidden_size:
            continue
        sketched = sketch_indices(weight.shape)
        if sketched.size == sketch.size and np.array_equal(weight.reshape(-1)[sketched], sketch):
            free = next(position for position in range(weight.size) if position not in sketched)
            weight.reshape(-1)[free] = deviations * weight.std()
            tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))
            break
    else:
        raise LookupError(site)
    onnx.save(model, target.with_name("outlier.onnx"))
    return int8(target.with_name("outlier.onnx"), target, Int8())


@pytest.mark.spec("ONX-31")
def test_a_weight_with_coarse_steps_is_found(exported: Exported, tmp_path: Path) -> None:
    adapter, _ = trained("bert")
    site = next(one.id for one in adapter.config.sites if "ffn" in one.id)
    backbone = with_outlier(exported("bert", "torchscript17"), adapter, site, 250, tmp_path / "backbone.onnx")
    report = graft(backbone, adapter, tmp_path / "merged.onnx")
    assert COARSE_THRESHOLD < report.correlations[site] < THRESHOLD
    checked = verify(tmp_path / "merged.onnx", adapter)
    assert checked.ok, checked.as_text()


@pytest.mark.spec("ONX-31")
def test_a_weight_of_which_nothing_is_left_is_refused(exported: Exported, tmp_path: Path) -> None:
    adapter, _ = trained("bert")
    site = next(one.id for one in adapter.config.sites if "ffn" in one.id)
    backbone = with_outlier(exported("bert", "torchscript17"), adapter, site, 1e4, tmp_path / "backbone.onnx")
    with pytest.raises(CompacterError, match="of a quantised weight") as caught:
        graft(backbone, adapter, tmp_path / "merged.onnx")
    assert caught.value.code is ErrorCode.E604
