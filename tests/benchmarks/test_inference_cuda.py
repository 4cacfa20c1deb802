"""The inference benchmark's graphs and runs for CUDA, as far as they can be seen without a GPU."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnxruntime import OrtValue

from benchmarks import inference
from benchmarks.inference_captured import Captured
from benchmarks.inference_choices import PRECISIONS, Arm
from benchmarks.inference_models import CudaModels, Models
from benchmarks.inference_source import another
from benchmarks.inference_times import inputs_of
from compacter_core.cli.main import main
from compacter_exporters.graph import load_graph
from compacter_exporters.optimise.choices import Precision, Target
from compacter_exporters.verify import verify
from compacter_runtime.adapters import description_of, open_adapters
from compacter_runtime.bank import Bank

CUDA_GRAPHS = {
    Arm.MERGED_ONNXSCRIPT: ["merged"],
    Arm.SWAPPABLE: ["swappable"],
    Arm.BANK: ["bank"],
}
ATTENTION = ("MultiHeadAttention", "Attention")


@pytest.fixture(name="cuda", scope="module", params=PRECISIONS[Target.CUDA])
def _cuda(tiny: dict[Precision, Models], request: pytest.FixtureRequest) -> Models:
    return CudaModels(tiny[Precision.FP32].source, request.param)


def inputs(rows: int, tokens: int, seed: int) -> dict[str, Any]:
    return inputs_of((rows, tokens), np.random.default_rng(seed))


def opened(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("arm", CUDA_GRAPHS)
def test_graphs_for_cuda_are_those_that_graft_writes(cuda: Models, arm: Arm) -> None:
    measured = cuda.path(arm)
    written = measured.parent / "written" / measured.name  # the same name, for that of the data is in the graph
    written.parent.mkdir(exist_ok=True)
    options = ["--target", "cuda", "--precision", cuda.precision, "--linkage", *CUDA_GRAPHS[arm]]
    exported = str(cuda.source.exported())
    assert main(["graft", exported, str(cuda.source.file), "-o", str(written), *options]) == 0
    for name in (measured.name, f"{measured.name}.data"):
        assert measured.with_name(name).read_bytes() == written.with_name(name).read_bytes()
    assert verify(measured, cuda.source.file).ok


def test_a_bare_backbone_is_in_the_precision_and_fused_as_the_merged_graph_is(cuda: Models) -> None:
    halves = {}
    for bare, merged in ((Arm.BACKBONE, Arm.MERGED), (Arm.ONNXSCRIPT, Arm.MERGED_ONNXSCRIPT)):
        graphs = [load_graph(cuda.path(arm)).graph for arm in (bare, merged)]
        fused = [[node.op_type for node in graph.all_nodes() if node.op_type in ATTENTION] for graph in graphs]
        assert fused[0] == fused[1]
        assert len(fused[0]) == (2 if bare is Arm.ONNXSCRIPT else 0)
        halves[bare] = [str(value.dtype) for value in graphs[0].initializers.values() if len(value.shape or ()) == 2]
    assert len(load_graph(cuda.path(Arm.FUSED)).graph) < len(load_graph(cuda.path(Arm.BACKBONE)).graph)
    kind = {Precision.FP32: "FLOAT", Precision.FP16: "FLOAT16"}[cuda.precision]
    assert all(kind in kinds for kinds in halves.values())
    assert (kind == "FLOAT") == all("FLOAT16" not in kinds for kinds in halves.values())


@pytest.mark.parametrize("arm", [Arm.MERGED, Arm.BANK])
def test_bound_runs_give_what_runs_give_at_every_shape_and_for_every_input(
    tiny: dict[Precision, Models], arm: Arm
) -> None:
    models = tiny[Precision.FP32]
    session = opened(models.path(arm))
    adapters = open_adapters(description_of(session.get_modelmeta().custom_metadata_map), "cpu")
    choice = None
    if isinstance(adapters, Bank):
        choice = [adapters.add(another(models.source.adapter(), index)) for index in range(3)]
    captured, seen = Captured(session), []
    for seed, (rows, tokens) in enumerate([(3, 5), (2, 7), (3, 5), (2, 7), (3, 5)]):
        chosen = adapters.choose(choice and choice[:rows], rows)
        feeds = {**inputs(rows, tokens, seed), **chosen.feeds(np.arange(rows)[::-1])}
        found = captured(feeds)
        for one, other in zip(found, session.run(None, feeds), strict=True):
            np.testing.assert_array_equal(one, other)
        seen.append(found[0])
    assert not np.array_equal(seen[0], seen[2])


def test_a_shape_has_a_graph_of_its_own_and_the_run_that_finds_the_outputs_has_none(
    tiny: dict[Precision, Models],
) -> None:
    class Observed:
        def __init__(self, session: Any) -> None:
            self.io_binding, self.get_outputs = session.io_binding, session.get_outputs
            self.get_providers = session.get_providers
            self._session = session

        def run(self, names: Any, feeds: Any, options: Any) -> Any:
            graphs.append(options.get_run_config_entry("gpu_graph_id"))
            return self._session.run(names, feeds, options)

        def run_with_iobinding(self, binding: Any, options: Any) -> None:
            graphs.append(options.get_run_config_entry("gpu_graph_id"))
            self._session.run_with_iobinding(binding, options)

    graphs: list[str] = []
    observed: Any = Observed(opened(tiny[Precision.FP32].path(Arm.MERGED)))
    captured = Captured(observed)
    for rows, tokens in [(1, 4), (2, 4), (1, 4), (2, 4)]:
        captured(inputs(rows, tokens, 0))
    assert graphs == ["-1", "1", "-1", "2", "1", "2"]


def test_values_on_the_device_are_bound_where_they_are(tiny: dict[Precision, Models]) -> None:
    session = opened(tiny[Precision.FP32].path(Arm.MERGED))
    feeds = inputs(1, 4, 0)
    first, second = (np.array(row) for row in ([[1, 1, 1, 1]], [[1, 1, 0, 0]]))
    here = OrtValue.ortvalue_from_numpy(first.copy(), "cpu", 0)
    captured = Captured(session)
    before = captured({**feeds, "attention_mask": here})
    here.update_inplace(second)
    after = captured({**feeds, "attention_mask": here})
    np.testing.assert_array_equal(before[0], session.run(None, {**feeds, "attention_mask": first})[0])
    np.testing.assert_array_equal(after[0], session.run(None, {**feeds, "attention_mask": second})[0])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--precision", "fp16"], "--precision does not go with --target cpu"),
        (["--target", "cuda", "--precision", "int8"], "fp32, fp16"),
        (["--cuda-graphs"], "expected --target cuda"),
        (["--target", "cuda", "--clock", "cpu"], "--clock does not go with --target cuda"),
        (["--target", "cuda", "--arms", "merged, kernels"], "merged, onnxscript"),
        (["--target", "cuda", "--precision", "fp16"], "onnxruntime-gpu"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_made(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(sys, "argv", ["inference", "--size", "tiny", "--directory", str(tmp_path), *words])
    assert inference.main() == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_graphs_for_cuda_are_prepared_without_a_gpu(
    cuda: Models, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--size", "tiny", "--directory", str(cuda.source.directory), "--target", "cuda", "--prepare"]
    monkeypatch.setattr(sys, "argv", ["inference", *words, "--precision", cuda.precision])
    assert inference.main() == 0
    assert capsys.readouterr().out == ""
    arms = [arm for arm in cuda.arms if arm.is_usual]
    assert [arm for arm in arms if not cuda.path(arm).exists()] == []
    assert arms == [
        *(Arm.BACKBONE, Arm.FUSED, Arm.ONNXSCRIPT, Arm.MERGED, Arm.MERGED_ONNXSCRIPT),
        *(Arm.SWAPPABLE, Arm.BANK, Arm.SHARED),
    ]
