"""Adapters to be grafted into toy backbones: the logits that have to come out, exactly (ONX-1 to ONX-4, ONX-13)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, Final

from compacter_core.conformance.case import Expectation
from compacter_core.conformance.generate.files_bytes import JsonObject, RawTensor, container, unpack
from compacter_core.conformance.generate.files_collector import Collector
from compacter_core.conformance.generate.files_grafted import ToyAdapter, toy_config
from compacter_core.conformance.generate.files_graphs import INPUT, Spelling, ToyWriter
from compacter_core.conformance.generate.files_toys import Linear, Norm, Rows, Toy, as_rows, ternary
from compacter_core.conformance.words import Flag, Op

MODEL: Final = ".onnx"
MANTISSA: Final[Mapping[str, int]] = {"F64": 53, "F32": 24, "F16": 11}

A: Final = (1, 1, -1, -1)
B: Final = (1, -1, 1, -1)
C: Final = (1, -1, -1, 1)
"""Three rows of a Hadamard matrix: their mean is 0, their deviation 1, and they are orthogonal."""

HEAD: Final = (Linear(ternary(4, 3, 3), (1, 0, -1)),)
PRE: Final = Toy(layers=(Linear(ternary(4, 4, 1), (1, -1, 2, 0)), Linear(ternary(4, 4, 5), (0, 1, -1, 1))), head=HEAD)
TOKENS: Final[Rows] = ((1, -2, 3, 0), (2, 1, -1, -3))


def diagonal(a: int, b: int, c: int) -> list[list[float]]:
    """The matrix that multiplies A by a, B by b and C by c."""
    return [[(a * A[i] * A[j] + b * B[i] * B[j] + c * C[i] * C[j]) / 4 for j in range(len(A))] for i in range(len(A))]


POST: Final = Toy(layers=(Linear(diagonal(3, 1, -3)),), norms=(Norm((2, 1, -1, 3), (0, 1, -2, 1)),), head=HEAD)
PATTERNS: Final[Rows] = (A, tuple(-v for v in A), B, tuple(-v for v in B), C)
TWICE: Final = replace(POST, norms=(Norm((2, 2, 2, 2), (1, 1, 1, 1)),))


def along(a: float, b: float) -> dict[str, Any]:
    """An adapter that reads how much of A and of B there is, and adds a times the one to A and b times the other to B.

    Rows of one direction stay in it, so the deviation behind the adapter is a power of two again for some a and b.
    """
    return {
        "site.encoder.0.ffn.down.W": [[A[i] / 4, B[i] / 4] for i in range(len(A))],
        "site.encoder.0.ffn.up.W": [[a * v for v in A], [b * v for v in B]],
    }


FLIPPING: Final = along(-2, -4)
"""For input h = 3 A and h = B: r + o is (4 - 6) A and (2 - 4) B, another sign than r + h."""

POSTS: Final[Mapping[str, tuple[Toy, dict[str, Any]]]] = {
    "houlsby": (POST, FLIPPING),
    "parallel": (POST, along(-8, -4)),
    "pfeiffer": (TWICE, along(-4, -2)),
}
"""Toys and adapters for the placements that a norm follows; TWICE is for the one that reads behind that norm."""

PLACEMENTS: Final[Mapping[str, JsonObject]] = {
    "houlsby": {},
    "pfeiffer": {"input": "normed_sum"},
    "parallel": {"input": "residual"},
    "adapter_plus": {"input": "normed_sum", "skip": "normed_sum", "post": False},
    "residual-sum": {"input": "residual", "skip": "residual_sum", "post": False},
    "normed-of-output": {"input": "sublayer_output", "skip": "normed_sum", "post": False},
}

OPTIONS: Final[Mapping[str, JsonObject]] = {
    "dense": {"projection": {"kind": "dense"}},
    "low-rank": {"projection": {"kind": "low_rank", "phm_rank": 2}},
    "phm": {"projection": {"kind": "phm", "phm_dim": 2, "shared_phm_rule": True}},
    "lphm": {"projection": {"kind": "lphm", "phm_dim": 2, "phm_rank": 1}},
    "lphm-factored": {
        "projection": {
            "kind": "lphm",
            "phm_dim": 2,
            "phm_rank": 2,
            "shared_phm_rule": True,
            "factorized_phm_rule": True,
        }
    },
    "shared-weights": {"projection": {"kind": "dense", "shared_W": True}},
    "identity": {"non_linearity": "identity"},
    "no-biases": {"bias_down": False, "bias_up": False},
    "bias-down": {"bias_up": False},
    "bias-up": {"bias_down": False},
    "scaling": {"scaling": -0.5},
    "scaling-learned": {"scaling": "learned"},
    "scaling-channel": {"scaling": "channel"},
}

SPELLINGS: Final[Mapping[str, Spelling]] = {
    "transposed": Spelling(transposed=True),
    "gemm": Spelling(gemm=True),
    "bias-first": Spelling(bias_first=True, residual_first=True),
    "opset-20": Spelling(opset=20),
    "f64": Spelling(dtype="F64"),
}


def add_grafts(cases: Collector) -> None:
    """Add the cases of `graft` whose answer is a model."""
    for name, changes in OPTIONS.items():
        add(cases, f"option/{name}", ToyAdapter.of(PRE, toy_config(PRE, **changes)), f"The option {name}.")
    for name, attach in PLACEMENTS.items():
        pre = ToyAdapter.of(PRE, toy_config(PRE, attach=attach))
        add(cases, f"pre-norm/{name}", pre, f"{name} on a pre-norm backbone.", statements=("ONX-1", "PLC-8"))
        toy, values = POSTS.get(name, (POST, along(1, 2)))
        post = ToyAdapter.of(toy, toy_config(toy, attach=attach, bias_down=False, bias_up=False), values)
        comment = f"{name} on a post-norm backbone."
        add(cases, f"post-norm/{name}", post, comment, tokens=PATTERNS, statements=("ONX-1", "ONX-10", "PLC-5"))
    mixed = toy_config(PRE)
    mixed["sites"][1]["attach"] = PLACEMENTS["parallel"]
    add(cases, "placement-of-a-site", ToyAdapter.of(PRE, mixed), "One site has a placement of its own.")
    for name, spelling in SPELLINGS.items():
        add(cases, f"spelling/{name}", ToyAdapter.of(PRE, toy_config(PRE)), f"The spelling {name}.", spelling=spelling)
    _add_parts(cases)
    _add_replaced(cases)


def add(
    cases: Collector,
    name: str,
    adapter: ToyAdapter,
    comment: str,
    *,
    spelling: Spelling | None = None,
    tokens: Rows = TOKENS,
    statements: Sequence[str] = ("ONX-1", "ONX-3", "ONX-4"),
    model: Toy | None = None,
) -> None:
    """A case with the logits of the toy with the adapter in it; `model` is the backbone that is given instead."""
    spelt = spelling or Spelling()
    expected = as_rows(adapter.replaced.logits(tokens, adapter.adapter))
    _check_exact(adapter, tokens, spelt.dtype)
    case_id = f"graft/valid/{name}"
    given = ToyWriter(model or adapter.toy, spelt).write()
    shape = (len(expected), len(expected[0]))
    values = RawTensor.of("F64", shape, [value for row in expected for value in row])
    bound = RawTensor.of("F64", shape, [0.0] * (shape[0] * shape[1]))
    tensors = {"logits": values, f"bound.{spelt.dtype}.{spelt.dtype}.logits": bound}
    cases.add(
        case_id,
        Op.GRAFT,
        Expectation(tensors=cases.store(f"{case_id}.expected", container(None, tensors))),
        statements,
        comment,
        files=files(cases, case_id, adapter.file, given, spelling=spelt, tokens=tokens),
        flags=frozenset({Flag.EXACT}),
    )


def files(
    cases: Collector, case_id: str, adapter: bytes, model: bytes, *, spelling: Spelling, tokens: Rows
) -> dict[str, str]:
    """The files of a case of `graft`; each row of a batch has the given first token, and another one behind it."""
    d = len(tokens[0])
    rows = [[*token] if spelling.gemm else [*token, *C[:d]] for token in tokens]
    shape = (len(tokens), d) if spelling.gemm else (len(tokens), 2, d)
    feed = RawTensor.of(spelling.dtype, shape, [value for row in rows for value in row])
    return {
        "model": cases.store(f"{case_id}.backbone", model, MODEL),
        "adapter": cases.store(f"{case_id}.adapter", adapter),
        "feeds": cases.store(f"{case_id}.feeds", container(None, {INPUT: feed})),
    }


def _check_exact(adapter: ToyAdapter, tokens: Rows, dtype: str) -> None:
    """On pre-norm toys: no order of summation can round, since the sums of absolute values have few digits.

    Raises:
        ValueError: if one could.
    """
    if adapter.toy.is_post_norm or adapter.toy.first_norm is not None:
        return  # norms keep values small; the logits themselves show that every deviation was a power of two
    absolute = replace(
        adapter,
        config={**adapter.config, "non_linearity": "identity", "scaling": _absolute(adapter.config.get("scaling", 1))},
        tensors={name: _absolute_tensor(tensor) for name, tensor in adapter.tensors.items()},
        toy=Toy(layers=_absolute_linears(adapter.toy.layers), head=_absolute_linears(adapter.toy.head)),
    )
    sums = absolute.replaced.logits([[abs(v) for v in token] for token in tokens], absolute.adapter)
    if max(value for row in sums for value in row) * 8 >= Fraction(2) ** MANTISSA[dtype]:
        raise ValueError(f"logits that {dtype} might round")


def _absolute(scaling: Any) -> Any:
    return scaling if isinstance(scaling, str) else abs(scaling)


def _absolute_tensor(tensor: RawTensor) -> RawTensor:
    return RawTensor.of(tensor.dtype, tensor.shape, [abs(value) for value in unpack(tensor.dtype, tensor.data)])


def _absolute_linears(linears: tuple[Linear, ...]) -> tuple[Linear, ...]:
    return tuple(
        Linear([[abs(v) for v in row] for row in one.W], None if one.b is None else [abs(v) for v in one.b])
        for one in linears
    )


def _add_parts(cases: Collector) -> None:
    """Sites at some layers only, layers without a bias, other dtypes."""
    second = toy_config(PRE, sites=[{"id": "encoder.1.ffn", "bottleneck_size": 3}])
    add(
        cases, "one-site", ToyAdapter.of(PRE, second), "A site at the second layer only.", statements=("ONX-6", "ONX-4")
    )
    bare = replace(PRE, layers=tuple(Linear(one.W) for one in PRE.layers))
    add(cases, "linear-without-bias", ToyAdapter.of(bare, toy_config(bare)), "The linears have no bias.")
    zero = replace(PRE, layers=tuple(Linear(one.W, (0, 0, 0, 0)) for one in PRE.layers))
    comment = "The sketched biases are zero, and the graph has none."
    add(cases, "zero-bias", ToyAdapter.of(zero, toy_config(zero)), comment, model=bare, statements=("ONX-8",))
    small = Toy(layers=(Linear(ternary(4, 4, 1), (1, -1, 0, 0)),), head=(Linear(ternary(4, 2, 3)),))
    adapter = ToyAdapter.of(small, toy_config(small, bias_up=False))
    tokens = ((1, -1, 0, 1), (-1, 1, 1, 1))
    add(cases, "spelling/f16", adapter, "A graph of type F16.", spelling=Spelling(dtype="F16"), tokens=tokens)
    silent = toy_config(PRE)
    silent["backbone"]["modules"] = {}
    add(cases, "no-names", ToyAdapter.of(PRE, silent), "The adapter knows no module names.", statements=("ONX-6",))
    plain = {key: value for key, value in toy_config(POST).items() if key != "backbone"}
    without = ToyAdapter.of(POST, plain | {"bias_down": False, "bias_up": False}, FLIPPING)
    comment = "Without a backbone in the file, sketches alone find the site."
    add(cases, "no-backbone", without, comment, tokens=PATTERNS, statements=("ONX-6",))


def _add_replaced(cases: Collector) -> None:
    """Norms, biases and heads that come with the adapter."""
    head: JsonObject = {"task": "toy", "layers": ["head.0"], "shapes": {"head.0.weight": [5, 4], "head.0.bias": [5]}}
    wider = ToyAdapter.of(PRE, toy_config(PRE, head=head))
    add(cases, "head", wider, "A head with more labels.", statements=("ONX-4", "ONX-12"))
    deep = replace(PRE, head=(Linear(ternary(4, 4, 7), (1, 1, 0, -1)), Linear(ternary(4, 2, 8), (1, 2))))
    both = {
        "task": "toy",
        "layers": ["head.0", "head.1"],
        "shapes": {"head.0.weight": [4, 4], "head.0.bias": [4], "head.1.weight": [3, 4]},
    }
    two = ToyAdapter.of(deep, toy_config(deep, head=both))
    add(cases, "head-of-two", two, "A head of two linears with a Relu between them.", statements=("ONX-4", "ONX-12"))
    bias = [{"name": "layer.1.bias", "kind": "bias"}]
    biased = ToyAdapter.of(PRE, toy_config(PRE, overrides=bias))
    add(cases, "override/bias", biased, "The bias of a site's linear is replaced.", statements=("ONX-11", "ONX-4"))
    gains: list[JsonObject] = [{"name": f"norm.0.{part}", "kind": "norm"} for part in ("weight", "bias")]
    values = {**FLIPPING, "override.norm.0.weight": [-1, 2, 5, 1], "override.norm.0.bias": [3, 0, -1, 2]}
    normed = {**along(-4, -2), "override.norm.0.weight": [2, 2, 2, 2], "override.norm.0.bias": [-1, -1, -1, -1]}
    for attach, tensors in (("houlsby", values), ("pfeiffer", normed), ("adapter_plus", values)):
        config = toy_config(POST, overrides=gains, attach=PLACEMENTS[attach], bias_down=False, bias_up=False)
        comment = f"Gain and bias of the norm are replaced, {attach}."
        adapter = ToyAdapter.of(POST, config, tensors)
        add(cases, f"override/norm-{attach}", adapter, comment, tokens=PATTERNS, statements=("ONX-11", "ONX-4"))
    unit = Norm((1, 1, 1, 1), (0, 0, 0, 0))
    twins = replace(POST, first_norm=unit, norms=(unit,))
    config = toy_config(twins, overrides=gains, bias_down=False, bias_up=False)
    tokens = [[2 * v + 1 for v in token] for token in PATTERNS]
    statements = ("ONX-13", "ONX-11")
    for name, spelling in (
        ("merged", Spelling(merged=True)),
        ("decomposed", Spelling(decomposed=True)),
        ("merged-decomposed", Spelling(merged=True, decomposed=True)),
    ):
        comment = f"One of two equal norms is replaced, {name.replace('-', ' and ')}."
        adapter = ToyAdapter.of(twins, config, values)
        add(cases, f"override/{name}", adapter, comment, spelling=spelling, tokens=tokens, statements=statements)
