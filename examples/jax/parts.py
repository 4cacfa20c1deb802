"""The parts of a configuration: readers of its nested objects (CFG)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from examples.jax.fields import Fields, boolean, integer, mapping, sequence, string, word
from examples.jax.rejection import Rejection

MAX_SIZE = 65_536
MAX_RANK = 4
MAX_DIMENSION = 2**31 - 1
RULED, RANKED = ("phm", "lphm"), ("low_rank", "lphm")

_SITE = re.compile(r"(encoder|decoder)\.(0|[1-9][0-9]{0,4})\.(self_attn|cross_attn|ffn)")


@dataclass(frozen=True, slots=True)
class Attach:
    """Where D reads and writes: o = skip + scaling D(input), then N(r + o) if post, else o (PLC)."""

    input: str = "sublayer_output"
    skip: str = "sublayer_output"
    post: bool = True


@dataclass(frozen=True, slots=True)
class Projection:
    """Kind and sizes of both projections."""

    kind: str
    phm_dim: int | None
    phm_rank: int | None
    shared_phm_rule: bool
    factorized_phm_rule: bool
    shared_W: bool


@dataclass(frozen=True, slots=True)
class Site:
    """A place with an adapter."""

    id: str
    bottleneck_size: int
    attach: Attach | None

    @property
    def stack(self) -> str:
        """The id's first word."""
        return self.id.split(".")[0]

    @property
    def layer(self) -> int:
        """The id's number."""
        return int(self.id.split(".")[1])


def read_projection(value: object, where: str) -> Projection:
    """Kind and sizes; E203, E208."""
    keys = ("kind", "phm_dim", "phm_rank", "shared_phm_rule", "factorized_phm_rule", "shared_W")
    fields = Fields(value, keys, where)
    projection = Projection(
        kind=fields.get("kind", word("dense", "low_rank", "phm", "lphm"), "lphm"),
        phm_dim=fields.get("phm_dim", integer(1, 256), None),
        phm_rank=fields.get("phm_rank", integer(1, 1024), None),
        shared_phm_rule=fields.get("shared_phm_rule", boolean, default=False),
        factorized_phm_rule=fields.get("factorized_phm_rule", boolean, default=False),
        shared_W=fields.get("shared_W", boolean, default=False),
    )
    ruled = projection.kind in RULED
    if (projection.phm_dim is not None) != ruled or (projection.phm_rank is not None) != (projection.kind in RANKED):
        raise Rejection("E203", f"{where}: sizes that a {projection.kind} projection lacks or does not have")
    if not ruled and (projection.shared_phm_rule or projection.factorized_phm_rule):
        raise Rejection("E203", f"{where}: no rule to share or to factor")
    return projection


def read_site(value: object, where: str) -> Site:
    """Id and width; E211, E208."""
    fields = Fields(value, ("id", "bottleneck_size", "attach"), where)
    return Site(
        fields.get("id", _site_id),
        fields.get("bottleneck_size", integer(1, MAX_SIZE)),
        fields.get("attach", read_attach, None),
    )


def read_attach(value: object, where: str) -> Attach:
    """A placement; E210."""
    fields = Fields(value, ("input", "skip", "post"), where)
    source = word("sublayer_output", "normed_sum", "residual", code="E210")
    target = word("sublayer_output", "residual_sum", "normed_sum", code="E210")
    attach = Attach(
        fields.get("input", source, "sublayer_output"),
        fields.get("skip", target, "sublayer_output"),
        fields.get("post", boolean, default=True),
    )
    if attach.post != (attach.skip == "sublayer_output"):
        raise Rejection("E210", f"{where}: post with this skip")
    return attach


def read_scaling(value: object, where: str) -> float | str:
    """A number, or the kind of a trained scaling; E203."""
    if isinstance(value, str):
        return word("learned", "channel")(value, where)
    if type(value) not in (int, float):
        raise Rejection("E203", where)
    return float(value)  # type: ignore[arg-type]  # checked above, in a way that mypy does not follow


def read_backbone(value: object, where: str) -> Mapping[str, Any]:
    """What the adapter was trained on; E203, E208."""
    keys = ("model_type", "hidden_size", "num_layers", "norm_style", "id", "revision", "modules", "norms")
    fields = Fields(value, keys, where)
    layers = fields.get("num_layers", mapping(integer(1, 99_999)))
    for stack in layers:
        word("encoder", "decoder")(stack, f"a key of {where}.num_layers")
    fields.get("id", string, None)
    fields.get("revision", string, None)
    for site_id in fields.get("modules", mapping(_modules), {}):
        _site_id(site_id, f"a key of {where}.modules")
    return {
        "model_type": fields.get("model_type", string),
        "hidden_size": fields.get("hidden_size", integer(1, MAX_SIZE)),
        "num_layers": layers,
        "norm_style": fields.get("norm_style", word("pre", "post")),
        "norms": fields.get("norms", sequence(string), ()),
    }


def _site_id(value: object, where: str) -> str:
    site_id = string(value, where)
    if not _SITE.fullmatch(site_id):
        raise Rejection("E211", where)
    return site_id


def _modules(value: object, where: str) -> None:
    fields = Fields(value, ("linear", "norm"), where)
    fields.get("linear", string)
    fields.get("norm", string, None)


def read_override(value: object, where: str) -> tuple[str, str]:
    """Name and kind; E405."""
    fields = Fields(value, ("name", "kind"), where)
    return fields.get("name", string), fields.get("kind", word("norm", "bias", "head", code="E405"))


def read_head(value: object, where: str) -> Mapping[str, Any]:
    """The task head; E203, E208."""
    fields = Fields(value, ("task", "layers", "shapes", "labels", "pooler", "pooling"), where)
    fields.get("task", string)
    head: dict[str, Any] = {
        "layers": fields.get("layers", sequence(string)),
        "shapes": fields.get("shapes", mapping(sequence(_any_integer))),
        "labels": fields.get("labels", sequence(string), ()),
        "pooler": fields.get("pooler", string, None),
    }
    if fields.get("pooling", word("mean"), None) and head["pooler"] is not None:
        raise Rejection("E203", f"{where}.pooler")
    weights = {f"{layer}.weight" for layer in head["layers"]}
    biases = {f"{layer}.bias" for layer in head["layers"]}
    if not weights or not weights <= set(head["shapes"]) <= weights | biases:
        raise Rejection("E203", f"{where}.shapes")
    for name, shape in head["shapes"].items():
        if not 1 <= len(shape) <= MAX_RANK or not all(1 <= size <= MAX_DIMENSION for size in shape):
            raise Rejection("E208", f"{where}.shapes.{name}")
    if head["labels"] and len(head["labels"]) != head["shapes"][f"{head['layers'][-1]}.weight"][0]:
        raise Rejection("E203", f"{where}.labels")
    return head


def _any_integer(value: object, where: str) -> int:
    if type(value) is not int:
        raise Rejection("E203", where)
    return value
