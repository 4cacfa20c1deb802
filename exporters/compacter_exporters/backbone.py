"""Export of a backbone to ONNX, once; adapters are grafted into the graph afterwards, or one is exported with it.

The result is a directory that the runtime can serve without PyTorch and transformers:

- `model.onnx` with `model.onnx.data`: inputs `input_ids`, `attention_mask` and, where the model reads them,
  `token_type_ids`, all int64 [batch, sequence] with both axes dynamic (or `pixel_values`); output `logits` (or
  `last_hidden_state`); to generate text also `position_ids` and the cache, named as `graph_names` says;
- instead of it, for an encoder-decoder that generates text, `encoder_model.onnx`, `decoder_model.onnx` and
  `decoder_with_past_model.onnx`, and from optimum `decoder_model_merged.onnx`, which is both decoders in one;
- `config.json`: the transformers configuration, for label names;
- `tokenizer.json`: with padding and truncation set, unless the source has no tokenizer.
"""

import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import onnx_ir

from compacter_core.adapter import Adapter
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.atomic import atomic_directory
from compacter_core.format.reader import load_adapter
from compacter_core.vocabulary import Pooling
from compacter_exporters.choices import MODEL_FILE, Backend, Task
from compacter_exporters.generation_check import check_generation
from compacter_exporters.graph_check import check_graph
from compacter_exporters.graph_names import name_axes
from compacter_exporters.graph_tidy import drop_stack_traces, fix_axes
from compacter_exporters.metadata import mark_exported
from compacter_exporters.quiet import quiet
from compacter_exporters.serving_tokenizer import write_tokenizer
from compacter_exporters.source_model import SourceModel, load_source

_EXTRA = {Backend.TRANSFORMERS: "export,cpu", Backend.OPTIMUM: "optimum,onnx,cpu"}


def export_backbone(
    source: str | Path,
    output_dir: Path | str,
    *,
    task: Task = Task.TEXT_CLASSIFICATION,
    backend: Backend = Backend.TRANSFORMERS,
    opset: int | None = None,
    adapter: Path | Adapter | None = None,
    pooling: Pooling | None = None,
    progress: Callable[[str], None] = lambda stage: None,
) -> Path:
    """Export `source` (a directory, or a hub name) to the new directory `output_dir`.

    The graph is run in ONNX Runtime and compared with the PyTorch model before anything stands under its final name.

    With an adapter the graphs compute what a graft of it into them computes, but the exporter has had its way with it:
    it cannot be taken out, exchanged or verified site by site (ONX-26).

    Args:
        source: a transformers checkpoint; a head that it lacks is initialised from a fixed seed.
        output_dir: created as a whole or not at all.
        task: decides the head, and so the outputs.
        backend: transformers' exporter (transformers 5) or optimum-onnx (transformers 4).
        opset: the ONNX opset, by default the exporter's choice.
        adapter: put into the model before it is exported: an adapter, its file, or a directory of the hub profile.
        pooling: what the head reads instead of the pooler's output, for adapters that were trained so; one that is put
            in says it itself.
        progress: told the name of each stage as it begins.

    Returns:
        The path of `model.onnx`, or the directory where there are several graphs.

    Raises:
        CompacterError: E004 if the exporter is not installed, E005 if the source cannot be loaded, E006 if the output
            cannot be written, E605 if the exporter fails, E606 if the graph computes something else than the model,
            E702 if the source's tokenizer cannot be used; with an adapter also what reading it raises, and E401 to
            E405 and E803 if it does not fit. E803 for a pooling that the model has no place for.
    """
    inside = load_adapter(adapter) if isinstance(adapter, str | Path) else adapter
    export_graphs = _load_backend(backend)
    output = Path(output_dir)
    with atomic_directory(output) as directory:
        progress("load")
        loaded = load_source(source, task, inside, pooling)
        progress("export")
        with tempfile.TemporaryDirectory() as scratch, loaded.simplified():
            graphs = _export(export_graphs, loaded, opset, Path(scratch))
            progress("write")
            for name, graph in graphs.items():
                _tidy(graph.graph, loaded)
                if inside is not None:
                    mark_exported(graph, inside)
                onnx_ir.save(graph, directory / name, external_data=f"{name}.data")
        (directory / "config.json").write_text(loaded.config_json, encoding="utf-8")
        if task.generates:
            loaded.model.generation_config.save_pretrained(directory)
        if loaded.tokenizer is not None:
            write_tokenizer(loaded.tokenizer, loaded.max_length, directory / "tokenizer.json")
        progress("check")
        if task.generates:
            check_generation(directory, loaded)
        else:
            check_graph(directory / MODEL_FILE, loaded)
    return output / MODEL_FILE if MODEL_FILE in graphs else output


def _tidy(graph: onnx_ir.Graph, loaded: SourceModel) -> None:
    name_axes(graph)
    if loaded.is_vision:
        fix_axes(graph, {name: tuple(tensor.shape) for name, tensor in loaded.sample(1, 1).items()})
    drop_stack_traces(graph)


def _load_backend(backend: Backend) -> Callable[..., dict[str, onnx_ir.Model]]:
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
    export_graphs: Callable[..., dict[str, onnx_ir.Model]] = module.export_graphs
    return export_graphs


def _export(
    export_graphs: Callable[..., dict[str, onnx_ir.Model]], loaded: SourceModel, opset: int | None, scratch: Path
) -> dict[str, onnx_ir.Model]:
    try:
        with quiet():
            return export_graphs(loaded, opset=opset, scratch=scratch)
    # Exporters raise whatever the tracer, the translator or the optimiser raised; to the user it is one event.
    except Exception as error:
        raise CompacterError(
            ErrorCode.E605,
            f"the exporter failed: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}",
            value=type(loaded.model).__name__,
            remedy="Try the other backend or another opset.",
        ) from error
