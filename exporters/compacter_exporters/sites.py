"""Which linear layer of a graph is which site, and what surrounds it.

Names are no guide: exporters rename and merge tensors at will. The adapter file therefore carries sketches of the
weights it was trained on, and a site is the linear layer whose weight is the sketched one; its bias is checked too.
Names, where the exporter left some, only cross-check. A backbone with other weights has no such layer and is refused.
"""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from compacter_core.adapter import Adapter
from compacter_core.config import AdapterConfig, Site
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.sketch import THRESHOLD, bias_name, is_sketched, weight_name
from compacter_core.vocabulary import Stack
from compacter_exporters.layer_sketches import COARSE_THRESHOLD, LayerSketches, least
from compacter_exporters.linears import Linear
from compacter_exporters.shared_layers import shares_layers

_REFUSED = "Graft into an export of the very backbone the adapter was trained on."


@dataclass(frozen=True, slots=True, eq=False)
class FoundSite:
    """A site of the adapter and its linear layer in the graph.

    Args:
        site: the site.
        linear: the sublayer's last linear layer.
        correlation: Pearson's r between the weight and its sketch.
    """

    site: Site
    linear: Linear
    correlation: float


def find_sites(layers: Sequence[Linear], adapter: Adapter) -> dict[str, FoundSite]:
    """Each site's linear layer, by the adapter's sketches.

    Raises:
        CompacterError: E401 if the backbone has another hidden size; E403 if a weight was trained further; E604 for a
            site that is not in the graph, is in it more than once, or whose name in the graph is that of another site.
    """
    candidates = _candidates(layers, adapter.config)
    if not candidates:
        raise CompacterError(
            ErrorCode.E401,
            "no linear layer of the graph has the adapter's hidden size as its output",
            value=sorted({layer.weight.shape[1] for layer in layers}),
            expected=str(adapter.config.hidden_size),
            remedy=_REFUSED,
        )
    sketched = LayerSketches.of(candidates)
    return _checked({site.id: _find(site, sketched, adapter) for site in adapter.config.sites}, adapter.config)


def find_stacks(layers: Sequence[Linear], adapter: Adapter) -> dict[str, FoundSite]:
    """The linear layers of those sites whose stack is in the graph: one of its sites is, hence all must be.

    A graph may hold the encoder alone, the decoder alone, both or neither.

    Raises:
        CompacterError: E403 and E604, as `find_sites`.
    """
    sketched = LayerSketches.of(_candidates(layers, adapter.config))
    found: dict[str, FoundSite] = {}
    for stack in Stack:
        sites = [site for site in adapter.config.sites if site.stack is stack]
        if any(sketched.holds(adapter.sketches.get(weight_name(site.id))) for site in sites):
            found |= {site.id: _find(site, sketched, adapter) for site in sites}
    return _checked(found, adapter.config)


def find_calls(layers: Sequence[Linear], adapter: Adapter) -> list[dict[str, FoundSite]]:
    """What `find_stacks` finds, for each call of the layers where the backbone calls them several times; else once.

    Raises:
        CompacterError: E403 and E604, as `find_sites`; E604 if several weights match a sketch, or if sites are there
            in different numbers.
    """
    if not shares_layers(adapter.config):
        found = find_stacks(layers, adapter)
        return [found] if found else []
    sketched = LayerSketches.of(_candidates(layers, adapter.config))
    sites = adapter.config.sites
    if not any(sketched.holds(adapter.sketches.get(weight_name(site.id))) for site in sites):
        return []
    matches = {site.id: _of_one_weight(_matches(site, sketched, adapter)) for site in sites}
    for one in (one for several in matches.values() for one in several):
        _check_sketched(one, adapter)
    counts = {site_id: len(several) for site_id, several in matches.items()}
    if len(set(counts.values())) > 1:
        raise CompacterError(
            ErrorCode.E604,
            "the graph does not call all layers equally often",
            value=counts,
            expected="every site as often as every other",
            remedy=_REFUSED,
        )
    calls = zip(*matches.values(), strict=True)
    return [_checked({one.site.id: one for one in call}, adapter.config) for call in calls]


def module_path(node: ir.Node) -> str | None:
    """The dotted path of the PyTorch module a node came from, where the exporter left a trace of it."""
    scopes = node.metadata_props.get("pkg.torch.onnx.name_scopes")
    if scopes is not None:
        try:
            parts = ast.literal_eval(scopes)
        except (ValueError, SyntaxError):
            return None
        return str(parts[-2]) if isinstance(parts, list) and len(parts) > 1 else None
    if node.name and node.name.startswith("/"):
        return ".".join(node.name.strip("/").split("/")[:-1])
    return None


