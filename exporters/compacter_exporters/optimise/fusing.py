"""Operators fused in a backbone before an adapter goes in; the graft keeps all of them (ONX-28)."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import onnx_ir as ir
import onnxruntime
from onnxruntime.transformers import optimizer

from compacter_core.config import AdapterConfig
from compacter_core.errors import CompacterError, ErrorCode
from compacter_exporters.optimise.choices import Fuser, Target
from compacter_exporters.quiet import quiet

_QUIET: Final = 3
_MODEL_TYPES: Final = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "electra", "distilbert"), "bert"),
    "gpt2": "gpt2",
    "vit": "vit",
}
"""onnxruntime.transformers' name of a model type. Those that it breaks or has no fusions for are left out: it empties
merged decoders of T5 and puts operators into T5 that have no kernel."""


_BROKEN_BY_ONNXSCRIPT: Final = ("gpt2",)
"""Its fusions leave GPT-2 with Gemms of three-dimensional inputs, which ONNX Runtime refuses."""


def knows(fuser: Fuser, config: AdapterConfig) -> bool:
    """Whether a fuser is any good for this kind of backbone."""
    if fuser is Fuser.ONNXSCRIPT:
        return config.backbone is None or config.backbone.model_type not in _BROKEN_BY_ONNXSCRIPT
    return fuser is not Fuser.TRANSFORMERS or _model_type(config) is not None


def fuse(source: Path, target: Path, fuser: Fuser, config: AdapterConfig, where: Target) -> None:
    """Write a backbone with its operators fused.

    Args:
        source: the backbone as exported.
        target: the file to write; its data goes to a file beside it.
        fuser: who fuses; not none.
        config: of an adapter for this backbone, which tells the backbone's kind.
        where: the graph will run.

    Raises:
        CompacterError: E004 if the fuser is not installed; E605 if the fuser cannot deal with the backbone.
    """
    fusers: dict[Fuser, Callable[[], None]] = {
        Fuser.SESSION: lambda: _with_session(source, target),
        Fuser.ONNXSCRIPT: lambda: _with_onnxscript(source, target),
        Fuser.TRANSFORMERS: lambda: _with_transformers(source, target, config, where),
    }
    try:
        with quiet():
            fusers[fuser]()
    except CompacterError:
        raise
    except Exception as error:  # neither optimiser documents what it raises
        raise CompacterError(
            ErrorCode.E605,
            f"the fusions of {fuser} fail on this backbone",
            value=str(error).splitlines()[0] if str(error) else type(error).__name__,
            remedy="Graft without fusing: ONNX Runtime fuses when it loads a graph.",
        ) from error


def _with_session(source: Path, target: Path) -> None:
    """ONNX Runtime's extended level: what it fuses on any CPU, without layouts of this machine's."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _QUIET
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(target)
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", f"{target.name}.data")
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


def _with_onnxscript(source: Path, target: Path) -> None:
    try:
        from onnxscript.rewriter.ort_fusions import optimize_for_ort  # noqa: PLC0415  # of the extra for exporting
    except ModuleNotFoundError as error:
        raise CompacterError(
            ErrorCode.E004,
            "the fusions of onnxscript need a package that is not installed",
            value=error.name,
            remedy='Install it: pip install "compacter-core[export]".',
        ) from error
    fused, _ = optimize_for_ort(ir.load(source))
    ir.save(fused, target, external_data=f"{target.name}.data")


def _with_transformers(source: Path, target: Path, config: AdapterConfig, where: Target) -> None:
    fused = optimizer.optimize_model(
        str(source),
        _model_type(config) or "bert",
        opt_level=0,  # only what is written in Python: the session does the rest when it loads the graph
        use_gpu=where is not Target.CPU,
        only_onnxruntime=False,
    )
    fused.save_model_to_file(str(target), use_external_data_format=True)


def _model_type(config: AdapterConfig) -> str | None:
    return None if config.backbone is None else _MODEL_TYPES.get(config.backbone.model_type)
