"""Numerics behind the interface that the runner talks to."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from compacter_core.adapter import DType
from compacter_core.conformance.implementation import Answer, Capabilities, Done, Request
from compacter_core.conformance.implementations.answering import (
    Handler,
    Question,
    answer,
    chosen,
    config_argument,
    count_argument,
    names_argument,
    own_version,
    site_argument,
)
from compacter_core.conformance.mutation.numerics import Numerics
from compacter_core.conformance.tensor_files import write_tensors
from compacter_core.conformance.words import ConformanceClass, Op

_ACCUMULATE: Final[Mapping[DType, DType]] = {
    DType.F64: DType.F64,
    DType.F32: DType.F32,
    DType.F16: DType.F32,
    DType.BF16: DType.F32,
}


class NumericsImplementation:
    """Computes in float64 and rounds each result once to the type asked for.

    Args:
        name: of the implementation.
        numerics: what it computes.
        classes: that it claims; for those with numbers, in every type.
    """

    def __init__(self, name: str, numerics: Numerics, classes: frozenset[ConformanceClass]) -> None:
        self._name = name
        self._numerics = numerics
        self._classes = classes
        self._handlers: Mapping[Op, Handler] = {
            Op.COUNT: self._count,
            Op.FORWARD: self._forward,
            Op.GRADIENT: self._gradient,
            Op.SUBLAYER: self._sublayer,
            Op.INITIALISE: self._initialise,
        }

    def describe(self) -> Capabilities:
        """Name and claims."""
        return Capabilities(
            name=self._name,
            version=own_version(),
            claims={each: tuple(DType) if each.has_numbers else () for each in sorted(self._classes)},
            accumulate=_ACCUMULATE,
        )

    def run(self, request: Request) -> Answer:
        """Do what a case asks; operations without numbers but `count` are skipped."""
        return answer(self._handlers, request)

    def _forward(self, request: Request) -> Answer:
        question = Question.of(request)
        site = self._numerics.site(question.adapter, site_argument(request))
        x, skip = (question.inputs[name].astype(np.float64) for name in ("x", "skip"))
        found = {"delta": self._numerics.delta(site, x), "y": self._numerics.forward(site, x, skip)}
        return question.reply(request, chosen(request, found))

    def _gradient(self, request: Request) -> Answer:
        question = Question.of(request)
        sites = names_argument(request, "sites")
        x, g = (
            {site: question.inputs[f"{letter}.{site}"].astype(np.float64) for site in sites} for letter in ("x", "g")
        )
        return question.reply(request, self._numerics.gradient(question.adapter, sites, x, g))

    def _sublayer(self, request: Request) -> Answer:
        question = Question.of(request)
        site_id = site_argument(request)
        r, h, gain, offset = (question.inputs[name].astype(np.float64) for name in ("r", "h", "gain", "offset"))
        result = self._numerics.sublayer(
            self._numerics.attach(question.adapter.config, site_id),
            self._numerics.site(question.adapter, site_id),
            r,
            h,
            lambda v: gain * v + offset,
        )
        return question.reply(request, {"result": result})

    def _initialise(self, request: Request) -> Answer:
        drawn = self._numerics.initialise(
            config_argument(request), count_argument(request, "seed"), count_argument(request, "draws")
        )
        request.out.write_bytes(write_tensors(drawn, DType.F64))
        return Done()

    def _count(self, request: Request) -> Answer:
        return Done({"parameters": self._numerics.count(config_argument(request))})
