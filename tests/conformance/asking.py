"""Requests made by hand, and their answers."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from compacter_core.adapter import Adapter, Array, DType
from compacter_core.conformance.implementation import Answer, Done, Implementation, Request
from compacter_core.conformance.tensor_files import read_tensors, write_tensors
from compacter_core.conformance.words import Op
from compacter_core.format.writer import adapter_bytes


def ask(
    implementation: Implementation,
    op: Op,
    folder: Path,
    *,
    dtype: DType | None = None,
    files: Mapping[str, bytes] | None = None,
    args: Mapping[str, object] | None = None,
) -> tuple[Answer, Path]:
    """The answer to a request with these files, and where its output is."""
    paths = {}
    for name, data in (files or {}).items():
        paths[name] = folder / name
        paths[name].write_bytes(data)
    request = Request(
        case="by-hand", op=op, dtype=dtype, files=paths, args=dict(args or {}), out=folder / f"{op.value}.out"
    )
    return implementation.run(request), request.out


def answered(
    implementation: Implementation,
    op: Op,
    adapter: Adapter,
    inputs: Mapping[str, Array],
    args: Mapping[str, object],
) -> dict[str, Array]:
    """The tensors that come back, which have to be of the adapter's type."""
    with TemporaryDirectory() as folder:
        files = {"adapter": adapter_bytes(adapter), "inputs": write_tensors(inputs, adapter.dtype)}
        answer, out = ask(implementation, op, Path(folder), dtype=adapter.dtype, files=files, args=args)
        assert answer == Done()
        tensors = read_tensors(out.read_bytes(), "the answer")
    assert {tensor.dtype for tensor in tensors.values()} == {adapter.dtype}
    return {name: tensor.array for name, tensor in tensors.items()}
