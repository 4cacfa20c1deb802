"""The PyTorch back end as an implementation: its modules, its hooks, its autograd, on the CPU.

Results of every operation are stored in the type of the tensors. PyTorch's CPU kernels for F16 and BF16 widen to F32
inside an operation (products, activations) and round its result once, so sums are F32 there.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from compacter_core.adapter import Adapter, Array, DType
from compacter_core.conformance.implementation import Answer, Capabilities, Request
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
from compacter_core.conformance.words import ConformanceClass, Op
from compacter_core.layout import Side, projection_names, scaling_name
from compacter_core.pytorch.bindings import BoundSite
from compacter_core.pytorch.convert import to_array
from compacter_core.pytorch.modules import AdapterModule
from compacter_core.pytorch.placement import Placement
from compacter_core.pytorch.switching import Switch
from compacter_core.reference.initialise import initialise
from compacter_core.vocabulary import ScalingKind

_TORCH: Final[Mapping[DType, torch.dtype]] = {
    DType.F64: torch.float64,
    DType.F32: torch.float32,
    DType.F16: torch.float16,
    DType.BF16: torch.bfloat16,
}
_TYPES: Final = tuple(_TORCH)


def pytorch() -> Composed:
    """Classes F, G, P and I. The reader and the writer are the reference's, so they are not claimed again."""
    return Composed(
        Capabilities(
            name="compacter-core PyTorch",
            version=f"{own_version()}, PyTorch {torch.__version__}",
            claims={
                ConformanceClass.FORWARD: _TYPES,
                ConformanceClass.GRADIENT: _TYPES,
                ConformanceClass.PLACEMENT: _TYPES,
                ConformanceClass.INITIALISATION: (),
            },
            accumulate=WIDE_SUMS,
        ),
        {
            Op.FORWARD: _forward,
            Op.GRADIENT: _gradient,
            Op.SUBLAYER: _sublayer,
            Op.INITIALISE: _initialise,
        },
    )


class AffineNorm(nn.Module):
    """The norm of placement cases, N(v) = gain v + offset (CNF-9).

    Shape:
        [..., d] -> [..., d].
    """

    def __init__(self, gain: Tensor, offset: Tensor) -> None:
        super().__init__()
        self.register_buffer("gain", gain)
        self.register_buffer("offset", offset)

    def forward(self, v: Tensor) -> Tensor:
        """N(v)."""
        return self.get_buffer("gain") * v + self.get_buffer("offset")


class Sublayer(nn.Module):
    """The end of a transformer's sublayer around given values: r passes through one module, h leaves another.

    Shape:
        r, h [..., d] -> N(r + h) [..., d].
    """

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.residual = nn.Identity()
        self.output = nn.Identity()
        self.norm = norm

    def site(self) -> BoundSite:
        """The modules that a placement hooks into."""
        return BoundSite(linear=self.output, output=self.output, residual=self.residual, norm=self.norm)

    def forward(self, r: Tensor, h: Tensor) -> Tensor:
        """N(r + h)."""
        result: Tensor = self.norm(self.residual(r) + self.output(h))
        return result


def _forward(request: Request) -> Answer:
    question = Question.of(request)
    x, skip = (_tensor(question.inputs[name], question.dtype) for name in ("x", "skip"))
    with torch.no_grad():
        delta = _module(question.adapter).at(arguments.site(request))(x)
        tensors = {"delta": delta, "y": skip + delta}
    return question.reply(request, chosen(request, _arrays(tensors, question.dtype)))


def _gradient(request: Request) -> Answer:
    question = Question.of(request)
    config, module = question.adapter.config, _module(question.adapter)
    inputs, used, objective = {}, set(), torch.zeros((), dtype=_TORCH[question.dtype])
    for site_id in arguments.names(request, "sites"):
        x, g = (_tensor(question.inputs[f"{letter}.{site_id}"], question.dtype) for letter in "xg")
        inputs[f"x.{site_id}"] = x.requires_grad_()
        site = config.site(site_id)
        for side in Side:
            used |= set(projection_names(config, site, side).tensors.values())
        if isinstance(config.scaling, ScalingKind):
            used.add(scaling_name(site))
        objective = objective + (g * module.at(site_id)(x)).sum()
    wanted = {**inputs, **{name: parameter for name, parameter in module.tensor_parameters().items() if name in used}}
    found = torch.autograd.grad(objective, list(wanted.values()))
    gradients = dict(zip(wanted, found, strict=True))
    return question.reply(request, _arrays(gradients, question.dtype))


def _sublayer(request: Request) -> Answer:
    question = Question.of(request)
    config, site_id = question.adapter.config, arguments.site(request)
    r, h, gain, offset = (_tensor(question.inputs[name], question.dtype) for name in ("r", "h", "gain", "offset"))
    sublayer = Sublayer(AffineNorm(gain, offset))
    attach = config.attach_of(config.site(site_id))
    placement = Placement(_module(question.adapter).at(site_id), attach, Switch(on=True))
    placement.register(sublayer.site())
    with torch.no_grad():
        result = sublayer(r, h)
    return question.reply(request, _arrays({"result": result}, question.dtype))


def _initialise(request: Request) -> Answer:
    config, generator = arguments.config(request), np.random.default_rng(arguments.count(request, "seed"))
    drawn = []
    for _ in range(arguments.count(request, "draws")):
        module = AdapterModule(config, initialise(config, generator))
        drawn.append(_arrays(dict(module.tensor_parameters()), DType.F32))
    return write_answer(request, stacked(drawn), DType.F32)


def _module(adapter: Adapter) -> AdapterModule:
    return AdapterModule(adapter.config, dict(adapter.tensors), dtype=_TORCH[adapter.dtype])


def _tensor(array: Array, dtype: DType) -> Tensor:
    return torch.from_numpy(array).to(_TORCH[dtype])


def _arrays(tensors: Mapping[str, Tensor], dtype: DType) -> dict[str, Array]:
    return {name: to_array(tensor, dtype) for name, tensor in tensors.items()}
