"""AdapterHub as an implementation: its modules do the work, this passes tensors in and out."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Final

import numpy as np
import torch
from torch import Tensor

from compacter_core.adapter import Array, DType
from compacter_core.conformance.implementation import Answer, Capabilities, Request, Skipped
from compacter_core.conformance.implementations.answering import (
    Handler,
    Question,
    answer,
    chosen,
    config_argument,
    count_argument,
    names_argument,
    site_argument,
    write_answer,
)
from compacter_core.conformance.implementations.pytorch import AffineNorm
from compacter_core.conformance.words import ConformanceClass, Op
from compacter_core.pytorch.convert import to_array
from examples.adapterhub.model import AdapterHubModel
from examples.adapterhub.translation import why_not, why_not_placed

_TYPES: Final = (DType.F64, DType.F32)


class AdapterHub:
    """Classes F, G, P and I in AdapterHub's code."""

    def __init__(self) -> None:
        self._handlers: Mapping[Op, Handler] = {
            Op.FORWARD: _forward,
            Op.GRADIENT: _gradient,
            Op.SUBLAYER: _sublayer,
            Op.INITIALISE: _initialise,
        }

    def describe(self) -> Capabilities:
        """What AdapterHub computes; it does not read or write our files."""
        return Capabilities(
            name="AdapterHub adapters",
            version=f"{version('adapters')}, transformers {version('transformers')}, PyTorch {torch.__version__}",
            claims={
                ConformanceClass.FORWARD: _TYPES,
                ConformanceClass.GRADIENT: _TYPES,
                ConformanceClass.PLACEMENT: _TYPES,
                ConformanceClass.INITIALISATION: (),
            },
            accumulate={dtype: dtype for dtype in _TYPES},
        )

    def run(self, request: Request) -> Answer:
        """Do what a case asks."""
        return answer(self._handlers, request)


def _forward(request: Request) -> Answer:
    question = Question.of(request)
    reason = why_not(question.adapter.config)
    if reason is not None:
        return Skipped(reason)
    model = AdapterHubModel(question.adapter.config)
    model.load(question.adapter)
    x, skip = (torch.from_numpy(question.inputs[name]) for name in ("x", "skip"))
    with torch.no_grad(), model.forward():
        y, _, delta = model.at(site_argument(request))(x, skip)
    return question.reply(request, chosen(request, _arrays({"delta": delta, "y": y}, question.dtype)))


def _gradient(request: Request) -> Answer:
    question = Question.of(request)
    reason = why_not(question.adapter.config)
    if reason is not None:
        return Skipped(reason)
    model = AdapterHubModel(question.adapter.config)
    model.load(question.adapter)
    site_ids = names_argument(request, "sites")
    entries = model.parameters(site_ids)
    inputs: dict[str, Tensor] = {}
    objective = torch.zeros((), dtype=next(iter(entries.values())).parameter.dtype)
    with model.forward():
        for site_id in site_ids:
            x, g = (torch.from_numpy(question.inputs[f"{letter}.{site_id}"]) for letter in "xg")
            inputs[f"x.{site_id}"] = x.requires_grad_()
            _, _, delta = model.at(site_id)(x, torch.zeros_like(x))
            objective = objective + (g * delta).sum()
    found = torch.autograd.grad(objective, [*inputs.values(), *(entry.parameter for entry in entries.values())])
    gradients = dict(zip([*inputs, *entries], found, strict=True))
    gradients |= {name: entry.ours(gradients[name]) for name, entry in entries.items()}
    return question.reply(request, _arrays(gradients, question.dtype))


def _sublayer(request: Request) -> Answer:
    question = Question.of(request)
    config, site_id = question.adapter.config, site_argument(request)
    attach = config.attach_of(config.site(site_id))
    reason = why_not(config) or why_not_placed(attach)
    if reason is not None:
        return Skipped(reason)
    model = AdapterHubModel(config, attach)
    model.load(question.adapter)
    r, h, gain, offset = (torch.from_numpy(question.inputs[name]) for name in ("r", "h", "gain", "offset"))
    end = model.end_of_sublayer(site_id, AffineNorm(gain, offset))
    with torch.no_grad(), model.forward():
        result = end(h, r)
    return question.reply(request, _arrays({"result": result}, question.dtype))


def _initialise(request: Request) -> Answer:
    config = config_argument(request)
    reason = why_not(config)
    if reason is not None:
        return Skipped(reason)
    torch.manual_seed(count_argument(request, "seed"))
    model = AdapterHubModel(config)
    drawn: list[dict[str, Array]] = []
    for _ in range(count_argument(request, "draws")):
        model.renew()
        drawn.append(model.tensors())
    return write_answer(request, {name: np.stack([one[name] for one in drawn]) for name in drawn[0]}, DType.F32)


def _arrays(tensors: Mapping[str, Tensor], dtype: DType) -> dict[str, Array]:
    return {name: to_array(tensor, dtype) for name, tensor in tensors.items()}
