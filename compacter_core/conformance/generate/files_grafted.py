"""Adapters for toy backbones, as files and as constants of a graph, and the metadata of a graph that carries one."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import numpy as np

from compacter_core.adapter import Adapter, Array
from compacter_core.conformance.exact.numbers import Matrix
from compacter_core.conformance.exact.projection import read, weight
from compacter_core.conformance.generate.files_backbones import sketch_of
from compacter_core.conformance.generate.files_bytes import JsonObject, RawTensor, minified, unpack
from compacter_core.conformance.generate.files_canonical import canonical_bytes, canonical_text
from compacter_core.conformance.generate.files_graphs import PutIn, Spelling, ToyWriter
from compacter_core.conformance.generate.files_samples import shapes_of
from compacter_core.conformance.generate.files_toys import SITE, Linear, Norm, Toy, ternary, transposed_rows
from compacter_core.format.config_json import config_from_json
from compacter_core.vocabulary import Activation

NAME: Final = "toy"


@dataclass(frozen=True, slots=True)
class ToyAdapter:
    """An adapter for a toy.

    Args:
        toy: the backbone as it was when the adapter was trained.
        config: the configuration.
        tensors: every tensor of the file.
    """

    toy: Toy
    config: JsonObject
    tensors: Mapping[str, RawTensor]

    @classmethod
    def of(cls, toy: Toy, config: JsonObject, values: Mapping[str, Any] | None = None) -> Self:
        """An adapter with sketches of the toy; tensors without values get -1, 0 and 1."""
        tensors: dict[str, RawTensor] = {}
        for index, (name, shape) in enumerate(shapes_of(config).items()):
            given = np.array((values or {}).get(name, ternary(1, int(np.prod(shape)), index)), np.float64)
            tensors[name] = RawTensor.of(
                "F32", given.shape if name in (values or {}) else shape, given.ravel().tolist()
            )
        for one in config["sites"]:
            tensors |= sketches_of(one["id"], toy.layers[int(one["id"].split(".")[1])])
        return cls(toy, config, tensors)

    @property
    def file(self) -> bytes:
        """The canonical file."""
        return canonical_bytes(self.config, self.tensors)

    @property
    def adapter(self) -> Adapter:
        """The adapter for exact arithmetic."""
        arrays = {name: self._array(tensor) for name, tensor in self.tensors.items()}
        return Adapter(config=config_from_json(json.dumps(self.config)), tensors=arrays)

    @property
    def replaced(self) -> Toy:
        """The toy with the adapter's overrides and head in place."""
        toy = self.toy
        for override in self.config.get("overrides", []):
            toy = _overridden(toy, override["name"], self._rows(f"override.{override['name']}"))
        head = self.config.get("head")
        if head is None:
            return toy
        linears = tuple(
            Linear(
                transposed_rows(self._rows(f"head.{layer}.weight")),
                self._rows(f"head.{layer}.bias") if f"head.{layer}.bias" in self.tensors else None,
            )
            for layer in head["layers"]
        )
        return replace(toy, head=(*toy.head[: len(toy.head) - len(linears)], *linears))

    def put_in(self, form: str) -> dict[str, PutIn]:
        """The constants of every site."""
        adapter = self.adapter
        found = {}
        for site in adapter.config.sites:
            parameters = adapter.site(site.id)
            scaling = np.array(parameters.scaling, np.float64)
            bu = parameters.up.b
            activation = "identity" if parameters.non_linearity is Activation.IDENTITY else "relu"
            found[site.id] = PutIn(
                form=form,
                Wd=_floats(weight(read(parameters.down))),
                bd=parameters.down.b,
                Wu=_floats(weight(read(parameters.up))) * scaling,
                bu=None if bu is None else bu * scaling,
                activation=activation,
            )
        return found

    def grafted(
        self, form: str, spelling: Spelling | None = None, metadata: Mapping[str, str | None] | None = None
    ) -> bytes:
        """A model that carries the adapter, its sites with skip = input = h.

        Args:
            form: fold or plain.
            spelling: how it is written.
            metadata: texts that replace those of the right metadata, by key without `compacter.`; None leaves one out.
        """
        writer = self._writer(form, spelling)
        writer.write()
        changes = {f"compacter.{key}": value for key, value in (metadata or {}).items()}
        kept = {key: value for key, value in {**self.metadata(writer.recorded), **changes}.items() if value is not None}
        return self._writer(form, spelling).write(kept)

    def recorded(self, form: str) -> dict[str, str]:
        """The texts `sites` and `replaced` of the right metadata."""
        writer = self._writer(form, None)
        writer.write()
        metadata = self.metadata(writer.recorded)
        return {key: metadata[f"compacter.{key}"] for key in ("sites", "replaced")}

    def _writer(self, form: str, spelling: Spelling | None) -> ToyWriter:
        return ToyWriter(self.replaced, spelling or Spelling(), self.config["name"], self.put_in(form))

    def metadata(self, recorded: Mapping[str, Any]) -> dict[str, str]:
        """What a grafted model says about itself (ONX-15 to ONX-17)."""
        sites = {site: value for site, value in recorded.items() if site}
        return {
            "compacter.spec_version": self.config["spec_version"],
            "compacter.config": canonical_text(self.config),
            "compacter.adapter": base64.b64encode(self.file).decode(),
            "compacter.sites": minified(sites, sort_keys=True),
            "compacter.replaced": minified(recorded.get("", {}), sort_keys=True),
        }

    def _array(self, tensor: RawTensor) -> Array:
        return np.array(unpack(tensor.dtype, tensor.data), np.float64).reshape(tensor.shape)

    def _rows(self, name: str) -> Any:
        return self._array(self.tensors[name]).tolist()


