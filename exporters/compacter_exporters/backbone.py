"""Export of a backbone to ONNX, once; adapters are grafted into the graph afterwards.

The result is a directory that the runtime can serve without PyTorch and transformers:

- `model.onnx` with `model.onnx.data`: inputs `input_ids`, `attention_mask` and, where the model reads them,
  `token_type_ids`, all int64 [batch, sequence] with both axes dynamic; output `logits` (or `last_hidden_state`);
- `config.json`: the transformers configuration, for label names;
- `tokenizer.json`: with padding and truncation set, unless the source has no tokenizer.
"""

import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import onnx_ir

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.atomic import atomic_directory
from compacter_exporters.choices import Backend, Task
from compacter_exporters.graph_check import check_graph
from compacter_exporters.graph_tidy import drop_stack_traces, name_axes
from compacter_exporters.quiet import quiet
from compacter_exporters.serving_tokenizer import write_tokenizer
from compacter_exporters.source_model import SourceModel, load_source

MODEL_FILE = "model.onnx"
DATA_FILE = "model.onnx.data"


_EXTRA = {Backend.TRANSFORMERS: "export,cpu", Backend.OPTIMUM: "optimum,onnx,cpu"}


def export_backbone(
    source: str | Path,
    output_dir: Path | str,
    *,
    task: Task = Task.TEXT_CLASSIFICATION,
    backend: Backend = Backend.TRANSFORMERS,
    opset: int | None = None,
    progress: Callable[[str], None] = lambda stage: None,
) -> Path:
    """Export `source` (a directory, or a hub name) to the new directory `output_dir`.

    The graph is run in ONNX Runtime and compared with the PyTorch model before anything stands under its final name.

    Args:
        source: a transformers checkpoint; a head that it lacks is initialised from a fixed seed.
        output_dir: created as a whole or not at all.
        task: decides the head, and so the outputs.
        backend: transformers' exporter (transformers 5) or optimum-onnx (transformers 4).
        opset: the ONNX opset, by default the exporter's choice.
        progress: told the name of each stage as it begins.

    Returns:
        The path of `model.onnx`.

    Raises:
        CompacterError: E004 if the exporter is not installed, E005 if the source cannot be loaded, E006 if the output
            cannot be written, E605 if the exporter fails, E606 if the graph computes something else than the model,
            E702 if the source's tokenizer cannot be used.
    """
    export_graph = _load_backend(backend)
    output = Path(output_dir)
    with atomic_directory(output) as directory:
        progress("load")
        loaded = load_source(source, task)
        progress("export")
        with tempfile.TemporaryDirectory() as scratch:
            graph = _export(export_graph, loaded, opset, Path(scratch))
            name_axes(graph.graph)
            drop_stack_traces(graph.graph)
            progress("write")
            onnx_ir.save(graph, directory / MODEL_FILE, external_data=DATA_FILE)
        (directory / "config.json").write_text(loaded.model.config.to_json_string(), encoding="utf-8")
        if loaded.tokenizer is not None:
            write_tokenizer(loaded.tokenizer, loaded.max_length, directory / "tokenizer.json")
        progress("check")
        check_graph(directory / MODEL_FILE, loaded)
    return output / MODEL_FILE


def _load_backend(backend: Backend) -> Callable[..., onnx_ir.Model]:
    try:
        with quiet():
            module = import_module(f"compacter_exporters.{backend.value}_backend")
    except ImportError as error:
        others = ", ".join(other.value for other in Backend if other is not backend)
        raise CompacterError(
            ErrorCode.E004,
            f"the {backend.value} exporter cannot be imported: {error}",
            remedy=f'Install it with: pip install "compacter-core[{_EXTRA[backend]}]", or use the backend {others}.',
        ) from error
    export_graph: Callable[..., onnx_ir.Model] = module.export_graph
    return export_graph


def _export(
    export_graph: Callable[..., onnx_ir.Model], loaded: SourceModel, opset: int | None, scratch: Path
) -> onnx_ir.Model:
    try:
        with quiet():
            return export_graph(loaded, opset=opset, scratch=scratch)
    # Exporters raise whatever the tracer, the translator or the optimiser raised; to the user it is one event.
    except Exception as error:
        raise CompacterError(
            ErrorCode.E605,
            f"the exporter failed: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}",
            value=type(loaded.model).__name__,
            remedy="Try the other backend or another opset.",
        ) from error