def _matches(site: Site, sketched: LayerSketches, adapter: Adapter) -> list[FoundSite]:
    """The layers whose weight matches a site's sketch, at least one."""
    expected = adapter.sketches.get(weight_name(site.id))
    if expected is None:
        raise CompacterError(
            ErrorCode.E604,
            f"the adapter file has no weight sketch of site {site.id}, so it cannot be located in a graph",
            expected=weight_name(site.id),
            remedy="Save the adapter again from the PyTorch model it is attached to.",
        )
    scores = sketched.scores(expected)
    matches = [FoundSite(site, layer, score) for score, layer in scores if score >= least(layer)]
    if not matches:
        best = max((score for score, _ in scores), default=0.0)
        raise CompacterError(
            ErrorCode.E604,
            f"site {site.id} is not in the graph: no weight matches its sketch",
            value=f"largest correlation {best:.3f}",
            expected=f"at least {THRESHOLD}, or {COARSE_THRESHOLD} of a quantised weight",
            remedy=_REFUSED,
        )
    return matches


def _find(site: Site, sketched: LayerSketches, adapter: Adapter) -> FoundSite:
    matches = _matches(site, sketched, adapter)
    if len(matches) > 1:
        named = [match for match in matches if _is_named(match.linear, _module_of(adapter.config, site.id))]
        matches = named or matches
    if len(matches) > 1:
        raise _ambiguous(site, matches)
    _check_sketched(matches[0], adapter)
    return matches[0]


def _of_one_weight(matches: list[FoundSite]) -> list[FoundSite]:
    """The matches, all of which are calls of the same layer; quantisers may leave the weight of some as it was."""
    first = matches[0].linear
    for other in (match.linear for match in matches[1:]):
        if first.quantised is not None or other.quantised is not None:
            continue  # both are the sketched weight, up to a step
        same_tensor = other.node.inputs[1] is first.node.inputs[1]
        if not same_tensor and not np.array_equal(other.values(), first.values()):
            raise _ambiguous(matches[0].site, matches)
    return matches


def _ambiguous(site: Site, matches: Sequence[FoundSite]) -> CompacterError:
    return CompacterError(
        ErrorCode.E604,
        f"site {site.id} is in the graph more than once: {len(matches)} weights match its sketch",
        value=", ".join(str(match.linear.node.name) for match in matches),
        expected="one linear layer per site",
        remedy=_REFUSED,
    )


def _check_sketched(one: FoundSite, adapter: Adapter) -> None:
    if not one.linear.is_sketched(adapter.sketches[weight_name(one.site.id)]):
        raise CompacterError(
            ErrorCode.E403,
            f"the weight of site {one.site.id} comes from the sketched one but has changed since",
            value=f"correlation {one.correlation:.6f}",
            expected="equal values, up to a rounding to 16 bits, and to a step where it is quantised",
            remedy=_REFUSED,
        )


def check_biases(found: Mapping[str, FoundSite], adapter: Adapter) -> None:
    """Check that the sites' biases in a backbone graph are the sketched ones.

    Raises:
        CompacterError: E403 if one is not.
    """
    for one in found.values():
        sketch = adapter.sketches.get(bias_name(one.site.id))
        if sketch is not None and not is_sketched(sketch, one.linear.bias_or_zero):
            raise CompacterError(
                ErrorCode.E403,
                f"site {one.site.id} has the sketched weight but another bias: the backbone's weights have changed",
                value=one.linear.node.name,
                remedy=_REFUSED,
            )


def _candidates(layers: Sequence[Linear], config: AdapterConfig) -> list[Linear]:
    return [layer for layer in layers if layer.weight.shape[1] == config.hidden_size]


def _checked(found: dict[str, FoundSite], config: AdapterConfig) -> dict[str, FoundSite]:
    _check_distinct(found)
    for one in found.values():
        _check_name(one, config)
    return found


def _check_distinct(found: dict[str, FoundSite]) -> None:
    owner: dict[ir.Node, str] = {}
    for site_id, one in found.items():
        other = owner.setdefault(one.linear.node, site_id)
        if other != site_id:
            raise CompacterError(
                ErrorCode.E604,
                f"sites {other} and {site_id} match the same linear layer",
                value=one.linear.node.name,
                expected="one linear layer per site",
                remedy=_REFUSED,
            )


def _check_name(one: FoundSite, config: AdapterConfig) -> None:
    """Refuse a layer that carries another site's name. An unknown name proves nothing: code bases rename modules."""
    for site in config.sites:
        if site.id != one.site.id and _is_named(one.linear, _module_of(config, site.id)):
            raise CompacterError(
                ErrorCode.E604,
                f"the linear layer with the weight of site {one.site.id} carries the name of site {site.id}",
                value=module_path(one.linear.node),
                expected=_module_of(config, one.site.id),
                remedy=_REFUSED,
            )


def _module_of(config: AdapterConfig, site_id: str) -> str | None:
    modules = None if config.backbone is None else config.backbone.modules.get(site_id)
    return None if modules is None else modules.linear


def _is_named(layer: Linear, module: str | None) -> bool:
    path = module_path(layer.node)
    return module is not None and path is not None and f".{path}".endswith(f".{module}")