def toy_config(toy: Toy, **changes: Any) -> JsonObject:
    """A configuration with a site at each sublayer of a toy."""
    layers = range(len(toy.layers))
    norms = ["norm.first"] * (toy.first_norm is not None) + [f"norm.{i}" for i in range(len(toy.norms))]
    modules = {SITE.format(layer=i): {"linear": f"layer.{i}"} for i in layers}
    for i in range(len(toy.norms)):
        modules[SITE.format(layer=i)]["norm"] = f"norm.{i}"
    return {
        "spec_version": "1.0",
        "method": "toy",
        "name": NAME,
        "hidden_size": toy.hidden_size,
        "projection": {"kind": "dense"},
        "sites": [{"id": SITE.format(layer=i), "bottleneck_size": 2} for i in layers],
        "non_linearity": "relu",
        "backbone": {
            "model_type": "toy",
            "hidden_size": toy.hidden_size,
            "num_layers": {"encoder": len(toy.layers)},
            "norm_style": "post" if toy.is_post_norm else "pre",
            "modules": modules,
            "norms": norms,
        },
    } | changes


def sketches_of(name: str, linear: Linear) -> dict[str, RawTensor]:
    """The sketches of a linear, of its bias only if it has one."""
    shape = (len(linear.W), len(linear.W[0]))
    found = {f"sketch.{name}.weight": sketch_of(RawTensor.of("F32", shape, [v for row in linear.W for v in row]))}
    if linear.b is not None:
        found[f"sketch.{name}.bias"] = sketch_of(RawTensor.of("F32", shape[1:], linear.b))
    return found


def _overridden(toy: Toy, name: str, values: Any) -> Toy:
    """The toy with one tensor replaced."""
    module, _, part = name.rpartition(".")
    kind, _, index = module.partition(".")
    if kind == "layer":
        layers = [replace(one, b=values) if i == int(index) else one for i, one in enumerate(toy.layers)]
        return replace(toy, layers=tuple(layers))
    field = {"weight": "gain", "bias": "bias"}[part]
    if index == "first":
        return replace(toy, first_norm=_with(toy.first_norm, field, values))
    norms = [_with(one, field, values) if i == int(index) else one for i, one in enumerate(toy.norms)]
    return replace(toy, norms=tuple(norms))


def _with(norm: Norm | None, field: str, values: Any) -> Norm:
    if norm is None:
        raise ValueError("an override of a norm that the toy does not have")
    return Norm(gain=values, bias=norm.bias) if field == "gain" else Norm(gain=norm.gain, bias=values)


def _floats(matrix: Matrix) -> Array:
    return np.array([[float(value) for value in row] for row in matrix])
