"""Numerics behind the interface that the runner talks to."""

from functools import partial

import numpy as np

from compacter_core.adapter import DType
from compacter_core.conformance.implementation import Answer, Capabilities, Done, Request
from compacter_core.conformance.implementations import arguments
from compacter_core.conformance.implementations.answering import WIDE_SUMS, Composed, Question, chosen, own_version
from compacter_core.conformance.mutation.numerics import Numerics
from compacter_core.conformance.tensor_files import write_tensors
from compacter_core.conformance.words import ConformanceClass, Op


def composed_of(numerics: Numerics, name: str, classes: frozenset[ConformanceClass]) -> Composed:
    """An implementation that computes in float64 and rounds each result once to the type asked for.

    Args:
        numerics: what it computes.
        name: of the implementation.
        classes: that it claims; for those with numbers, in every type.
    """
    return Composed(
        Capabilities(
            name=name,
            version=own_version(),
            claims={each: tuple(DType) if each.has_numbers else () for each in sorted(classes)},
            accumulate=WIDE_SUMS,
        ),
        {
            Op.COUNT: partial(_count, numerics),
            Op.FORWARD: partial(_forward, numerics),
            Op.GRADIENT: partial(_gradient, numerics),
            Op.SUBLAYER: partial(_sublayer, numerics),
            Op.INITIALISE: partial(_initialise, numerics),
        },
    )


def _forward(numerics: Numerics, request: Request) -> Answer:
    question = Question.of(request)
    site = numerics.site(question.adapter, arguments.site(request))
    x, skip = (question.inputs[name].astype(np.float64) for name in ("x", "skip"))
    found = {"delta": numerics.delta(site, x), "y": numerics.forward(site, x, skip)}
    return question.reply(request, chosen(request, found))


def _gradient(numerics: Numerics, request: Request) -> Answer:
    question = Question.of(request)
    sites = arguments.names(request, "sites")
    x, g = ({site: question.inputs[f"{letter}.{site}"].astype(np.float64) for site in sites} for letter in ("x", "g"))
    return question.reply(request, numerics.gradient(question.adapter, sites, x, g))


def _sublayer(numerics: Numerics, request: Request) -> Answer:
    question = Question.of(request)
    site_id = arguments.site(request)
    r, h, gain, offset = (question.inputs[name].astype(np.float64) for name in ("r", "h", "gain", "offset"))
    result = numerics.sublayer(
        numerics.attach(question.adapter.config, site_id),
        numerics.site(question.adapter, site_id),
        r,
        h,
        lambda v: gain * v + offset,
    )
    return question.reply(request, {"result": result})


def _initialise(numerics: Numerics, request: Request) -> Answer:
    drawn = numerics.initialise(
        arguments.config(request), arguments.count(request, "seed"), arguments.count(request, "draws")
    )
    request.out.write_bytes(write_tensors(drawn, DType.F64))
    return Done()


def _count(numerics: Numerics, request: Request) -> Answer:
    return Done({"parameters": numerics.count(arguments.config(request))})
