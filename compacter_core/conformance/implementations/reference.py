"""The NumPy reference as an implementation: the reader, the writer, and the equations in NumPy's own arithmetic.

F64 and F32 are computed in themselves. F16 and BF16 are computed in F32 and rounded once at the end, so their sums are
F32 too. That it is right in its own suite says something, since expectations come from exact arithmetic.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np

from compacter_core.adapter import Adapter, Array, DType, ProjectionParameters, SiteParameters
from compacter_core.config import AdapterConfig
from compacter_core.conformance.implementation import Answer, Capabilities, Done, Request
from compacter_core.conformance.implementations import arguments
from compacter_core.conformance.implementations.answering import (
    WIDE_SUMS,
    Composed,
    Question,
    chosen,
    own_version,
    stacked,
    write_answer,
)
from compacter_core.conformance.implementations.matching import match
from compacter_core.conformance.words import ConformanceClass, Op
from compacter_core.format.config_json import config_to_json
from compacter_core.format.container import parse_header
from compacter_core.format.reader import load_with_bytes
from compacter_core.format.tensors import part_of
from compacter_core.format.writer import ADAPTER_FILE, CONFIG_FILE, adapter_bytes
from compacter_core.layout import Part, Side, count_parameters, projection_names, scaling_name
from compacter_core.reference.adapter import Gradients, delta, forward, vjp
from compacter_core.reference.initialise import initialise
from compacter_core.reference.placement import sublayer

_TYPES: Final = tuple(DType)


def reference() -> Composed:
    """Classes R, W, F, G, P and I on NumPy and safetensors alone."""
    return Composed(
        Capabilities(
            name="compacter-core reference",
            version=own_version(),
            claims={
                ConformanceClass.READER: (),
                ConformanceClass.WRITER: (),
                ConformanceClass.FORWARD: _TYPES,
                ConformanceClass.GRADIENT: _TYPES,
                ConformanceClass.PLACEMENT: _TYPES,
                ConformanceClass.INITIALISATION: (),
            },
            accumulate=WIDE_SUMS,
        ),
        {
            Op.READ: _read,
            Op.COUNT: _count,
            Op.MATCH: match,
            Op.WRITE: _write,
            Op.FORWARD: _forward,
            Op.GRADIENT: _gradient,
            Op.SUBLAYER: _sublayer,
            Op.INITIALISE: _initialise,
        },
    )


def _read(request: Request) -> Answer:
    adapter, data = _load(request.files["adapter"], request.files.get("profile"))
    header = parse_header(data)
    body = memoryview(data)[header.data_start :]
    return Done(
        {
            "config": json.loads(config_to_json(adapter.config)),
            "tensors": {
                name: {
                    "dtype": entry.info.dtype.value,
                    "shape": list(entry.info.shape),
                    "sha256": hashlib.sha256(body[entry.begin : entry.end]).hexdigest(),
                }
                for name, entry in header.entries.items()
            },
        }
    )


def _load(adapter: Path, profile: Path | None) -> tuple[Adapter, bytes]:
    """A file alone, or with the copy of its configuration, as a directory of the hub profile."""
    if profile is None:
        return load_with_bytes(adapter)
    with TemporaryDirectory() as name:
        folder = Path(name)
        copyfile(adapter, folder / ADAPTER_FILE)
        copyfile(profile, folder / CONFIG_FILE)
        return load_with_bytes(folder)


def _count(request: Request) -> Answer:
    return Done({"parameters": count_parameters(arguments.config(request))})


def _write(request: Request) -> Answer:
    tensors = {name: tensor.array for name, tensor in arguments.tensors(request, "tensors").items()}
    adapter = Adapter(
        config=arguments.config(request),
        tensors={name: array for name, array in tensors.items() if part_of(name) != Part.SKETCH},
        sketches={name: array for name, array in tensors.items() if part_of(name) == Part.SKETCH},
        dtype=DType(str(request.args["dtype"])),
    )
    request.out.write_bytes(adapter_bytes(adapter))
    return Done()


def _forward(request: Request) -> Answer:
    question = Question.of(request)
    site = _site(question.adapter, arguments.site(request))
    x, skip = _wide(question.inputs["x"]), _wide(question.inputs["skip"])
    return question.reply(request, chosen(request, {"delta": delta(site, x), "y": forward(site, x, skip)}))


def _gradient(request: Request) -> Answer:
    question = Question.of(request)
    total: dict[str, Array] = {}
    for site_id in arguments.names(request, "sites"):
        x, g = (_wide(question.inputs[f"{letter}.{site_id}"]) for letter in "xg")
        gradients = vjp(_site(question.adapter, site_id), x, g)
        total[f"x.{site_id}"] = gradients.dx
        for name, array in _by_tensor(question.adapter.config, site_id, gradients):
            total[name] = total[name] + array if name in total else array
    return question.reply(request, total)


def _sublayer(request: Request) -> Answer:
    question = Question.of(request)
    config, site_id = question.adapter.config, arguments.site(request)
    r, h, gain, offset = (_wide(question.inputs[name]) for name in ("r", "h", "gain", "offset"))
    attach = config.attach_of(config.site(site_id))
    result = sublayer(attach, _site(question.adapter, site_id), r, h, lambda v: gain * v + offset)
    return question.reply(request, {"result": result})


def _initialise(request: Request) -> Answer:
    config, generator = arguments.config(request), np.random.default_rng(arguments.count(request, "seed"))
    drawn = [initialise(config, generator) for _ in range(arguments.count(request, "draws"))]
    return write_answer(request, stacked(drawn), DType.F64)


def _site(adapter: Adapter, site_id: str) -> SiteParameters:
    """The site, in the type that it is computed in."""
    site = adapter.site(site_id)
    return SiteParameters(
        down=_wide_projection(site.down),
        up=_wide_projection(site.up),
        non_linearity=site.non_linearity,
        scaling=_wide(site.scaling) if isinstance(site.scaling, np.ndarray) else site.scaling,
    )


def _wide_projection(p: ProjectionParameters) -> ProjectionParameters:
    tensors = {field.name: getattr(p, field.name) for field in fields(p)}
    arrays = {name: _wide(tensor) for name, tensor in tensors.items() if isinstance(tensor, np.ndarray)}
    return ProjectionParameters(kind=p.kind, **arrays)


def _wide(array: Array) -> Array:
    """F16 as F32; the other types are computed in as they are."""
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _by_tensor(config: AdapterConfig, site_id: str, gradients: Gradients) -> Iterator[tuple[str, Array]]:
    """A site's gradients by the tensors' full names; a tensor that both projections use comes twice."""
    site = config.site(site_id)
    for side, found in ((Side.DOWN, gradients.down), (Side.UP, gradients.up)):
        names = projection_names(config, site, side).tensors
        yield from ((names[short], array) for short, array in found.items())
    if gradients.scaling is not None:
        yield scaling_name(site), gradients.scaling
