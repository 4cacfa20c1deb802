"""Whether an adapter fits a graph that was opened for another one, or for itself."""

from typing import Final

import numpy as np

from compacter_core.adapter import Adapter, Array
from compacter_core.config import AdapterConfig, Head, Site
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.sketch import ROUNDING, similarity
from compacter_core.linkage.description import Description
from compacter_core.vocabulary import OverrideKind, ScalingKind

_REMEDY: Final = "Graft the backbone again with this adapter as the template."
_SUBNORMAL: Final = 2.0**-24
_SPANS: Final = "question-answering"


def check_fits(description: Description, adapter: Adapter) -> None:
    """Check that an open graph can take an adapter: the same backbone, and only places that are open.

    An adapter may lack sites, norms and the head that the graph has open; the backbone's own then stay.

    Raises:
        CompacterError: E401 for another hidden size; E403 for other backbone weights; E404 for a replaced tensor that
            is not open; E604 for a site or head that is not; E605 for another placement, activation or scaling.
    """
    template, config = description.template, adapter.config
    if config.hidden_size != template.hidden_size:
        raise CompacterError(
            ErrorCode.E401,
            "the adapter's hidden size is not the graph's",
            value=config.hidden_size,
            expected=str(template.hidden_size),
        )
    if config.non_linearity is not template.non_linearity:
        raise _other("another activation", config.non_linearity.value, template.non_linearity.value)
    if config.scaling is ScalingKind.CHANNEL and template.scaling is not ScalingKind.CHANNEL:
        raise _other("another scaling", config.scaling.value, "a number for all channels")
    _check_sites(description, adapter)
    _check_replaced(template, config)


def _check_sites(description: Description, adapter: Adapter) -> None:
    open_sites = {site.id: site for site in description.template.sites}
    for site in adapter.config.sites:
        if site.id not in open_sites:
            raise CompacterError(
                ErrorCode.E604, f"site {site.id} is not open in the graph", expected=", ".join(open_sites)
            )
        _check_attach(description.template, adapter.config, site)
        for part in ("weight", "bias"):
            _check_sketch(f"sketch.{site.id}.{part}", description, adapter)


def _check_attach(template: AdapterConfig, config: AdapterConfig, site: Site) -> None:
    expected, got = template.attach_of(template.site(site.id)), config.attach_of(site)
    if got != expected:
        raise _other(f"another placement at {site.id}", str(got), str(expected))


def _check_sketch(name: str, description: Description, adapter: Adapter) -> None:
    """Compare the adapter's sketch with the graph's; a bias that neither sketched was zero or absent."""
    got, expected = adapter.sketches.get(name), description.sketches.get(name)
    if got is None and name.endswith(".weight"):
        raise CompacterError(
            ErrorCode.E604,
            "the adapter file has no weight sketch, so nothing tells whether it is for this backbone",
            expected=name,
            remedy="Save the adapter again from the PyTorch model it is attached to.",
        )
    if got is None or expected is None or _agree(got, expected):
        return
    raise CompacterError(
        ErrorCode.E403,
        "the graph's backbone is not the one the adapter was trained on",
        value=f"{name}: correlation {similarity(got, expected):.3f}",
        expected="equal sketches, up to a rounding to 16 bits",
    )


def _agree(got: Array, expected: Array) -> bool:
    """Whether two sketches may be of one tensor, each rounded to 16 bits or not."""
    if got.shape != expected.shape:
        return False
    return bool(np.all(np.abs(got - expected) <= 2 * ROUNDING * np.abs(expected) + _SUBNORMAL))


def _check_replaced(template: AdapterConfig, config: AdapterConfig) -> None:
    opened = {override.name for override in template.overrides}
    for override in config.overrides:
        if override.name not in opened or override.kind is OverrideKind.HEAD:
            raise CompacterError(
                ErrorCode.E404, "the adapter replaces a tensor that is not open", value=override.name, remedy=_REMEDY
            )
    if config.head is None:
        return
    if template.head is None or template.head.layers != config.head.layers:
        raise CompacterError(
            ErrorCode.E604,
            "the adapter has a head that is not open in the graph",
            value=config.head.layers,
            expected=str(None if template.head is None else template.head.layers),
            remedy=_REMEDY,
        )
    got, expected = _fixed_shapes(config.head), _fixed_shapes(template.head)
    if got != expected:
        raise CompacterError(
            ErrorCode.E604,
            "the adapter's head has other tensors than the graph's",
            value=got,
            expected=str(expected),
            remedy=_REMEDY,
        )


def _fixed_shapes(head: Head) -> dict[str, tuple[int, ...]]:
    """The sizes of a head that are not free: all but the number of labels, or all where the columns are a span's."""
    if head.task == _SPANS:
        return dict(sorted(head.shapes.items()))
    last = head.layers[-1]
    return {
        name: shape[1:] if name.rpartition(".")[0] == last else shape for name, shape in sorted(head.shapes.items())
    }


def _other(what: str, got: str, expected: str) -> CompacterError:
    return CompacterError(
        ErrorCode.E605, f"the adapter has {what} than the graph", value=got, expected=expected, remedy=_REMEDY
    )
