"""Calls of adapters with random numbers, for the kernels of ONNX Runtime, and what the reference says of them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

from compacter_core.adapter import Array, DType, ProjectionParameters, SiteParameters
from compacter_core.layout import Side
from compacter_core.linkage.dense import Dense
from compacter_core.linkage.factors import Factors
from compacter_core.reference.adapter import delta, forward
from compacter_core.reference.bounds import delta_bound, forward_bound, layer_norm_bound, worst_ratio
from compacter_core.reference.placement import layer_norm
from compacter_core.reference.projection import rule
from compacter_core.vocabulary import ProjectionKind
from compacter_exporters.functions import DOMAIN, Kind, Signature
from compacter_exporters.weights import Weights
from compacter_runtime import kernels

F32: dict[str, Any] = {"storage": DType.F32, "accumulate": DType.F32}
EPSILON = 1e-5
SITES, SITE = 3, 2
"""How many sites' tensors calls of one of them are given, and which it is."""
ENTRIES = 4
"""Of a bank."""
SHARED = ("x", "r", "entry", "bias")
"""Inputs that are no site's."""


def weights_of(
    kind: ProjectionKind, sizes: tuple[int, int], n: int, r: int, draw: Callable[..., Array]
) -> dict[str, Array]:
    """The tensors of a projection [in, out] with n summands of rank r."""
    rows, columns = (size // n for size in sizes)
    match kind:
        case ProjectionKind.DENSE:
            return {"W": draw(*sizes)}
        case ProjectionKind.LOW_RANK:
            return {"W_left": draw(sizes[0], r), "W_right": draw(r, sizes[1])}
        case ProjectionKind.PHM:
            return {"W": draw(n, rows, columns), "phm_rule": draw(n, n, n)}
        case ProjectionKind.LPHM:
            return {"W_left": draw(n, rows, r), "W_right": draw(n, r, columns), "phm_rule": draw(n, n, n)}


def projections_of(site: SiteParameters) -> dict[Side, ProjectionParameters]:
    return {Side.DOWN: site.down, Side.UP: site.up}


def weights_of_site(site: SiteParameters) -> dict[str, Array]:
    """What functions take one adapter's projections in."""
    factors, dense = Factors.of(site), Dense.of(site)
    left, mixing, right = {"down_left": factors.left}, {"down_mixing": factors.mix_down}, {"up_right": factors.right}
    return left | mixing | right | {"up_mixing": factors.mix_up, "down_weight": dense.Wd, "up_weight": dense.Wu}


def weights_in_bank(site: SiteParameters, weights: Weights) -> dict[str, Array]:
    """What a bank has of an adapter's projections, as `compacter_core/linkage/bank.py` says."""
    if weights is Weights.BANK_DENSE:
        return weights_of_site(site)
    arrays: dict[str, Array] = {}
    for side, p in projections_of(site).items():
        W, s, t = (np.asarray(array) for array in (p.W, p.W_left, p.W_right))
        A = np.asarray(rule(p)) if p.kind.has_rule else np.ones((1, 1, 1))
        n = len(A)
        match weights:
            case Weights.BANK_LOW_RANK:
                tensors = {"left": s, "right": t}
            case Weights.BANK_PHM:
                tensors = {"weight": W.reshape(n, -1), "rule": np.einsum("iab->abi", A).reshape(-1, n)}
            case _:
                tensors = {"left": np.concatenate(list(s), axis=1), "right": np.concatenate(list(t), axis=0)}
                tensors["rule"] = np.einsum("iab->aib", A).reshape(n, n, 1, n, 1, 1)
        arrays |= {f"{side}_{name}": array for name, array in tensors.items()}
    return arrays


@dataclass(frozen=True)
class Sizes:
    """Of an adapter, and its kind: d = n m, k = n q."""

    kind: ProjectionKind = ProjectionKind.DENSE
    n: int = 1
    q: int = 4
    r: int = 1


@dataclass(frozen=True)
class Case:
    """A call, and the numbers it is given.

    Args:
        signature: of the function.
        tensors: its inputs in their order.
        sites: the adapters as the reference takes them, one for each row of the batch or one for all.
    """

    signature: Signature
    tensors: dict[str, Array]
    sites: list[SiteParameters]

    @classmethod
    def drawn(
        cls, signature: Signature, shape: tuple[int, ...], sizes: Sizes, *, scale: float = 1.0, seed: int = 0
    ) -> "Case":
        """Random numbers for x [..., d]."""
        generator, d, k = np.random.default_rng(seed), shape[-1], sizes.n * sizes.q

        def draw(*shape: int) -> Array:
            return generator.standard_normal(shape).astype(np.float32)

        def projection(of: tuple[int, int], has_bias: bool) -> ProjectionParameters:
            tensors = weights_of(sizes.kind, of, sizes.n, sizes.r, draw)
            tensors = {name: array * np.float32(max(1, of[0]) ** -0.25) for name, array in tensors.items()}
            return ProjectionParameters(kind=sizes.kind, b=draw(of[1]) if has_bias else None, **tensors)

        weights = signature.weights
        sites = [
            SiteParameters(
                down=projection((d, k), signature.has_bd),
                up=projection((k, d), signature.has_bu),
                non_linearity=signature.activation,
                scaling=1.0,
            )
            for _ in range(ENTRIES if weights.are_of_bank else SITES if weights.are_by_site else 1)
        ]
        given = [cls._given(signature, site) | {name: draw(d) for name in ("gain", "shift")} for site in sites]
        tensors = given[0]
        if weights.are_of_bank:
            own = given[0].keys() - {"gain", "shift"}
            tensors = tensors | {name: draw(ENTRIES, SITES, *given[0][name].shape) for name in own}
            for entry, one in enumerate(given):
                for name in own:
                    tensors[name][entry, SITE] = one[name]
            tensors["entry"] = generator.integers(ENTRIES, size=shape[0])
            sites = [sites[entry] for entry in tensors["entry"]]
        elif weights.are_by_site:
            tensors, sites = {name: np.stack([one[name] for one in given]) for name in given[0]}, [sites[SITE]]
        of_all = {name: draw(*shape) * np.float32(scale) for name in ("x", "r")} | {"bias": draw(d)}
        tensors = of_all | tensors
        return cls(signature, {name: tensors[name] for name in signature.inputs}, sites)

    def of_site(self, name: str) -> Array:
        """An input, of those of all sites the call's."""
        array = self.tensors[name]
        return array[SITE] if self.signature.weights.are_by_site and name not in SHARED else array

    @staticmethod
    def _given(signature: Signature, site: SiteParameters) -> dict[str, Array]:
        """A site's tensors, rounded once."""
        weights = signature.weights
        arrays = weights_in_bank(site, weights) if weights.are_of_bank else weights_of_site(site)
        arrays = {name: arrays[name] for side in Side for name in weights.inputs(side)}
        for side, p in projections_of(site).items():
            if p.b is not None:
                arrays[f"{side}_bias"] = p.b[np.newaxis] if weights.are_of_bank else p.b
        return {name: array.astype(np.float32) for name, array in arrays.items()}

    def reference(self) -> tuple[Array, Array]:
        """What the function computes, and the bound of an implementation's error."""
        rows = self.tensors["x"] if self.signature.weights.are_of_bank else self.tensors["x"][np.newaxis]
        residuals = self.tensors["r"].reshape(rows.shape) if "r" in self.tensors else rows
        found = [self._row(*row) for row in zip(self.sites, rows, residuals, strict=True)]
        shape = self.tensors["x"].shape
        values, bounds = (np.stack(arrays).reshape(shape) for arrays in zip(*found, strict=True))
        return values, bounds

    def _row(self, site: SiteParameters, x: Array, r: Array) -> tuple[Array, Array]:
        x, r, u = x.astype(np.float64), r.astype(np.float64), DType.F32.roundoff
        if self.signature.has_b:
            # Both are float32, and their sum is rounded before anything else is done with it.
            site = replace(site, up=replace(site.up, b=self.tensors["bias"] + site.up.b))
        if self.signature.kind is Kind.DELTA:
            return delta(site, x), delta_bound(site, x, **F32)
        E = forward_bound(site, x, x, **F32)
        total = r + forward(site, x, x)
        E = (1 + u) * E + u * np.abs(total) + DType.F32.smallest_normal
        if self.signature.kind is Kind.RESIDUAL:
            return total, E
        gain, shift = (self.of_site(name).astype(np.float64) for name in ("gain", "shift"))
        bound = layer_norm_bound(total, gain, shift, EPSILON, input_error=E, **F32)
        return layer_norm(total, gain, shift, EPSILON), bound

    def ratio(self, y: Array) -> float:
        """The largest error over its bound."""
        assert y.dtype == np.float32 and y.shape == self.tensors["x"].shape
        return worst_ratio(y, *self.reference())


def model_of(signature: Signature, within: tuple[int, ...] | None = None) -> bytes:
    """A call.

    Args:
        signature: of the function.
        within: the shape of x of a call between two nodes: r is minus the input then, and y minus the call's result.
            As ONNX Runtime knows that they have one shape, it gives the result the memory of what made r.
    """

    def info(name: str) -> onnx.ValueInfoProto:
        dtype = onnx.TensorProto.INT64 if name == "entry" else onnx.TensorProto.FLOAT
        is_like_x = name in ("x", "r", "made", "inner", "y")
        return onnx.helper.make_tensor_value_info(name, dtype, within if is_like_x else None)

    attributes: dict[str, Any] = {"epsilon": EPSILON} if signature.kind is Kind.NORM else {}
    attributes |= {"site": SITE} if signature.weights.have_sites else {}
    names, nodes, inner = list(signature.inputs), [], "y"
    if within is not None:
        nodes.append(onnx.helper.make_node("Neg", ["r"], ["made"]))
        names[1], inner = "made", "inner"
    nodes.append(onnx.helper.make_node(signature.name, names, [inner], domain=DOMAIN, **attributes))
    if within is not None:
        nodes.append(onnx.helper.make_node("Neg", [inner], ["y"]))
    values = [] if within is None else [info(name) for name in ("made", "inner")]
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid(DOMAIN, 1)]
    graph = onnx.helper.make_graph(nodes, "call", list(map(info, signature.inputs)), [info("y")], value_info=values)
    functions = [ir.to_proto(signature.function(17))]
    model = onnx.helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=9)
    return bytes(model.SerializeToString())


def session_of(
    signature: Signature,
    *,
    with_kernels: bool = True,
    threads: int = 1,
    within: tuple[int, ...] | None = None,
) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    if with_kernels:
        assert kernels.register(options)
    model = model_of(signature, within)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run(session: onnxruntime.InferenceSession, case: Case) -> Array:
    return np.asarray(session.run(None, case.tensors)[0])
