"""Running a graph in ONNX Runtime with more outputs than it declares, on random inputs it accepts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import onnx_ir as ir
import onnxruntime

from compacter_core.adapter import Array
from compacter_core.errors import CompacterError, ErrorCode
from compacter_exporters.fused import embeddings
from compacter_exporters.fused.parts import is_contrib
from compacter_exporters.graph import constant_of, consumers, is_op, numpy_type
from compacter_exporters.input_shapes import input_shape
from compacter_exporters.quantised import is_quantised
from compacter_runtime.providers import choose_providers, require_active

_QUIET: Final = 3
_PASSING: Final = ("Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze")
_DATA_FOLDER: Final = "session.model_external_initializers_file_folder_path"


def random_inputs(graph: ir.Graph, generator: np.random.Generator, *, batch: int, length: int) -> dict[str, Array]:
    """One valid value for each input of the graph.

    Shapes are those of `input_shape`. Integers that index a constant table, as tokens do, are drawn from its rows;
    other integers and booleans are masks, each row after the first shortened.
    """
    inputs: dict[str, Array] = {}
    for value in graph.inputs:
        if value.is_initializer() or value.name is None or value.dtype is None:
            continue
        shape = input_shape(value, batch=batch, length=length)
        dtype = numpy_type(value.dtype)
        rows = _table_rows(value)
        if rows is not None:
            inputs[value.name] = generator.integers(0, rows, shape).astype(dtype)
        elif np.issubdtype(dtype, np.floating):
            inputs[value.name] = generator.standard_normal(shape).astype(dtype)
        else:
            inputs[value.name] = _mask(shape).astype(dtype)
    return inputs


def run_twice(
    real: ir.Model, file: Path, inputs: Mapping[str, Array], values: Sequence[ir.Value], providers: Sequence[str] | None
) -> tuple[dict[str, Array], dict[str, Array]]:
    """The outputs of a graph as it is, and its outputs and these values in a run that shows them.

    Where activations are quantised, a rounding moves a value by a whole step; so that both runs make the same ones, the
    runtime fuses nothing of its own then (ONX-34).

    Args:
        real: the graph of the file, or a copy in which branches are chosen.
        file: of the graph as it is.
        inputs: one array per input.
        values: values of the graph.
        providers: execution providers; None for the CPU.

    Raises:
        CompacterError: as `run_with`.
    """
    optimised = not is_quantised(real)
    outputs = [str(output.name) for output in real.graph.outputs]
    plain = run_model(file, inputs, outputs, providers, optimised=optimised)
    return plain, run_with(real, file.parent, inputs, values, providers, optimised=optimised)


def run_with(
    model: ir.Model,
    folder: Path,
    inputs: Mapping[str, Array],
    values: Sequence[ir.Value],
    providers: Sequence[str] | None,
    *,
    optimised: bool = True,
) -> dict[str, Array]:
    """The named values of a run, by name; the model in memory is left as it was.

    Args:
        model: the graph.
        folder: where its external data is.
        inputs: one array per input.
        values: values of the graph.
        providers: execution providers; None for the CPU.
        optimised: whether the runtime may fuse what it likes, which moves values by roundings.

    Raises:
        CompacterError: E701 for a provider that is not there, E704 if ONNX Runtime refuses the model.
    """
    declared = list(model.graph.outputs)
    wanted = {str(value.name): value for value in [*declared, *values]}
    try:
        model.graph.outputs[:] = list(wanted.values())
        data = ir.to_proto(model).SerializeToString()
    finally:
        model.graph.outputs[:] = declared
    return run_model(data, inputs, list(wanted), providers, folder=folder, optimised=optimised)


def run_model(
    model: Path | bytes,
    inputs: Mapping[str, Array],
    names: Sequence[str],
    providers: Sequence[str] | None,
    *,
    folder: Path | None = None,
    optimised: bool = True,
) -> dict[str, Array]:
    """Outputs of a model by name; arguments and errors as `run_with`."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _QUIET
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if folder is not None:
        options.add_session_config_entry(_DATA_FOLDER, str(folder.resolve()))
    chosen = choose_providers(providers or ["cpu"])
    try:
        source = model if isinstance(model, bytes) else str(model)
        session = onnxruntime.InferenceSession(source, options, providers=chosen)
        require_active(session, providers)
        results = session.run(list(names), dict(inputs))
    except CompacterError:
        raise
    except Exception as error:  # ONNX Runtime's exceptions have no common base class
        raise CompacterError(
            ErrorCode.E704, "ONNX Runtime cannot run the model", value=str(error).splitlines()[0]
        ) from error
    return dict(zip(names, results, strict=True))


def _mask(shape: tuple[int, ...]) -> Array:
    """Ones; row i loses its last i entries, but not all of them."""
    mask = np.ones(shape, dtype=np.int64)
    if mask.ndim > 1:
        for row in range(1, shape[0]):
            mask[row, ..., max(1, shape[-1] - row) :] = 0
    return mask


def _is_table(node: ir.Node, index: int) -> bool:
    """Whether this input of a fused operator indexes one of its tables."""
    return is_contrib(node, embeddings.OPERATOR) and index in embeddings.TABLES


def _table_rows(value: ir.Value) -> int | None:
    """Rows of the smallest constant table that a value indexes, directly or behind a Cast or another shape."""
    rows = []
    for node, index in value.uses():
        table = constant_of(node.inputs[embeddings.TABLES[index]]) if _is_table(node, index) else None
        if table is not None:
            rows.append(table.view.shape[0])
        if is_op(node, "Gather") and node.inputs[1] is value:
            table = constant_of(node.inputs[0])
            if table is not None and table.view.ndim > 1:
                rows.append(table.view.shape[0])
    for node in consumers(value, *_PASSING):
        behind = _table_rows(node.outputs[0]) if node.inputs[0] is value else None
        if behind is not None:
            rows.append(behind)
    return min(rows, default=None)
