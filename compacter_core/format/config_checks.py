"""What must hold between the parts of a configuration, beyond what its dataclasses check themselves."""

from compacter_core.config import AdapterConfig, Head
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.container import MAX_DIMENSION, MAX_RANK
from compacter_core.vocabulary import OverrideKind

HEAD_PARAMETERS = ("weight", "bias")


def check_config(config: AdapterConfig) -> None:
    """Check extensions, overrides and head.

    Raises:
        CompacterError: E203, E205, E208, E404 or E405.
    """
    for key, value in config.extensions.items():
        if not isinstance(value, dict) or value.get("must_understand") is not False:
            raise CompacterError(
                ErrorCode.E205,
                f"extension {key} has to be understood, and is not",
                value=value,
                expected='an object with "must_understand": false',
                remedy="Read the file with the tool that wrote it.",
            )
    _check_overrides(config)
    if config.head is not None:
        _check_head(config.head)


def _check_overrides(config: AdapterConfig) -> None:
    seen: set[str] = set()
    norms = frozenset(config.backbone.norms) if config.backbone else frozenset()
    for override in config.overrides:
        if override.name in seen:
            raise CompacterError(ErrorCode.E203, "an override is listed twice", value=override.name)
        seen.add(override.name)
        module, _, parameter = override.name.rpartition(".")
        if override.kind is OverrideKind.BIAS and parameter != "bias":
            raise CompacterError(
                ErrorCode.E405, "an override of kind bias", value=override.name, expected="a name ending in .bias"
            )
        if override.kind is OverrideKind.NORM and norms and module not in norms:
            raise CompacterError(
                ErrorCode.E404, "a norm override", value=override.name, expected="a parameter of one of backbone.norms"
            )


def _check_head(head: Head) -> None:
    allowed = {f"{layer}.{parameter}" for layer in head.layers for parameter in HEAD_PARAMETERS}
    needed = {f"{layer}.weight" for layer in head.layers}
    if not head.layers or not needed <= set(head.shapes) <= allowed:
        raise CompacterError(
            ErrorCode.E203,
            "head.shapes",
            value=sorted(head.shapes),
            expected="the weight, and where there is one the bias, of each of head.layers",
        )
    for name, shape in head.shapes.items():
        if not 1 <= len(shape) <= MAX_RANK or not all(1 <= size <= MAX_DIMENSION for size in shape):
            raise CompacterError(
                ErrorCode.E208,
                f"head.shapes.{name}",
                value=shape,
                expected=f"1 to {MAX_RANK} dimensions from 1 to {MAX_DIMENSION}",
            )
    if head.pooler is not None and head.pooling is not None:
        raise CompacterError(
            ErrorCode.E203, "head.pooler", value=head.pooler, expected=f"nothing beside the pooling {head.pooling}"
        )
    outputs = head.shapes[f"{head.layers[-1]}.weight"][0]
    if head.labels and len(head.labels) != outputs:
        raise CompacterError(
            ErrorCode.E203, "head.labels", value=f"{len(head.labels)} labels", expected=f"{outputs}, one per output"
        )
