"""Files that have to be read: every kind, type and option (configurations), and every liberty that a writer has."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from compacter_core.conformance.generate.files_bytes import ITEM_SIZE, JsonObject, RawFile, RawTensor
from compacter_core.conformance.generate.files_collector import Collector
from compacter_core.conformance.generate.files_samples import (
    COMPACTER,
    NORM,
    backbone_of,
    config_of,
    full_config,
    head_of,
    sample,
    site,
)
from compacter_core.conformance.generate.files_statements import (
    CONFIGURATION,
    KINDS,
    PLACEMENTS,
    SKETCHES,
    TYPES,
    WORDS,
)

PROJECTIONS: Final[Mapping[str, Mapping[str, Any]]] = {
    "dense": {"kind": "dense"},
    "dense-shared-weights": {"kind": "dense", "shared_W": True},
    "low-rank": {"kind": "low_rank", "phm_rank": 3},
    "low-rank-shared-weights": {"kind": "low_rank", "phm_rank": 1, "shared_W": True},
    "phm": {"kind": "phm", "phm_dim": 2},
    "phm-shared-rule": {"kind": "phm", "phm_dim": 2, "shared_phm_rule": True},
    "phm-factored-rule": {"kind": "phm", "phm_dim": 2, "factorized_phm_rule": True},
    "phm-all-shared": {"kind": "phm", "phm_dim": 2, "shared_phm_rule": True, "shared_W": True},
    "lphm": {"kind": "lphm", "phm_dim": 2, "phm_rank": 1},
    "lphm-shared-rule": COMPACTER,
    "lphm-rank3": {"kind": "lphm", "phm_dim": 2, "phm_rank": 3},
    "lphm-n1": {"kind": "lphm", "phm_dim": 1, "phm_rank": 2},
    "lphm-n-is-d": {"kind": "lphm", "phm_dim": 4, "phm_rank": 1, "shared_phm_rule": True},
    "lphm-shared-factored-rule": {**COMPACTER, "factorized_phm_rule": True},
    "lphm-factored-rule": {"kind": "lphm", "phm_dim": 2, "phm_rank": 1, "factorized_phm_rule": True},
    "lphm-all-shared": {**COMPACTER, "shared_W": True},
}

OPTIONS: Final[Mapping[str, JsonObject]] = {
    "no-biases": {"bias_down": False, "bias_up": False},
    "bias-down-only": {"bias_up": False},
    "bias-up-only": {"bias_down": False},
    "scaling-number": {"scaling": 0.1},
    "scaling-integer": {"scaling": 4},
    "scaling-zero": {"scaling": 0},
    "scaling-exponent": {"scaling": -2.5e-7},
    "scaling-learned": {"scaling": "learned"},
    "scaling-channel": {"scaling": "channel"},
    "name-of-64": {"name": "aZ09_-" + "x" * 58},
    "method-empty": {"method": ""},
    "sites-out-of-order": {"sites": [site(3, 4), site(0, 2), {"id": "encoder.0.self_attn", "bottleneck_size": 6}]},
    "site-of-a-decoder": {"sites": [{"id": "decoder.0.cross_attn", "bottleneck_size": 2}]},
    "site-in-layer-99999": {"sites": [site(99_999)]},
    "bottleneck-wider-than-model": {"sites": [site(0, 8)]},
    "training-of-any-json": {"training": {"a": None, "b": [True, {"": -0.5}], "c": 9_007_199_254_740_991}},
    "extension-to-be-ignored": {"extensions": {"fusion": {"must_understand": False, "keys": ["q", "k"]}}},
}

EXTREMES: Final[Mapping[str, tuple[float, float]]] = {
    "F64": (2.0**-1074, (2.0 - 2.0**-52) * 2.0**1023),
    "F32": (2.0**-149, (2.0 - 2.0**-23) * 2.0**127),
    "F16": (2.0**-24, 65_504.0),
    "BF16": (2.0**-133, (2.0 - 2.0**-7) * 2.0**127),
}
"""Smallest positive and largest number of each type."""

ACTIVATIONS: Final = ("gelu_new", "gelu", "relu", "silu", "tanh", "identity")

ATTACHES: Final[Mapping[str, JsonObject]] = {
    "houlsby": {"input": "sublayer_output", "skip": "sublayer_output", "post": True},
    "pfeiffer": {"input": "normed_sum"},
    "parallel": {"input": "residual"},
    "adapter_plus": {"input": "normed_sum", "skip": "normed_sum", "post": False},
    "residual-sum": {"input": "residual", "skip": "residual_sum", "post": False},
}

BACKBONES: Final[Mapping[str, JsonObject]] = {
    "backbone": {"backbone": backbone_of()},
    "backbone-of-two-stacks": {
        "backbone": backbone_of(model_type="t5", num_layers={"encoder": 2, "decoder": 3}, norm_style="pre"),
        "sites": [site(1), {"id": "decoder.2.cross_attn", "bottleneck_size": 2}],
    },
    "backbone-with-modules": {
        "backbone": backbone_of(modules={"encoder.0.ffn": {"linear": "encoder.layer.0.output.dense"}})
    },
    "override-norm": {
        "backbone": backbone_of(norms=[NORM]),
        "overrides": [{"name": f"{NORM}.{part}", "kind": "norm"} for part in ("weight", "bias")],
    },
    "override-bias": {"overrides": [{"name": "encoder.layer.0.output.dense.bias", "kind": "bias"}]},
    "override-norm-without-backbone": {"overrides": [{"name": f"{NORM}.weight", "kind": "norm"}]},
    "override-head": {"overrides": [{"name": "lm_head.scale", "kind": "head"}]},
    "head": {"head": head_of()},
    "head-with-labels": {"head": head_of(labels=["negativ", "weiß nicht", "肯定"])},
    "head-without-bias": {"head": head_of(shapes={"classifier.weight": [3, 4]})},
    "head-of-the-mean": {"head": head_of(pooling="mean")},
    "head-of-two-layers": {
        "head": head_of(
            layers=["dense", "out_proj"],
            shapes={"dense.weight": [4, 4], "dense.bias": [4], "out_proj.weight": [2, 4], "out_proj.bias": [2]},
        )
    },
    "head-and-override-agree": {
        "head": head_of(shapes={"classifier.weight": [4, 4], "classifier.bias": [4]}),
        "overrides": [{"name": "classifier.bias", "kind": "head"}],
    },
}


def add_valid(cases: Collector) -> None:
    """Add every valid configuration and type; the liberties of bytes are in `files_liberties`."""
    for name, projection in PROJECTIONS.items():
        k = 4 if name == "lphm-n-is-d" else 2
        file = sample(config_of(projection=dict(projection), sites=[site(0, k), site(1, k)]))
        cases.accept(f"projection/{name}", file, KINDS, f"The projection {name}.")
    for name, changes in OPTIONS.items():
        cases.accept(f"option/{name}", sample(config_of(**changes)), CONFIGURATION, f"The option {name}.")
    for name in ACTIVATIONS:
        cases.accept(f"activation/{name}", sample(config_of(non_linearity=name)), WORDS, f"The activation {name}.")
    for name, attach in ATTACHES.items():
        file = sample(config_of(attach=attach, sites=[site(0), site(1, attach=attach)]))
        cases.accept(f"attach/{name}", file, PLACEMENTS, f"The placement {name}, of the adapter and of one site.")
    own = config_of(attach=ATTACHES["adapter_plus"], sites=[site(0, attach={}), site(1, attach={"input": "residual"})])
    comment = "A site's attach takes nothing over from the adapter's: what it leaves out are defaults."
    cases.accept("attach/of-a-site", sample(own), ("PLC-7", "CFG-5"), comment)
    for name, changes in BACKBONES.items():
        cases.accept(f"{name}", _agreeing(sample(config_of(**changes))), CONFIGURATION, f"The option {name}.")
    cases.accept("every-key", sample(full_config(), sketches=True), CONFIGURATION, "Every key of the configuration.")
    _add_dtypes(cases)
    _add_sketches(cases)


def _agreeing(file: RawFile) -> RawFile:
    """Let an override that stands for a head tensor too have the same values."""
    tensors = dict(file.tensors)
    for name in tensors:
        alias = "head." + name.removeprefix("override.")
        if name.startswith("override.") and alias in tensors:
            tensors[name] = tensors[alias]
    return replace(file, tensors=tensors)


def _add_dtypes(cases: Collector) -> None:
    for dtype in ITEM_SIZE:
        file = sample(full_config(), dtype=dtype, sketches=True)
        cases.accept(f"dtype/{dtype.lower()}", file, TYPES, f"All tensors are {dtype}, the sketches F32.")
        name = "site.encoder.0.ffn.down.b"
        extreme = RawTensor.of(dtype, (2,), EXTREMES[dtype])
        file = replace(file, tensors={**file.tensors, name: extreme})
        cases.accept(f"dtype/{dtype.lower()}-extremes", file, TYPES, "The smallest and the largest finite number.")


def _add_sketches(cases: Collector) -> None:
    full = sample(config_of(sites=[site(0), site(1)]), sketches=True)
    cases.accept("sketches/all", full, SKETCHES, "Sketches of weights and biases.")
    biases = [name for name in full.tensors if name.startswith("sketch.") and name.endswith(".bias")]
    for name, left_out in (("without-biases", biases), ("with-one-bias", biases[:1])):
        kept = {key: tensor for key, tensor in full.tensors.items() if key not in left_out}
        cases.accept(f"sketches/{name}", replace(full, tensors=kept), SKETCHES, "Linears need not have a bias.")
    pooler = sample(config_of(head=head_of(pooler="pooler.dense")), sketches=True)
    cases.accept("sketches/pooler", pooler, SKETCHES, "The pooler that feeds the head has a sketch too.")
    wide = config_of(hidden_size=258, projection={"kind": "dense"}, sites=[site(0, 1)], bias_up=False)
    cases.accept("sketches/of-256", sample(wide, dtype="BF16", sketches=True), SKETCHES, "Sketches of full length.")
