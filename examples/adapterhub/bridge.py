"""AdapterHub as an implementation: its modules do the work, this passes tensors in and out."""

from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from typing import Final

import torch
from torch import Tensor

from compacter_core.adapter import Array, DType
from compacter_core.config import Attach
from compacter_core.conformance.implementation import Answer, Capabilities, Done, Request, Skipped
from compacter_core.conformance.implementations import arguments
from compacter_core.conformance.implementations.answering import Composed, Question, chosen, stacked, write_answer
from compacter_core.conformance.implementations.pytorch import AffineNorm
from compacter_core.conformance.words import ConformanceClass, Op
from compacter_core.pytorch.convert import to_array
from examples.adapterhub.model import AdapterHubModel
from examples.adapterhub.translation import why_not, why_not_placed

_TYPES: Final = (DType.F64, DType.F32)


def adapterhub() -> Composed:
    """Classes F, G, P and I in AdapterHub's code, which does not read or write our files."""
    return Composed(
        Capabilities(
            name="AdapterHub adapters",
            version=f"{version('adapters')}, transformers {version('transformers')}, PyTorch {torch.__version__}",
            claims={
                ConformanceClass.FORWARD: _TYPES,
                ConformanceClass.GRADIENT: _TYPES,
                ConformanceClass.PLACEMENT: _TYPES,
                ConformanceClass.INITIALISATION: (),
            },
            accumulate={dtype: dtype for dtype in _TYPES},
        ),
        {
            Op.FORWARD: partial(_on_model, _forward),
            Op.GRADIENT: partial(_on_model, _gradient),
            Op.SUBLAYER: partial(_on_model, _sublayer),
            Op.INITIALISE: _initialise,
        },
    )


def _on_model(work: Callable[[Request, Question, AdapterHubModel], Done], request: Request) -> Answer:
    """The work on a model of AdapterHub's that has the request's adapter; skipped if there can be none."""
    question = Question.of(request)
    config = question.adapter.config
    placed = request.op is Op.SUBLAYER
    attach = config.attach_of(config.site(arguments.site(request))) if placed else Attach()
    reason = why_not(config) or why_not_placed(attach)
    if reason is not None:
        return Skipped(reason)
    model = AdapterHubModel(config, attach)
    model.load(question.adapter)
    return work(request, question, model)


def _forward(request: Request, question: Question, model: AdapterHubModel) -> Done:
    x, skip = (torch.from_numpy(question.inputs[name]) for name in ("x", "skip"))
    with torch.no_grad(), model.forward():
        y, _, delta = model.at(arguments.site(request))(x, skip)
    return question.reply(request, chosen(request, _arrays({"delta": delta, "y": y}, question.dtype)))


def _gradient(request: Request, question: Question, model: AdapterHubModel) -> Done:
    site_ids = arguments.names(request, "sites")
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


def _sublayer(request: Request, question: Question, model: AdapterHubModel) -> Done:
    r, h, gain, offset = (torch.from_numpy(question.inputs[name]) for name in ("r", "h", "gain", "offset"))
    end = model.end_of_sublayer(arguments.site(request), AffineNorm(gain, offset))
    with torch.no_grad(), model.forward():
        result = end(h, r)
    return question.reply(request, _arrays({"result": result}, question.dtype))


def _initialise(request: Request) -> Answer:
    config = arguments.config(request)
    reason = why_not(config)
    if reason is not None:
        return Skipped(reason)
    torch.manual_seed(arguments.count(request, "seed"))
    model = AdapterHubModel(config)
    drawn: list[dict[str, Array]] = []
    for _ in range(arguments.count(request, "draws")):
        model.renew()
        drawn.append(model.tensors())
    return write_answer(request, stacked(drawn), DType.F32)


def _arrays(tensors: Mapping[str, Tensor], dtype: DType) -> dict[str, Array]:
    return {name: to_array(tensor, dtype) for name, tensor in tensors.items()}
