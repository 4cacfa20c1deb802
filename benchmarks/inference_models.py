"""The graphs that the inference benchmark runs, for each target."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Final

import onnx
import onnx_ir as ir
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers.optimizer import optimize_model
from transformers import BertConfig

from benchmarks.inference_choices import Arm
from benchmarks.inference_source import Source
from compacter_core.adapter import Adapter
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.linkage.kinds import Linkage
from compacter_exporters.graph import load_graph
from compacter_exporters.optimise.choices import Fuser, Precision, Target
from compacter_exporters.optimise.open_recipe import build_linked
from compacter_exporters.optimise.recipe import Recipe, prepared
from compacter_exporters.optimise.sums import keep_sums_apart

Maker = Callable[[Path], Any]


class Models(ABC):
    """The graphs of a target in a directory, each made when it is first asked for.

    Args:
        source: what they are made from.
        precision: of the backbone.
    """

    target: ClassVar[Target]
    single: ClassVar[Arm]
    """Whose graph a session of the arm `rows` runs."""

    def __init__(self, source: Source, precision: Precision) -> None:
        self.source = source
        self.precision = precision
        self._makers = self._graphs()

    @property
    def arms(self) -> tuple[Arm, ...]:
        """Those that there are graphs for, in the order of the table."""
        return tuple(arm for arm in Arm if self._graph_of(arm) in self._makers)

    def path(self, arm: Arm) -> Path:
        """The graph of an arm.

        Raises:
            CompacterError: E704 for AdapterHub's own export, which `benchmarks.adapterhub_export` makes.
        """
        graph = self._graph_of(arm)
        path = self._folder / graph.file
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._makers[graph](path)
        return path

    def template(self, arm: Arm) -> Adapter:
        """The adapter that an arm's graph is made for."""
        return self.source.without_norms() if arm.shares_norms else self.source.adapter()

    @property
    @abstractmethod
    def _folder(self) -> Path:
        """Where the graphs are."""

    @abstractmethod
    def _graphs(self) -> Mapping[Arm, Maker]:
        """What writes the graph of each arm."""

    def _graph_of(self, arm: Arm) -> Arm:
        return self.single if arm is Arm.ROWS else arm

    def _grafted(self, arms: Iterable[Arm], backbone: Callable[[], Path], precision: Precision) -> dict[Arm, Maker]:
        """What grafts into a backbone, for those of the arms whose graphs are grafted."""
        return {
            arm: partial(self._graft, arm, linkage, backbone, precision) for arm in arms if (linkage := arm.linkage)
        }

    def _graft(
        self, arm: Arm, linkage: Linkage, backbone: Callable[[], Path], precision: Precision, path: Path
    ) -> None:
        """As `graft --target` does in that precision; for the arm merged without what is best for the target."""
        adapter = self.template(arm)
        recipe = Recipe(self.target, precision)
        if arm is not Arm.MERGED:
            recipe = Recipe.best_known(self.target, precision, arm.form, adapter)
        build_linked(backbone(), adapter, path, linkage, recipe)


class CpuModels(Models):
    """Graphs for CPUs: in int8 the backbone is quantised before adapters go in, so that all arms have the same one."""

    target = Target.CPU
    single = Arm.MERGED_APART

    @property
    def _folder(self) -> Path:
        return self.source.directory / self.precision

    def _graphs(self) -> Mapping[Arm, Maker]:
        arms = [arm for arm in Arm if arm is not Arm.MERGED_ONNXSCRIPT]
        return {
            Arm.BACKBONE: self._backbone,
            Arm.FUSED: self._fused,
            Arm.APART: self._apart,
            # In fp32 weights are left as they are, int8 too.
            **self._grafted(arms, lambda: self.path(Arm.BACKBONE), Precision.FP32),
            Arm.ADAPTERHUB: _not_ours,
            Arm.ADAPTERHUB_FUSED: lambda path: _optimise(self.path(Arm.ADAPTERHUB), path, self.source.config),
        }

    def _backbone(self, path: Path) -> None:
        self._in_precision(onnx.load(self.source.exported()), path)

    def _fused(self, path: Path) -> None:
        whole = self.source.directory / "fused.onnx"
        if not whole.exists():
            _optimise(self.source.exported(), whole, self.source.config)
        self._in_precision(onnx.load(whole), path)

    def _apart(self, path: Path) -> None:
        whole = self.source.directory / f"apart-{self.precision}.onnx"
        if not whole.exists():
            model = load_graph(self.source.exported())
            keep_sums_apart(model, quantised=self.precision is Precision.INT8)
            ir.save(model, whole, external_data=f"{whole.name}.data")
        self._in_precision(onnx.load(whole), path)

    def _in_precision(self, model: onnx.ModelProto, path: Path) -> None:
        if self.precision is Precision.INT8:
            quantize_dynamic(model, path, weight_type=QuantType.QInt8, use_external_data_format=True)
        else:
            _save(model, path)


class CudaModels(Models):
    """Graphs for the CUDA provider, and the bare backbone made alike."""

    target = Target.CUDA
    single = Arm.MERGED_ONNXSCRIPT

    @property
    def _folder(self) -> Path:
        return self.source.directory / f"{self.target}-{self.precision}"

    def _graphs(self) -> Mapping[Arm, Maker]:
        arms = [arm for arm in Arm if not arm.uses_kernels and arm is not Arm.MERGED_APART]
        return {
            Arm.BACKBONE: self._bare(Fuser.NONE),
            Arm.FUSED: self._bare(Fuser.TRANSFORMERS),
            Arm.ONNXSCRIPT: self._bare(Fuser.ONNXSCRIPT),
            **self._grafted(arms, self.source.exported, self.precision),
        }

    def _bare(self, fuser: Fuser) -> Maker:
        def make(path: Path) -> None:
            with TemporaryDirectory() as name:
                recipe, adapter = Recipe(self.target, self.precision, fuser), self.source.adapter()
                made = prepared(self.source.exported(), Path(name), recipe, adapter, lambda _: None)
                _save(onnx.load(made), path)

        return make


MODELS: Final[Mapping[Target, type[Models]]] = {kind.target: kind for kind in (CpuModels, CudaModels)}
"""By target."""


def _save(model: onnx.ModelProto, path: Path) -> None:
    onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data")


def _not_ours(path: Path) -> None:
    raise CompacterError(
        ErrorCode.E704,
        "there is no export of AdapterHub's",
        value=str(path),
        remedy="Make it: .venv-interop/bin/python -m benchmarks.adapterhub_export DIRECTORY",
    )


def _optimise(source: Path, target: Path, config: BertConfig) -> None:
    """What `onnxruntime.transformers` fuses: attention, skip-norms, embeddings."""
    heads, width = config.num_attention_heads, config.hidden_size
    model = optimize_model(str(source), model_type="bert", num_heads=heads, hidden_size=width, opt_level=0)
    model.save_model_to_file(str(target), use_external_data_format=True)
