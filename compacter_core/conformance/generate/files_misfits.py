"""Adapters that must not be grafted: backbones, sites, norms, overrides and heads that do not fit (ONX-5 to ONX-12)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from compacter_core.conformance.case import Expectation
from compacter_core.conformance.generate.files_bytes import JsonObject, RawTensor, unpack
from compacter_core.conformance.generate.files_collector import Collector
from compacter_core.conformance.generate.files_grafted import ToyAdapter, sketches_of, toy_config
from compacter_core.conformance.generate.files_grafts import FLIPPING, POST, TOKENS, files
from compacter_core.conformance.generate.files_graphs import Spelling, ToyWriter
from compacter_core.conformance.generate.files_toys import Linear, Norm, Rows, Toy, ternary
from compacter_core.conformance.words import Op

WEIGHT: Final = ternary(4, 4, 1)
BIAS: Final = (1, -1, 2, 0)
HEAD: Final = (Linear(ternary(4, 3, 3), (1, 0, -1)),)
TOY: Final = Toy(layers=(Linear(WEIGHT, BIAS),), head=HEAD)
UNIT: Final = Norm((1, 1, 1, 1), (0, 0, 0, 0))


def add_misfits(cases: Collector) -> None:
    """Add the cases of `graft` whose answer is a refusal."""
    _add_weights(cases)
    _add_sites(cases)
    _add_surroundings(cases)
    _add_overrides(cases)
    _add_heads(cases)
    cut = ToyAdapter.of(TOY, toy_config(TOY)).file[:-1]
    _add(cases, "E101", "adapter", cut, TOY, comment="The adapter's file is cut.", statements=("FMT-1", "ERR-1"))


def _add(
    cases: Collector,
    code: str,
    name: str,
    adapter: ToyAdapter | bytes,
    backbone: Toy,
    *,
    comment: str,
    statements: Sequence[str],
    spelling: Spelling | None = None,
) -> None:
    spelt = spelling or Spelling()
    case_id = f"graft/{code.lower()}/{name}"
    data = adapter if isinstance(adapter, bytes) else adapter.file
    model = ToyWriter(backbone, spelt).write()
    tokens: Rows = [token[: backbone.hidden_size] for token in TOKENS]
    paths = files(cases, case_id, data, model, spelling=spelt, tokens=tokens)
    cases.add(case_id, Op.GRAFT, Expectation(code=code), statements, comment, files=paths)


def _add_weights(cases: Collector) -> None:
    right = ToyAdapter.of(TOY, toy_config(TOY))
    narrow = Toy(layers=(Linear(ternary(3, 3, 1), (1, 0, 2)),), head=(Linear(ternary(3, 3, 2)),))
    _add(cases, "E401", "hidden-size", right, narrow, comment="A backbone of another width.", statements=("ONX-5",))
    other = replace(TOY, layers=(Linear(ternary(4, 4, 77), BIAS),))
    _add(
        cases,
        "E604",
        "other-backbone",
        right,
        other,
        comment="A backbone of other weights.",
        statements=("ONX-6", "SKT-6"),
    )
    flipped = replace(TOY, layers=(Linear([[-v for v in row] for row in WEIGHT], BIAS),))
    _add(
        cases,
        "E604",
        "negated",
        right,
        flipped,
        comment="The weight with its sign changed.",
        statements=("ONX-6", "SKT-6"),
    )
    turned = replace(TOY, layers=(Linear([list(column) for column in zip(*WEIGHT, strict=True)], BIAS),))
    _add(cases, "E604", "transposed", right, turned, comment="The weight transposed.", statements=("ONX-6", "SKT-6"))
    trained = [[v + 0.0625 * (-1) ** (i + j) for j, v in enumerate(row)] for i, row in enumerate(WEIGHT)]
    further = replace(TOY, layers=(Linear(trained, BIAS),))
    comment = "The weight was trained further: it correlates with the sketch by over 0.99."
    _add(cases, "E403", "trained-further", right, further, comment=comment, statements=("ONX-7", "SKT-5", "SKT-6"))
    scaled = replace(TOY, layers=(Linear([[1.0625 * v for v in row] for row in WEIGHT], BIAS),))
    _add(
        cases,
        "E403",
        "scaled",
        right,
        scaled,
        comment="The weight was scaled: it correlates perfectly.",
        statements=("ONX-7", "SKT-5"),
    )
    _add_biases(cases, right)


def _add_biases(cases: Collector, right: ToyAdapter) -> None:
    biased = replace(TOY, layers=(Linear(WEIGHT, (1, -1, 2, 1)),))
    _add(cases, "E403", "bias", right, biased, comment="The right weight with another bias.", statements=("ONX-8",))
    bare = replace(TOY, layers=(Linear(WEIGHT),))
    _add(cases, "E403", "no-bias", right, bare, comment="The right weight without a bias.", statements=("ONX-8",))


def _add_sites(cases: Collector) -> None:
    right = ToyAdapter.of(TOY, toy_config(TOY))
    twins = replace(TOY, layers=(Linear(WEIGHT, BIAS), Linear(WEIGHT, BIAS)))
    alone = toy_config(TOY)
    alone["backbone"]["num_layers"] = {"encoder": 2}
    _add(
        cases,
        "E604",
        "twins",
        ToyAdapter.of(TOY, alone),
        twins,
        comment="Two layers have the sketched weight.",
        statements=("ONX-6",),
    )
    pair = ToyAdapter.of(twins, toy_config(twins))
    _add(
        cases,
        "E604",
        "one-for-two",
        pair,
        TOY,
        comment="Two sites have the sketch of one layer.",
        statements=("ONX-6",),
    )
    sketches = [name for name in right.tensors if name.startswith("sketch.")]
    silent = replace(right, tensors={k: tensor for k, tensor in right.tensors.items() if k not in sketches})
    _add(cases, "E604", "no-sketches", silent, TOY, comment="The adapter has no sketches.", statements=("ONX-6",))
    long = replace(
        right, tensors={**right.tensors, "sketch.encoder.0.ffn.weight": RawTensor.of("F32", (20,), [1.0, *[0.0] * 19])}
    )
    _add(
        cases,
        "E604",
        "larger-sketch",
        long,
        TOY,
        comment="A sketch of a weight with more elements.",
        statements=("ONX-6", "SKT-6"),
    )


def _add_surroundings(cases: Collector) -> None:
    right = ToyAdapter.of(TOY, toy_config(TOY, attach={"input": "residual"}))
    for name, broken, comment in (
        ("no-sum", "relu", "A Relu stands between h and the residual sum."),
        ("two-sums", "twice", "h goes into two sums."),
    ):
        _add(cases, "E604", name, right, TOY, comment=comment, statements=("ONX-10",), spelling=Spelling(broken=broken))
    post = ToyAdapter.of(POST, toy_config(POST, bias_down=False, bias_up=False), FLIPPING)
    bare = replace(POST, norms=())
    _add(cases, "E604", "no-norm", post, bare, comment="No layer norm follows the sum.", statements=("ONX-10",))
    config = toy_config(POST, bias_down=False, bias_up=False)
    config["backbone"]["norms"] = ["norm.0", "norm.1"]
    two = replace(POST, first_norm=UNIT)
    position = ToyAdapter.of(POST, config, FLIPPING)
    comment = "The norm behind the site is the second one of the graph, and its name the first one of the adapter's."
    _add(cases, "E604", "norm-position", position, two, comment=comment, statements=("ONX-10",))


def _overriding(toy: Toy, values: dict[str, Any], name: str, kind: str) -> ToyAdapter:
    """An adapter for a toy that replaces one tensor."""
    config = toy_config(toy, overrides=[{"name": name, "kind": kind}], bias_down=False, bias_up=False)
    return ToyAdapter.of(toy, config, values)


def _add_overrides(cases: Collector) -> None:
    three = {**FLIPPING, "override.norm.0.weight": [1, 2, 3]}
    short = {"override.layer.0.bias": [1, 2, 3]}
    for code, name, toy, values, override, comment in (
        ("E404", "norm-tensor", POST, FLIPPING, ("norm.0.scale", "norm"), "A norm has no tensor of that name."),
        ("E404", "norm-size", POST, three, ("norm.0.weight", "norm"), "A gain of three elements for a norm of four."),
        ("E404", "bias-of-no-site", TOY, {}, ("layer.7.bias", "bias"), "The bias of a linear that is no site's."),
        ("E404", "bias-size", TOY, short, ("layer.0.bias", "bias"), "A bias of three elements for one of four."),
        ("E405", "head", TOY, {}, ("head.0.scale", "head"), "An override of kind head."),
    ):
        adapter = _overriding(toy, values, *override)
        _add(cases, code, name, adapter, toy, comment=comment, statements=("ONX-11",))
    fewer = _overriding(POST, FLIPPING, "norm.0.weight", "norm")
    first = replace(POST, first_norm=UNIT)
    comment = "The graph has more norms than the adapter's backbone."
    _add(cases, "E604", "number-of-norms", fewer, first, comment=comment, statements=("ONX-11",))


def _add_heads(cases: Collector) -> None:
    head: JsonObject = {"task": "toy", "layers": ["head.0"], "shapes": {"head.0.weight": [5, 4]}}
    right = ToyAdapter.of(TOY, toy_config(TOY, head=head))
    _add(
        cases,
        "E604",
        "no-logits",
        right,
        TOY,
        comment="No output is named logits.",
        statements=("ONX-12",),
        spelling=Spelling(output="scores"),
    )
    wide = ToyAdapter.of(TOY, toy_config(TOY, head={**head, "shapes": {"head.0.weight": [5, 6]}}))
    _add(
        cases,
        "E604",
        "head-inputs",
        wide,
        TOY,
        comment="The head has other inputs than the graph's.",
        statements=("ONX-12",),
    )
    deep = replace(TOY, head=(Linear(ternary(4, 4, 7), (1, 1, 0, -1)), *HEAD))
    shapes = {"head.0.weight": [6, 4], "head.1.weight": [3, 6]}
    inner = ToyAdapter.of(TOY, toy_config(TOY, head={"task": "toy", "layers": ["head.0", "head.1"], "shapes": shapes}))
    _add(
        cases,
        "E604",
        "head-between",
        inner,
        deep,
        comment="Another width between the layers of the head.",
        statements=("ONX-12",),
    )
    mean = ToyAdapter.of(TOY, toy_config(TOY, head={**head, "pooling": "mean"}))
    comment = "The head reads a mean, the graph's the first token."
    _add(cases, "E604", "head-mean", mean, TOY, comment=comment, statements=("ONX-50",))
    _add_pooler(cases, deep, head)


def _add_pooler(cases: Collector, deep: Toy, head: JsonObject) -> None:
    pooled = toy_config(
        deep, head={**head, "shapes": {"head.1.weight": [5, 4]}, "layers": ["head.1"], "pooler": "head.0"}
    )
    pooler = ToyAdapter.of(deep, pooled)
    sketches = sketches_of("pooler", deep.head[0])
    other = {**pooler.tensors, **sketches, "sketch.pooler.weight": _shifted(sketches["sketch.pooler.weight"])}
    comment = "The pooler before the head is another one."
    _add(cases, "E403", "pooler", replace(pooler, tensors=other), deep, comment=comment, statements=("ONX-8",))


def _shifted(tensor: RawTensor) -> RawTensor:
    values = unpack(tensor.dtype, tensor.data)
    return RawTensor.of(tensor.dtype, tensor.shape, [*values[1:], values[0]])
