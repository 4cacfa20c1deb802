"""Small adapters as plain JSON and raw tensors: the right files from which the wrong ones are made.

Names and shapes are written down here once more, from the specification's table (FMT), so that a mistake in the
library's own table does not go into the vectors.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any, Final

from compacter_core.conformance.generate.files_bytes import JsonObject, RawFile, RawTensor, canonical_order
from compacter_core.conformance.generate.files_sketches import SKETCH_SIZE

Shape = tuple[int, ...]

NORM: Final = "encoder.layer.0.output.LayerNorm"

COMPACTER: Final[Mapping[str, Any]] = {"kind": "lphm", "phm_dim": 2, "phm_rank": 1, "shared_phm_rule": True}


def config_of(**changes: Any) -> JsonObject:
    """A small configuration with one site and only the keys that have to be there; `changes` replaces or adds keys."""
    return {
        "spec_version": "1.0",
        "method": "compacter",
        "name": "tiny",
        "hidden_size": 4,
        "projection": dict(COMPACTER),
        "sites": [site(0)],
    } | changes


def site(layer: int, k: int = 2, **more: Any) -> JsonObject:
    """A site after a feed-forward sublayer of the encoder."""
    return {"id": f"encoder.{layer}.ffn", "bottleneck_size": k} | more


def backbone_of(**changes: Any) -> JsonObject:
    """A backbone that the small configuration fits."""
    return {"model_type": "bert", "hidden_size": 4, "num_layers": {"encoder": 2}, "norm_style": "post"} | changes


def head_of(**changes: Any) -> JsonObject:
    """A classifier of three classes."""
    shapes = {"classifier.weight": [3, 4], "classifier.bias": [3]}
    return {"task": "text-classification", "layers": ["classifier"], "shapes": shapes} | changes


def full_config(**changes: Any) -> JsonObject:
    """A configuration that uses every key."""
    return {
        "spec_version": "1.0",
        "method": "compacter++",
        "name": "Tiny_Full-1",
        "hidden_size": 4,
        "projection": {**COMPACTER, "factorized_phm_rule": False, "shared_W": False},
        "sites": [site(0), site(1, 4, attach={"input": "residual"})],
        "non_linearity": "gelu_new",
        "bias_down": True,
        "bias_up": True,
        "scaling": 0.5,
        "attach": {"input": "sublayer_output", "skip": "sublayer_output", "post": True},
        "backbone": backbone_of(
            id="someone/tiny-bert",
            revision="main",
            modules={"encoder.0.ffn": {"linear": "encoder.layer.0.output.dense", "norm": NORM}},
            norms=["embeddings.LayerNorm", NORM],
        ),
        "overrides": [{"name": f"{NORM}.weight", "kind": "norm"}],
        "head": head_of(labels=["no", "maybe", "größer"]),
        "training": {"phm_init_range": 0.0001, "seeds": [0, 1]},
        "extensions": {"tool": {"must_understand": False, "anything": [1, None, {"x": 0.5}]}},
    } | changes


def sample(config: JsonObject, *, dtype: str = "F32", sketches: bool = False) -> RawFile:
    """A right adapter file of that configuration, tensors in canonical order."""
    shapes = shapes_of(config)
    tensors = {
        name: RawTensor.of(dtype, shape, numbers(prod(shape), index))
        for index, (name, shape) in enumerate(shapes.items())
    }
    if sketches:
        tensors |= _sketches(config)
    return RawFile(config=config, tensors=canonical_order(tensors))


def numbers(count: int, seed: int) -> list[float]:
    """Quarters from -4 to 4, so that every type of the format holds them, none of them 0 all the time."""
    return [((7 * i + 5 * seed + 3 * (i // 11)) % 33 - 16) / 4 for i in range(count)]


def shapes_of(config: Mapping[str, Any]) -> dict[str, Shape]:
    """Name and shape of every tensor but the sketches (file format, table of tensors)."""
    d = config["hidden_size"]
    shapes: dict[str, Shape] = {}
    for one in config["sites"]:
        prefix, k = f"site.{one['id']}", one["bottleneck_size"]
        shapes |= _projection(config, f"{prefix}.down", "down", d, k)
        shapes |= _projection(config, f"{prefix}.up", "up", k, d)
        if isinstance(config.get("scaling"), str):
            shapes[f"{prefix}.scaling"] = (1,) if config["scaling"] == "learned" else (d,)
    for override in config.get("overrides", []):
        shapes[f"override.{override['name']}"] = (d,)
    for name, shape in config.get("head", {}).get("shapes", {}).items():
        shapes[f"head.{name}"] = tuple(shape)
    return shapes


def _projection(config: Mapping[str, Any], own: str, side: str, n_in: int, n_out: int) -> Iterator[tuple[str, Shape]]:
    projection = config["projection"]
    rules = "shared" if projection.get("shared_phm_rule") else own
    for short, shape in _rules(projection):
        yield f"{rules}.{short}", shape
    weights = f"shared.{side}" if projection.get("shared_W") else own
    for short, shape in _weights(projection, n_in, n_out):
        yield f"{weights}.{short}", shape
    if config.get(f"bias_{side}", True):
        yield f"{own}.b", (n_out,)


def _rules(projection: Mapping[str, Any]) -> Sequence[tuple[str, Shape]]:
    if projection["kind"] not in ("phm", "lphm"):
        return ()
    n = projection["phm_dim"]
    if projection.get("factorized_phm_rule"):
        return (("phm_rule_left", (n, n, 1)), ("phm_rule_right", (n, 1, n)))
    return (("phm_rule", (n, n, n)),)


def _weights(projection: Mapping[str, Any], n_in: int, n_out: int) -> Sequence[tuple[str, Shape]]:
    n, r = projection.get("phm_dim", 1), projection.get("phm_rank", 1)
    table: dict[str, Sequence[tuple[str, Shape]]] = {
        "dense": (("W", (n_in, n_out)),),
        "low_rank": (("W_left", (n_in, r)), ("W_right", (r, n_out))),
        "phm": (("W", (n, n_in // n, n_out // n)),),
        "lphm": (("W_left", (n, n_in // n, r)), ("W_right", (n, r, n_out // n))),
    }
    return table[projection["kind"]]


def _sketches(config: Mapping[str, Any]) -> dict[str, RawTensor]:
    """Sketches as of linears [2 d, d] with a bias; the pooler's is [d, d]."""
    d = config["hidden_size"]
    linears = {one["id"]: 2 * d * d for one in config["sites"]}
    if "pooler" in config.get("head", {}):
        linears["pooler"] = d * d
    found: dict[str, RawTensor] = {}
    for index, (name, size) in enumerate(linears.items()):
        for part, entries in (("weight", min(size, SKETCH_SIZE)), ("bias", min(d, SKETCH_SIZE))):
            found[f"sketch.{name}.{part}"] = RawTensor.of("F32", (entries,), numbers(entries, 40 + index))
    return found
