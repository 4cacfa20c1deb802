"""One change each that makes a right configuration wrong, with the code and the statements it breaks."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from compacter_core.conformance.generate.files_bytes import JsonObject

Change = Callable[[JsonObject], Any]
Row = tuple[str, tuple[str, ...], str, Change, str]
"""Code, statements, name of the case, what is done to the configuration, comment."""

TEXTS: Final[Mapping[str, tuple[str, str]]] = {
    "empty": ("", "No text."),
    "unterminated": ("{", "An object without an end."),
    "single-quotes": ("{'a': 1}", "Strings in single quotes."),
    "leading-zero": ('{"a": 01}', "A number 01."),
    "line-feed": ('{"a": "\n"}', "A line feed in a string."),
    "list": ("[]", "A list."),
    "number": ("1", "A number."),
    "null": ("null", "null."),
    "two-objects": ("{}{}", "Two objects."),
    "trailing-comma": ('{"a": 1,}', "A comma behind the last key."),
    "byte-order-mark": ("\ufeff{}", "A byte order mark."),
    "non-breaking-space": ("\u00a0{}", "White space that JSON does not have."),
    "open-string": ('{"' + '\\"' * 1000, "A string of escaped quotes without an end."),
}


def _top(**changes: Any) -> Change:
    return lambda config: config | changes


def _without(*keys: str) -> Change:
    return lambda config: {key: value for key, value in config.items() if key not in keys}


def _in(part: str, **changes: Any) -> Change:
    return lambda config: config | {part: config[part] | changes}


def _less(part: str, key: str) -> Change:
    return lambda config: config | {part: {name: value for name, value in config[part].items() if name != key}}


def _sites(*sites: Any) -> Change:
    return _top(sites=list(sites))


def _ids(*ids: str) -> Change:
    return _sites(*({"id": one, "bottleneck_size": 2} for one in ids))


_S: Final = {"id": "encoder.0.ffn", "bottleneck_size": 2}
_TYPE: Final = ("CFG-4",)
_KIND: Final = ("CFG-8",)
_HEAD: Final = ("CFG-17",)

E203: Final[Mapping[str, tuple[tuple[str, ...], Change]]] = {
    "missing/method": (_TYPE, _without("method")),
    "missing/name": (_TYPE, _without("name")),
    "missing/hidden_size": (_TYPE, _without("hidden_size")),
    "missing/projection": (_TYPE, _without("projection")),
    "missing/sites": (_TYPE, _without("sites")),
    "missing/site-id": (_TYPE, _sites({"bottleneck_size": 2})),
    "missing/bottleneck_size": (_TYPE, _sites({"id": "encoder.0.ffn"})),
    "missing/model_type": (_TYPE, _less("backbone", "model_type")),
    "missing/backbone-hidden_size": (_TYPE, _less("backbone", "hidden_size")),
    "missing/num_layers": (_TYPE, _less("backbone", "num_layers")),
    "missing/norm_style": (_TYPE, _less("backbone", "norm_style")),
    "missing/linear": (_TYPE, _in("backbone", modules={"encoder.0.ffn": {"norm": "layer.0.norm"}})),
    "missing/override-name": (_TYPE, _top(overrides=[{"kind": "norm"}])),
    "missing/override-kind": (_TYPE, _top(overrides=[{"name": "layer.0.norm.weight"}])),
    "missing/task": (_TYPE, _less("head", "task")),
    "missing/layers": (_TYPE, _less("head", "layers")),
    "missing/shapes": (_TYPE, _less("head", "shapes")),
    "type/method": (_TYPE, _top(method=1)),
    "type/name": (_TYPE, _top(name=None)),
    "type/size-text": (_TYPE, _top(hidden_size="4")),
    "type/size-float": (_TYPE, _top(hidden_size=4.0)),
    "type/size-boolean": (_TYPE, _sites({"id": "encoder.0.ffn", "bottleneck_size": True})),
    "type/rank-float": (_TYPE, _in("projection", phm_rank=1.0)),
    "type/boolean-number": (_TYPE, _top(bias_up=1)),
    "type/boolean-text": (_TYPE, _top(bias_down="true")),
    "type/shared-rule-null": (_TYPE, _in("projection", shared_phm_rule=None)),
    "type/scaling-boolean": (_TYPE, _top(scaling=True)),
    "type/scaling-word": (_TYPE, _top(scaling="big")),
    "type/scaling-list": (_TYPE, _top(scaling=[1.0])),
    "type/scaling-null": (_TYPE, _top(scaling=None)),
    "type/post-number": (_TYPE, _in("attach", post=1)),
    "type/attach-text": (_TYPE, _top(attach="houlsby")),
    "type/projection-list": (_TYPE, _top(projection=[])),
    "type/sites-object": (_TYPE, _top(sites={})),
    "type/sites-of-text": (_TYPE, _top(sites=["encoder.0.ffn"])),
    "type/site-attach-null": (_TYPE, _sites(_S | {"attach": None})),
    "type/backbone-null": (_TYPE, _top(backbone=None)),
    "type/head-null": (_TYPE, _top(head=None)),
    "type/norms-text": (_TYPE, _in("backbone", norms="layer.0.norm")),
    "type/revision-null": (_TYPE, _in("backbone", revision=None)),
    "type/overrides-object": (_TYPE, _top(overrides={"layer.0.norm.weight": "norm"})),
    "type/labels-numbers": (_TYPE, _in("head", labels=[0, 1, 2])),
    "type/shape-float": (_TYPE, _in("head", shapes={"classifier.weight": [3.0, 4]})),
    "type/training-list": (_TYPE, _top(training=[])),
    "type/extensions-list": (_TYPE, _top(extensions=[])),
    "word/kind": (("CFG-7",), _in("projection", kind="kron")),
    "word/kind-list": (("CFG-7", "CFG-4"), _in("projection", kind=["lphm"])),
    "word/norm_style": (_TYPE, _in("backbone", norm_style="sandwich")),
    "word/stack": (_TYPE, _in("backbone", num_layers={"encoder": 2, "middle": 2})),
    "kind/phm_dim-missing": (_KIND, _top(projection={"kind": "phm"})),
    "kind/phm_rank-missing": (_KIND, _top(projection={"kind": "lphm", "phm_dim": 2})),
    "kind/low-rank-without-rank": (_KIND, _top(projection={"kind": "low_rank"})),
    "kind/dense-with-phm_dim": (_KIND, _top(projection={"kind": "dense", "phm_dim": 2})),
    "kind/phm-with-rank": (_KIND, _top(projection={"kind": "phm", "phm_dim": 2, "phm_rank": 1})),
    "kind/dense-shares-a-rule": (_KIND, _top(projection={"kind": "dense", "shared_phm_rule": True})),
    "kind/low-rank-factors-a-rule": (
        _KIND,
        _top(projection={"kind": "low_rank", "phm_rank": 1, "factorized_phm_rule": True}),
    ),
    "shared-weights-of-two-sizes": (
        ("CFG-13",),
        lambda c: (
            c
            | {
                "projection": c["projection"] | {"shared_W": True},
                "sites": [_S, {"id": "encoder.1.ffn", "bottleneck_size": 4}],
            }
        ),
    ),
    "override-twice": (("CFG-15",), lambda c: c | {"overrides": c["overrides"] * 2}),
    "head/no-weight": (_HEAD, _in("head", shapes={"classifier.bias": [3]}, labels=[])),
    "head/no-layers": (_HEAD, _in("head", layers=[], shapes={}, labels=[])),
    "head/other-layer": (_HEAD, _in("head", layers=["dense"])),
    "head/tensor-too-many": (
        _HEAD,
        lambda c: c | {"head": c["head"] | {"shapes": c["head"]["shapes"] | {"x.bias": [3]}}},
    ),
    "head/other-parameter": (
        _HEAD,
        lambda c: c | {"head": c["head"] | {"shapes": c["head"]["shapes"] | {"classifier.scale": [3]}}},
    ),
    "head/two-labels-of-three": (_HEAD, _in("head", labels=["a", "b"])),
    "head/other-pooling": (("CFG-20",), _in("head", pooling="max")),
    "head/pooling-and-pooler": (("CFG-20",), _in("head", pooling="mean", pooler="pooler.dense")),
    "surrogate": (("CFG-2",), _top(method="\ud800")),
    "surrogates-reversed": (("CFG-2",), _top(training={"x": "\udd1e\ud834"})),
}

E205: Final[Mapping[str, tuple[tuple[str, ...], Change]]] = {
    "top": (("CFG-3", "VER-6"), _top(reduction_factor=2)),
    "capitals": (("CFG-3",), _top(Scaling=1.0)),
    "projection": (("CFG-3",), _in("projection", learn_phm=True)),
    "attach": (("CFG-3",), _in("attach", pre=True)),
    "site": (("CFG-3",), _sites(_S | {"k": 1})),
    "site-attach": (("CFG-3",), _sites(_S | {"attach": {"scale": 1}})),
    "backbone": (("CFG-3",), _in("backbone", vocab_size=1)),
    "modules": (("CFG-3",), _in("backbone", modules={"encoder.0.ffn": {"linear": "layer.0", "dropout": "x"}})),
    "override": (("CFG-3",), _top(overrides=[{"name": "layer.0.norm.weight", "kind": "norm", "shape": [4]}])),
    "head": (("CFG-3",), _in("head", dropout=0.1)),
    "extension/to-be-understood": (("CFG-6",), _top(extensions={"fusion": {"must_understand": True}})),
    "extension/silent": (("CFG-6",), _top(extensions={"fusion": {}})),
    "extension/number": (("CFG-6",), _top(extensions={"fusion": 1})),
    "extension/null": (("CFG-6",), _top(extensions={"fusion": None})),
    "extension/falsy": (("CFG-6",), _top(extensions={"fusion": {"must_understand": 0}})),
    "extension/text": (("CFG-6",), _top(extensions={"fusion": {"must_understand": "false"}})),
    "extension/second": (("CFG-6",), _in("extensions", fusion={"must_understand": True})),
}

E207: Final[Mapping[str, Change]] = {
    "hidden_size": _in("projection", phm_dim=3),
    "bottleneck_size": _sites(_S | {"bottleneck_size": 3}),
    "second-site": _sites(_S, {"id": "encoder.1.ffn", "bottleneck_size": 1}),
    "larger-than-k": _in("projection", phm_dim=4),
}

E208: Final[Mapping[str, tuple[tuple[str, ...], Change]]] = {
    "hidden_size-0": (("CFG-9",), _top(hidden_size=0)),
    "hidden_size-65537": (("CFG-9",), _top(hidden_size=65_537)),
    "bottleneck_size-0": (("CFG-9",), _sites(_S | {"bottleneck_size": 0})),
    "bottleneck_size-negative": (("CFG-9",), _sites(_S | {"bottleneck_size": -2})),
    "bottleneck_size-65538": (("CFG-9",), _sites(_S | {"bottleneck_size": 65_538})),
    "phm_dim-0": (("CFG-9",), _in("projection", phm_dim=0)),
    "phm_dim-257": (("CFG-9",), _in("projection", phm_dim=257)),
    "phm_rank-0": (("CFG-9",), _in("projection", phm_rank=0)),
    "phm_rank-1025": (("CFG-9",), _in("projection", phm_rank=1_025)),
    "name-empty": (("CFG-9",), _top(name="")),
    "name-path": (("CFG-9", "SEC-6"), _top(name="../x")),
    "name-dot": (("CFG-9",), _top(name="v1.0")),
    "name-of-65": (("CFG-9",), _top(name="x" * 65)),
    "name-line-feed": (("CFG-9",), _top(name="x\n")),
    "name-umlaut": (("CFG-9",), _top(name="größe")),
    "num_layers-0": (("CFG-9",), _in("backbone", num_layers={"encoder": 2, "decoder": 0})),
    "num_layers-100000": (("CFG-9",), _in("backbone", num_layers={"encoder": 100_000})),
    "backbone-hidden_size-0": (("CFG-9",), _in("backbone", hidden_size=0)),
    "head-dimension-0": (("CFG-18",), _in("head", shapes={"classifier.weight": [3, 0]})),
    "head-dimension-2-to-the-31": (("CFG-18",), _in("head", shapes={"classifier.weight": [3, 2**31]})),
    "head-rank-0": (("CFG-18",), _in("head", shapes={"classifier.weight": [3, 4], "classifier.bias": []})),
    "head-rank-5": (("CFG-18",), _in("head", shapes={"classifier.weight": [3, 1, 1, 1, 1]})),
}

E209: Final[Mapping[str, Any]] = {
    "swish": "swish",
    "capitals": "GELU",
    "empty": "",
    "null": None,
    "number": 1,
    "list": ["gelu"],
}

E210: Final[Mapping[str, JsonObject]] = {
    "output-without-post": {"skip": "sublayer_output", "post": False},
    "residual-sum-with-post": {"skip": "residual_sum", "post": True},
    "normed-sum-with-post": {"skip": "normed_sum", "post": True},
    "input-word": {"input": "logits"},
    "skip-word": {"skip": "nothing", "post": False},
    "input-null": {"input": None},
}

E211: Final[Mapping[str, tuple[tuple[str, ...], Change]]] = {
    "none": (("CFG-12",), _sites()),
    "twice": (("CFG-12",), _ids("encoder.0.ffn", "encoder.0.ffn")),
    "layer-too-high": (("CFG-12",), _ids("encoder.2.ffn")),
    "stack-not-there": (("CFG-12",), _ids("decoder.0.ffn")),
    "leading-zero": (("PLC-1",), _ids("encoder.00.ffn")),
    "six-digits": (("PLC-1",), _ids("encoder.100000.ffn")),
    "foreign-digit": (("PLC-1",), _ids("encoder.\u0661.ffn")),
    "negative": (("PLC-1",), _ids("encoder.-1.ffn")),
    "no-layer": (("PLC-1",), _ids("encoder.ffn")),
    "sublayer-word": (("PLC-1",), _ids("encoder.0.mlp")),
    "stack-word": (("PLC-1",), _ids("model.0.ffn")),
    "capitals": (("PLC-1",), _ids("Encoder.0.ffn")),
    "line-feed": (("PLC-1",), _ids("encoder.0.ffn\n")),
    "empty": (("PLC-1",), _ids("")),
    "modules": (("PLC-1",), _in("backbone", modules={"encodtr.0.ffn": {"linear": "layer.0"}})),
}


def _rows() -> list[Row]:
    rows: list[Row] = []
    for code, table in (("E203", E203), ("E205", E205), ("E208", E208), ("E211", E211)):
        rows += [(code, s, name, change, _comment(name)) for name, (s, change) in table.items()]
    rows += [("E207", ("CFG-10",), name, change, _comment(name)) for name, change in E207.items()]
    rows += [
        ("E209", ("CFG-11", "CFG-4"), name, _top(non_linearity=value), f"{json.dumps(value)} as non_linearity.")
        for name, value in E209.items()
    ]
    for name, attach in E210.items():
        rows.append(("E210", ("PLC-6",), name, _top(attach=attach), f"attach: {name}."))
        site = _S | {"attach": attach}
        rows.append(("E210", ("PLC-6", "PLC-7"), f"site-{name}", _sites(site), f"attach of a site: {name}."))
    partial = _in("attach", input="normed_sum", skip="residual_sum", post=False)
    rows.append(
        (
            "E210",
            ("PLC-7", "PLC-6"),
            "site-takes-nothing-over",
            lambda c: partial(c) | {"sites": [_S | {"attach": {"skip": "residual_sum"}}]},
            "A site's attach replaces the adapter's whole: post is true there.",
        )
    )
    rows.append(
        ("E401", ("CFG-14",), "hidden_size", _in("backbone", hidden_size=8), "The backbone has another hidden_size.")
    )
    unknown = _top(overrides=[{"name": "layer.9.norm.weight", "kind": "norm"}])
    rows.append(("E404", ("CFG-16",), "norm-not-listed", unknown, "A norm that backbone.norms does not have."))
    for name, tensor, kind in (
        ("embedding", "embeddings.word.weight", "embedding"),
        ("projection", "layer.0.dense.weight", "projection"),
        ("bias-of-another-name", "layer.0.dense.weight", "bias"),
        ("bias-in-a-word", "layer.0.dense.unbias", "bias"),
        ("null", "layer.0.dense.bias", None),
    ):
        change = _top(overrides=[{"name": tensor, "kind": kind}])
        rows.append(("E405", ("CFG-15",), name, change, f"An override of {tensor} of kind {kind}."))
    return rows


def _comment(name: str) -> str:
    return name.replace("/", ": ").replace("-", " ").capitalize() + "."


CHANGES: Final = tuple(_rows())
"""Every wrong configuration."""
