"""The suite of the specification; small suites made by hand, and implementations that answer them from a table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from compacter_core.adapter import Adapter, Array, DType
from compacter_core.config import AdapterConfig, Projection, Site
from compacter_core.conformance.case import Case, Expectation
from compacter_core.conformance.generate.builder import Builder
from compacter_core.conformance.implementation import Answer, Capabilities, Done, Request
from compacter_core.conformance.suite import Suite, default_suite, load_suite
from compacter_core.conformance.tensor_files import write_tensors
from compacter_core.conformance.words import ConformanceClass, Op
from compacter_core.format.writer import adapter_bytes
from compacter_core.layout import adapter_layout
from compacter_core.reference.adapter import delta
from compacter_core.vocabulary import Activation

SITE = "encoder.0.ffn"
CONFIG = AdapterConfig(
    method="other",
    name="tiny",
    hidden_size=2,
    projection=Projection.compacter(phm_dim=2),
    sites=(Site(id=SITE, bottleneck_size=2),),
    non_linearity=Activation.RELU,
)
EXACT_TYPES = (DType.F64, DType.F32, DType.F16, DType.BF16)


@cache
def vectors() -> Suite:
    """The suite of the specification, read once for each run of the tests."""
    return load_suite(default_suite())


def integer_adapter(config: AdapterConfig = CONFIG) -> Adapter:
    """An adapter of small integers, which every type holds exactly."""
    generator = np.random.default_rng(0)
    tensors = {
        name: generator.integers(-2, 3, shape).astype(np.float64) for name, shape in adapter_layout(config).items()
    }
    return Adapter(config=config, tensors=tensors, dtype=DType.F64)


def with_bounds(values: Mapping[str, Array], bound: float, *kinds: str) -> bytes:
    """A file of expectations, with one bound for every element in each of the kinds `<storage>.<accumulate>`."""
    bounds = {f"bound.{kind}.{name}": np.full(array.shape, bound) for kind in kinds for name, array in values.items()}
    return write_tensors({**values, **bounds}, DType.F64)


def count_case(name: str = "a", answer: int = 3, **changes: Any) -> Case:
    """A case without files: the configuration of a fake says its own answer."""
    fields: dict[str, Any] = {
        "id": f"count/{name}",
        "statements": ("CNF-4",),
        "op": Op.COUNT,
        "expect": Expectation(value={"parameters": 3}),
        "args": {"config": {"answer": answer}},
    }
    return Case(**{**fields, **changes})


def in_memory(*cases: Case, files: Mapping[str, bytes] | None = None) -> Suite:
    """A suite that was never on disk."""
    return Suite(
        directory=Path(),
        spec="1.0",
        manifest_sha256="0" * 64,
        cases={case.id: case for case in cases},
        files=files or {},
    )


def on_disk(directory: Path, *cases: Case, files: Mapping[str, bytes] | None = None) -> Suite:
    """A suite that was written and read again."""
    builder = Builder()
    for path, data in (files or {}).items():
        builder.file(path.removeprefix("files/"), data)
    for case in cases:
        builder.case(case)
    builder.write(directory)
    return load_suite(directory)


def forward_suite(directory: Path) -> Suite:
    """One forward case in every type, on integers, so that its bounds are 0."""
    adapter = integer_adapter()
    x = np.array([[1.0, -2.0], [3.0, 4.0], [0.0, -1.0]])
    expected = {"delta": delta(adapter.site(SITE), x)}
    case = Case(
        id="forward/integers",
        statements=("FWD-1",),
        op=Op.FORWARD,
        expect=Expectation(tensors="files/expected.safetensors"),
        dtypes=EXACT_TYPES,
        files={"adapter": "files/adapter.safetensors", "inputs": "files/inputs.safetensors"},
        args={"site": SITE, "outputs": ["delta"]},
    )
    files = {
        "files/expected.safetensors": with_bounds(expected, 0.0, *(f"{dtype}.F64" for dtype in EXACT_TYPES)),
        "files/adapter.safetensors": adapter_bytes(adapter),
        "files/inputs.safetensors": write_tensors({"x": x, "skip": x}, DType.F64),
    }
    return on_disk(directory, case, files=files)


@dataclass
class Scripted:
    """An implementation that answers by a function, and keeps the requests."""

    answer: Callable[[Request], Answer] = lambda _: Done({"parameters": 3})
    claims: Mapping[ConformanceClass, tuple[DType, ...]] = field(default_factory=lambda: {ConformanceClass.READER: ()})
    accumulate: Mapping[DType, DType] = field(default_factory=lambda: dict.fromkeys(DType, DType.F64))
    requests: list[Request] = field(default_factory=list)

    def describe(self) -> Capabilities:
        return Capabilities(name="scripted", version="1", claims=self.claims, accumulate=self.accumulate)

    def run(self, request: Request) -> Answer:
        self.requests.append(request)
        return self.answer(request)
