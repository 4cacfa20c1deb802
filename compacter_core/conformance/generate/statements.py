"""Which statements of the specification a case with numbers tests, by what its configuration has."""

from collections.abc import Iterator
from typing import Final

from compacter_core.config import AdapterConfig, Attach
from compacter_core.vocabulary import Activation, ProjectionKind, ScalingKind, Skip

ALWAYS: Final = ("NUM-1", "NUM-2")
ADAPTER: Final = ("FWD-1", "CNV-1")
OUTPUT: Final = "FWD-2"
FREE_SIZES: Final = "FWD-13"
LARGE_ARGUMENTS: Final = "FWD-20"
NAN_ROWS: Final = "FWD-21"
EMPTY_INPUT: Final = "FWD-22"
COUNT: Final = "FWD-23"
DEFAULTS: Final = "CFG-5"
FORWARD_BOUNDS: Final = ("NUM-3", "NUM-4", "NUM-5", "NUM-6", "NUM-7", "NUM-8")
GRADIENT_BOUNDS: Final = ("NUM-3", "NUM-9", "NUM-10", "NUM-11")
SUM_BOUND: Final = "NUM-13"
SCALING_BOUND: Final = "NUM-12"
SUBLAYER_BOUND: Final = "NUM-16"
OWN_ATTACH: Final = "PLC-7"
PRE_NORM: Final = "PLC-8"
PLACEMENT: Final = ("PLC-4", "PLC-5", "CNF-9")
GRADIENT: Final = ("GRD-1", "CNF-8")
INITIALISE: Final = ("INI-1", "INI-10", "CNF-10", "CNF-13")

_WEIGHT: Final = {
    ProjectionKind.DENSE: "FWD-3",
    ProjectionKind.LOW_RANK: "FWD-4",
    ProjectionKind.PHM: "FWD-5",
    ProjectionKind.LPHM: "FWD-6",
}
_ACTIVATION: Final = {
    Activation.GELU_NEW: "FWD-14",
    Activation.GELU: "FWD-15",
    Activation.RELU: "FWD-16",
    Activation.SILU: "FWD-17",
    Activation.TANH: "FWD-18",
    Activation.IDENTITY: "FWD-19",
}
_WEIGHT_GRADIENT: Final = {
    ProjectionKind.DENSE: ("GRD-2",),
    ProjectionKind.LOW_RANK: ("GRD-3",),
    ProjectionKind.PHM: ("GRD-4", "GRD-5"),
    ProjectionKind.LPHM: ("GRD-4", "GRD-6"),
}
_INITIAL_WEIGHT: Final = {
    ProjectionKind.DENSE: "INI-6",
    ProjectionKind.LOW_RANK: "INI-7",
    ProjectionKind.PHM: "INI-5",
    ProjectionKind.LPHM: "INI-5",
}


def forward(config: AdapterConfig) -> tuple[str, ...]:
    """What delta and y test."""
    return (*ADAPTER, OUTPUT, *_of_adapter(config), *ALWAYS)


def gradient(config: AdapterConfig) -> tuple[str, ...]:
    """What the gradients test."""
    return (*GRADIENT, *_of_gradient(config), *ALWAYS)


def sublayer(config: AdapterConfig, attach: Attach) -> tuple[str, ...]:
    """What a sublayer tests."""
    result = "PLC-2" if attach.skip is Skip.SUBLAYER_OUTPUT else "PLC-3"
    return (result, *PLACEMENT, *ADAPTER, OUTPUT, _WEIGHT[config.projection.kind], *ALWAYS)


def initialise(config: AdapterConfig) -> tuple[str, ...]:
    """What initial values test."""
    return (*INITIALISE, *_of_initialisation(config))


def _of_adapter(config: AdapterConfig) -> Iterator[str]:
    projection = config.projection
    yield _WEIGHT[projection.kind]
    if projection.kind.has_rule:
        yield from ("CNV-2", "FWD-7", "FWD-9")
    if projection.factorized_phm_rule:
        yield "FWD-8"
    if projection.shared_W:
        yield "FWD-10"
    yield from ("FWD-11", "FWD-12", _ACTIVATION[config.non_linearity])


def _of_gradient(config: AdapterConfig) -> Iterator[str]:
    projection = config.projection
    yield from _WEIGHT_GRADIENT[projection.kind]
    if projection.factorized_phm_rule:
        yield "GRD-7"
    if config.bias_down or config.bias_up:
        yield "GRD-8"
    if isinstance(config.scaling, ScalingKind):
        yield "GRD-9"
    if projection.shared_phm_rule or projection.shared_W:
        yield "GRD-10"
    yield "GRD-11"


def _of_initialisation(config: AdapterConfig) -> Iterator[str]:
    projection = config.projection
    yield _INITIAL_WEIGHT[projection.kind]
    if projection.kind.has_rule:
        yield "INI-2" if projection.shared_phm_rule else "INI-3"
    if projection.factorized_phm_rule:
        yield "INI-4"
    if config.bias_down or config.bias_up:
        yield "INI-8"
    if isinstance(config.scaling, ScalingKind):
        yield "INI-9"
