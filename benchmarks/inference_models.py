"""The graphs that the inference benchmark runs, for each target."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
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
from compacter_core.linkage.kinds import Linkage
from compacter_exporters.graft import graft
from compacter_exporters.graph import load_graph
from compacter_exporters.linkage.bank import graft_bank
from compacter_exporters.linkage.swappable import graft_swappable
from compacter_exporters.optimise.choices import Fuser, Precision, Target
from compacter_exporters.optimise.open_recipe import build_open
from compacter_exporters.optimise.recipe import Recipe, build, prepared
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
            FileNotFoundError: for AdapterHub's own export, which `benchmarks.adapterhub_export` makes.
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


class CpuModels(Models):
    """Graphs for CPUs: in int8 the backbone is quantised before adapters go in, so that all arms have the same one."""

    target = Target.CPU
    single = Arm.MERGED_APART

    @property
    def _folder(self) -> Path:
        return self.source.directory / self.precision

    def _graphs(self) -> Mapping[Arm, Maker]:
        return {
            Arm.BACKBONE: self._backbone,
            Arm.FUSED: self._fused,
            Arm.APART: self._apart,
            Arm.MERGED: lambda path: graft(self.path(Arm.BACKBONE), self.source.file, path),
            **{arm: self._merged(arm) for arm in (Arm.MERGED_APART, Arm.MERGED_KERNELS)},
            **{arm: self._opened(arm) for arm in Arm if arm.is_open},
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

    def _merged(self, arm: Arm) -> Maker:
        """As `graft --target cpu` makes it. Its precision fp32 leaves the backbone's weights as they are, int8 too."""

        def make(path: Path) -> None:
            recipe = Recipe.best_known(Target.CPU, Precision.FP32, arm.form, self.source.adapter())
            build(self.path(Arm.BACKBONE), self.source.file, path, recipe)

        return make

    def _opened(self, arm: Arm) -> Maker:
        open_for = graft_bank if arm.is_bank else graft_swappable
        return lambda path: open_for(self.path(Arm.BACKBONE), self.template(arm), path, sums_apart=True, form=arm.form)

    def _in_precision(self, model: onnx.ModelProto, path: Path) -> None:
        if self.precision is Precision.INT8:
            quantize_dynamic(model, path, weight_type=QuantType.QInt8, use_external_data_format=True)
        else:
            _save(model, path)


class CudaModels(Models):
    """Graphs for the CUDA provider, as `graft --target cuda` makes them, and the bare backbone made alike."""

    target = Target.CUDA
    single = Arm.MERGED_ONNXSCRIPT

    @property
    def _folder(self) -> Path:
        return self.source.directory / f"{self.target}-{self.precision}"

    def _graphs(self) -> Mapping[Arm, Maker]:
        return {
            Arm.BACKBONE: self._bare(Fuser.NONE),
            Arm.FUSED: self._bare(Fuser.TRANSFORMERS),
            Arm.ONNXSCRIPT: self._bare(Fuser.ONNXSCRIPT),
            Arm.MERGED: self._merged(Fuser.NONE),
            Arm.MERGED_ONNXSCRIPT: self._merged(Fuser.ONNXSCRIPT),
            **{arm: self._opened(arm) for arm in Arm if arm.is_open and not arm.uses_kernels},
        }

    def _recipe(self, fuser: Fuser) -> Recipe:
        return Recipe(self.target, self.precision, fuser)

    def _bare(self, fuser: Fuser) -> Maker:
        def make(path: Path) -> None:
            with TemporaryDirectory() as name:
                recipe, adapter = self._recipe(fuser), self.source.adapter()
                made = prepared(self.source.exported(), Path(name), recipe, adapter, lambda _: None)
                _save(onnx.load(made), path)

        return make

    def _merged(self, fuser: Fuser) -> Maker:
        return lambda path: build(self.source.exported(), self.source.file, path, self._recipe(fuser))

    def _opened(self, arm: Arm) -> Maker:
        linkage, recipe = Linkage.BANK if arm.is_bank else Linkage.SWAPPABLE, self._recipe(Fuser.ONNXSCRIPT)
        return lambda path: build_open(self.source.exported(), self.template(arm), path, linkage, recipe)


MODELS: Final[Mapping[Target, type[Models]]] = {kind.target: kind for kind in (CpuModels, CudaModels)}
"""By target."""


def _save(model: onnx.ModelProto, path: Path) -> None:
    onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data")


def _not_ours(path: Path) -> None:
    raise FileNotFoundError(f"{path}: made by .venv-interop/bin/python -m benchmarks.adapterhub_export")


def _optimise(source: Path, target: Path, config: BertConfig) -> None:
    """What `onnxruntime.transformers` fuses: attention, skip-norms, embeddings."""
    heads, width = config.num_attention_heads, config.hidden_size
    model = optimize_model(str(source), model_type="bert", num_heads=heads, hidden_size=width, opt_level=0)
    model.save_model_to_file(str(target), use_external_data_format=True)
