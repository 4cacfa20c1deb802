"""`adapter_config.json` of AdapterHub: what it may say, and what of it this format can express."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from compacter_core.errors import CompacterError, ErrorCode

CONFIG_FILE: Final = "adapter_config.json"

ReductionFactor = float | Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of one bottleneck adapter, with the names and the defaults of that library.

    Those that decide how an adapter is initialised or trained, not what it computes, are kept in `training`.
    """

    mh_adapter: bool
    output_adapter: bool
    cross_adapter: bool = False
    leave_out: tuple[int, ...] = ()
    reduction_factor: ReductionFactor
    non_linearity: str
    scaling: float | str = 1.0
    is_parallel: bool = False
    original_ln_before: bool = False
    original_ln_after: bool = True
    residual_before_ln: bool | str = True
    phm_layer: bool = False
    phm_dim: int = 4
    phm_rank: int = 1
    phm_bias: bool = True
    factorized_phm_W: bool = True
    factorized_phm_rule: bool = False
    shared_phm_rule: bool = True
    shared_W_phm: bool = False  # noqa: N815  the library's name
    training: Mapping[str, Any]

    def reduction_of(self, layer: int) -> float | None:
        """The reduction factor of a layer, counted through both stacks; None if a mapping leaves it open."""
        if isinstance(self.reduction_factor, Mapping):
            return self.reduction_factor.get(str(layer), self.reduction_factor.get("default"))
        return self.reduction_factor


def parse_options(data: Mapping[str, Any]) -> Options:
    """The options in the `config` of an `adapter_config.json`.

    Raises:
        CompacterError: E501 for a value that the library itself would not take, E502 for what this format lacks and for
            an unknown option.
    """
    _refuse_unsupported(data)
    own = {field.name for field in fields(Options)} - {"training"}
    unknown = sorted(set(data) - own - _TRAINING - set(_REFUSED))
    if unknown:
        raise CompacterError(
            ErrorCode.E502,
            f"{CONFIG_FILE} has options that this importer does not know",
            value=unknown,
            remedy="A later version of the library may have saved it.",
        )
    values = {name: _checked(name, value) for name, value in data.items() if name in own}
    for name in ("mh_adapter", "output_adapter", "reduction_factor", "non_linearity"):
        if name not in values:
            raise CompacterError(ErrorCode.E501, f"{CONFIG_FILE} lacks the option {name}")
    return Options(**values, training={name: data[name] for name in sorted(_TRAINING & set(data))})


_TRAINING: Final = frozenset(
    {
        "adapter_residual_before_ln",  # of ln_after alone
        "dropout",
        "hypercomplex_nonlinearity",
        "init_weights",
        "init_weights_seed",
        "inv_adapter_reduction_factor",
        "learn_phm",
        "phm_c_init",
        "phm_init_range",
    }
)

_REFUSED: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "architecture": (lambda value: value is not None, "is no single bottleneck adapter"),
    "inv_adapter": (bool, "adds an invertible adapter to the embeddings"),
    "invertible_adapter": (bool, "adds an invertible adapter to the embeddings"),
    "ln_before": (bool, "adds a norm of its own before the bottleneck"),
    "ln_after": (bool, "adds a norm of its own behind the bottleneck"),
    "use_gating": (bool, "adds a gate"),
    "stochastic_depth": (bool, "drops the adapter at random while it trains"),
}
"""Options of which any other value than the usual one computes what this format cannot express."""

_REMEDIES: Final = {
    "stochastic_depth": "It acts in training alone: set it to 0 in the file to import what the adapter computes.",
    "architecture": "LoRA and its like can be merged into the model by the library itself (merge_adapter).",
}


def _refuse_unsupported(data: Mapping[str, Any]) -> None:
    for name, (is_refused, what) in _REFUSED.items():
        if name in data and is_refused(data[name]):
            raise CompacterError(
                ErrorCode.E502,
                f"the option {name} of {CONFIG_FILE} {what}, which this format cannot express",
                value=data[name],
                remedy=_REMEDIES.get(name),
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_reduction(value: Any) -> bool:
    if isinstance(value, Mapping):
        return bool(value) and all(_is_number(factor) and factor > 0 for factor in value.values())
    return _is_number(value) and value > 0


def _is_leave_out(value: Any) -> bool:
    return value is None or (
        isinstance(value, list) and all(isinstance(layer, int) and not isinstance(layer, bool) for layer in value)
    )


_CHECKS: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "leave_out": (_is_leave_out, "a list of layer numbers"),
    "reduction_factor": (_is_reduction, "a positive number, or an object of them by layer"),
    "non_linearity": (lambda value: isinstance(value, str), "a name"),
    "scaling": (lambda value: _is_number(value) or value in ("learned", "channel"), "a number, learned or channel"),
    "residual_before_ln": (lambda value: value in (True, False, "post_add"), "true, false or post_add"),
    "phm_dim": (_is_count, "a positive integer"),
    "phm_rank": (_is_count, "a positive integer"),
}
_FLAG: Final = (lambda value: value is None or isinstance(value, bool), "true or false")


def _checked(name: str, value: Any) -> Any:
    accepts, expected = _CHECKS.get(name, _FLAG)
    if not accepts(value):
        raise CompacterError(ErrorCode.E501, f"option {name} of {CONFIG_FILE}", value=value, expected=expected)
    if name not in _CHECKS:
        return bool(value)
    if name == "leave_out":
        return tuple(value or ())
    return float(value) if name == "scaling" and _is_number(value) else value
