"""Wrong implementations of the ONNX form: checks left out, and parts of an adapter forgotten."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np

from compacter_core.adapter import Adapter
from compacter_core.config import Attach
from compacter_core.conformance.implementation import Answer, Done, Rejected, Request, Skipped
from compacter_core.conformance.mutation.file_mutant import FileMutant, Right, confused, unchecked
from compacter_core.conformance.words import ConformanceClass, Op
from compacter_core.errors import CompacterError
from compacter_core.format.reader import load_adapter
from compacter_core.format.writer import adapter_bytes
from compacter_core.layout import Part
from compacter_core.vocabulary import Activation

_onnx: Final = partial(FileMutant, classes=frozenset({ConformanceClass.ONNX}))


def _forgetful(name: str, description: str, change: Callable[[Adapter], Adapter]) -> FileMutant:
    """Grafts another adapter than the one it is given."""

    def behave(request: Request, right: Right) -> Answer:
        if request.op is not Op.GRAFT:
            return right(request)
        path = request.files["adapter"].with_suffix(".changed.safetensors")
        try:
            path.write_bytes(adapter_bytes(change(load_adapter(request.files["adapter"]))))
        except CompacterError:
            return right(request)
        return right(replace(request, files={**request.files, "adapter": path}))

    return _onnx(name, description, behave)


def _config(**changes: Any) -> Callable[[Adapter], Adapter]:
    return lambda adapter: replace(adapter, config=replace(adapter.config, **changes))


def _zero(suffix: str) -> Callable[[Adapter], Adapter]:
    """Tensors whose names end so are zero."""

    def change(adapter: Adapter) -> Adapter:
        tensors = {n: np.zeros_like(a) if n.endswith(suffix) else a for n, a in adapter.tensors.items()}
        return replace(adapter, tensors=tensors)

    return change


def _constant(suffix: str, value: float) -> Callable[[Adapter], Adapter]:
    def change(adapter: Adapter) -> Adapter:
        tensors = {n: np.full_like(a, value) if n.endswith(suffix) else a for n, a in adapter.tensors.items()}
        return replace(adapter, tensors=tensors)

    return change


def _without(part: Part, **config: Any) -> Callable[[Adapter], Adapter]:
    def change(adapter: Adapter) -> Adapter:
        tensors = {name: a for name, a in adapter.tensors.items() if not name.startswith(f"{part}.")}
        return replace(adapter, config=replace(adapter.config, **config), tensors=tensors)

    return change


def _without_bias_sketches(adapter: Adapter) -> Adapter:
    return replace(adapter, sketches={n: a for n, a in adapter.sketches.items() if not n.endswith(".bias")})


def _one_placement(adapter: Adapter) -> Adapter:
    sites = tuple(replace(site, attach=None) for site in adapter.config.sites)
    return replace(adapter, config=replace(adapter.config, sites=sites))


def _rounded_scaling(adapter: Adapter) -> Adapter:
    scaling = adapter.config.scaling
    return _config(scaling=abs(scaling))(adapter) if isinstance(scaling, float) else adapter


def _unchanged(request: Request, right: Right) -> Answer:
    done = right(request)
    if request.op is Op.GRAFT and isinstance(done, Done):
        shutil.copyfile(request.files["model"], request.out)
    return done


def _again(request: Request, right: Right) -> Answer:
    """Writes the configuration of an extracted file's adapter anew, in its own words."""
    done = right(request)
    if request.op is Op.EXTRACT and isinstance(done, Done):
        adapter = load_adapter(request.out)
        config = replace(adapter.config, method=f"{adapter.config.method} (extracted)")
        request.out.write_bytes(adapter_bytes(replace(adapter, config=config)))
    return done


def _extracts_anyway(request: Request, right: Right) -> Answer:
    done = right(request)
    return Done() if request.op is Op.EXTRACT and isinstance(done, Rejected) and done.code != "E601" else done


def _skips(request: Request, right: Right) -> Answer:
    return Skipped("not done") if request.op is Op.EXTRACT else right(request)


ONNX_MUTANTS: Final[tuple[FileMutant, ...]] = (
    *(
        _onnx(f"{op.value}-never-{code.lower()}", f"does not look for {code}", unchecked(code, op=op))
        for op, codes in (
            (Op.EXTRACT, ("E101", "E306", "E601", "E602", "E603")),
            (Op.GRAFT, ("E101", "E401", "E403", "E404", "E405", "E604")),
        )
        for code in codes
    ),
    _onnx("missing-as-changed", "calls a constant that is gone a changed one", confused("E602", "E603")),
    _onnx("changed-as-missing", "calls a changed constant one that is gone", confused("E603", "E602")),
    _onnx("trained-as-missing", "does not tell a site that was trained further", confused("E403", "E604")),
    _onnx("digests-ignored", "extracts without looking at the graph", _extracts_anyway),
    _onnx("extracted-anew", "writes another file than the embedded one", _again),
    _onnx("extraction-skipped", "does not offer to extract", _skips),
    _onnx("backbone-unchanged", "grafts nothing", _unchanged),
    _forgetful("head-forgotten", "leaves the head", _without(Part.HEAD, head=None)),
    _forgetful("overrides-forgotten", "leaves norms and biases", _without(Part.OVERRIDE, overrides=())),
    _forgetful("gains-forgotten", "sets replaced gains to 1", _constant("norm.0.weight", 1.0)),
    _forgetful("scaling-forgotten", "does not scale", _rounded_scaling),
    _forgetful("learned-scaling-forgotten", "takes a trained scaling for 1", _constant(".scaling", 1.0)),
    _forgetful("bias-down-forgotten", "drops bd", _zero(".down.b")),
    _forgetful("bias-up-forgotten", "drops bu", _zero(".up.b")),
    _forgetful("bias-sketches-ignored", "does not compare biases", _without_bias_sketches),
    _forgetful("always-relu", "knows relu only", _config(non_linearity=Activation.RELU)),
    _forgetful("always-identity", "has no activation", _config(non_linearity=Activation.IDENTITY)),
    _forgetful("always-houlsby", "knows one placement", _config(attach=Attach())),
    _forgetful("one-placement", "gives all sites the adapter's placement", _one_placement),
    _forgetful("up-only", "drops the down-projection", _zero(".down.W")),
)
"""Wrong implementations of class O; each has to fail a case of `graft` or `extract`."""
