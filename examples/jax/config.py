"""The configuration: its keys, their types, defaults and ranges, and what must hold between them (CFG)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from examples.jax.fields import Fields, anything, boolean, integer, mapping, sequence, string, word
from examples.jax.parts import (
    MAX_SIZE,
    Attach,
    Projection,
    Site,
    read_attach,
    read_backbone,
    read_head,
    read_override,
    read_projection,
    read_scaling,
    read_site,
)
from examples.jax.rejection import Rejection
from examples.jax.strict_json import parse_object

MAX_BYTES = 2**20
ACTIVATIONS = ("gelu_new", "gelu", "relu", "silu", "tanh", "identity")

_VERSION = re.compile(r"(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration; `source` is the JSON it was read from."""

    hidden_size: int
    projection: Projection
    sites: tuple[Site, ...]
    non_linearity: str
    bias_down: bool
    bias_up: bool
    scaling: float | str
    attach: Attach
    backbone: Mapping[str, Any] | None
    overrides: tuple[tuple[str, str], ...]
    head: Mapping[str, Any] | None
    source: Mapping[str, Any]

    def site(self, site_id: str) -> Site:
        """The site of that id."""
        return next(site for site in self.sites if site.id == site_id)


def parse_config(text: str) -> Config:
    """The configuration in a JSON text.

    Raises:
        Rejection: E104, E202 to E211, E401, E404 or E405.
    """
    if len(text.encode(errors="surrogatepass")) > MAX_BYTES:
        raise Rejection("E202", "configuration too long")
    return read_config(parse_object(text, malformed="E203", limit="E202"))


def read_config(value: Mapping[str, Any]) -> Config:
    """The configuration in a JSON object; raises as `parse_config`."""
    if re.search("[\ud800-\udfff]", _all_text(value)):
        raise Rejection("E203", "an unpaired surrogate")
    check_version(value.get("spec_version"))
    fields = Fields(value, _KEYS, "config")
    config = Config(
        hidden_size=fields.get("hidden_size", integer(1, MAX_SIZE)),
        projection=fields.get("projection", read_projection),
        sites=fields.get("sites", sequence(read_site)),
        non_linearity=fields.get("non_linearity", word(*ACTIVATIONS, code="E209"), "gelu_new"),
        bias_down=fields.get("bias_down", boolean, default=True),
        bias_up=fields.get("bias_up", boolean, default=True),
        scaling=fields.get("scaling", read_scaling, 1.0),
        attach=fields.get("attach", read_attach, Attach()),
        backbone=fields.get("backbone", read_backbone, None),
        overrides=fields.get("overrides", sequence(read_override), ()),
        head=fields.get("head", read_head, None),
        source=value,
    )
    fields.get("method", string)
    if not _NAME.fullmatch(fields.get("name", string)):
        raise Rejection("E208", "name")
    fields.get("training", mapping(anything), {})
    _check_extensions(fields.get("extensions", mapping(anything), {}))
    _check_sites(config)
    _check_overrides(config)
    return config


def check_version(version: object) -> None:
    """Another major version, or none, is refused (VER).

    Raises:
        Rejection: E204.
    """
    match = _VERSION.fullmatch(version) if isinstance(version, str) else None
    if match is None or match.group(1) != "1":
        raise Rejection("E204", f"spec_version {version!r}")


_KEYS = (
    "attach", "backbone", "bias_down", "bias_up", "extensions", "head", "hidden_size", "method", "name",
    "non_linearity", "overrides", "projection", "scaling", "sites", "spec_version", "training",
)  # fmt: skip


def _all_text(value: object) -> str:
    """All strings of a JSON value, keys included."""
    if isinstance(value, dict):
        return "".join(key + _all_text(item) for key, item in value.items())
    if isinstance(value, list):
        return "".join(map(_all_text, value))
    return value if isinstance(value, str) else ""


def _check_extensions(extensions: Mapping[str, object]) -> None:
    for key, value in extensions.items():
        if not isinstance(value, dict) or value.get("must_understand") is not False:
            raise Rejection("E205", f"extension {key} has to be understood")


def _check_sites(config: Config) -> None:
    ids = [site.id for site in config.sites]
    if not ids or len(set(ids)) < len(ids):
        raise Rejection("E211", "no site, or one twice")
    sizes = {site.bottleneck_size for site in config.sites}
    if config.projection.shared_W and len(sizes) > 1:
        raise Rejection("E203", "shared_W with several bottleneck sizes")
    n = config.projection.phm_dim or 1
    if any(size % n for size in (config.hidden_size, *sizes)):
        raise Rejection("E207", f"phm_dim {n}")
    if config.backbone is None:
        return
    if config.backbone["hidden_size"] != config.hidden_size:
        raise Rejection("E401", "hidden_size of adapter and backbone")
    if any(site.layer >= config.backbone["num_layers"].get(site.stack, 0) for site in config.sites):
        raise Rejection("E211", "a site outside the backbone")


def _check_overrides(config: Config) -> None:
    names = [name for name, _ in config.overrides]
    if len(set(names)) < len(names):
        raise Rejection("E203", "an override twice")
    norms = config.backbone["norms"] if config.backbone else ()
    for name, kind in config.overrides:
        module, _, parameter = name.rpartition(".")
        if kind == "bias" and parameter != "bias":
            raise Rejection("E405", f"override {name}")
        if kind == "norm" and norms and module not in norms:
            raise Rejection("E404", f"override {name}")
