"""AdapterHub's code against the specification, through the bridge in examples/adapterhub.

Transformers 4.57 is what AdapterHub needs, and what marks the environment that has to have it: there a missing
installation is a failure, elsewhere these tests cannot run.
"""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

if not version("transformers").startswith("4.57."):
    pytest.skip("AdapterHub needs transformers 4.57: run make test-interop", allow_module_level=True)

import adapters
import torch
from adapters.methods import modeling

from compacter_core.cli.main import main
from compacter_core.config import ATTACH_PRESETS, Attach
from compacter_core.conformance.lists import load_lists
from compacter_core.methods import METHODS, Method
from compacter_core.vocabulary import Activation, Input, Skip
from examples.adapterhub.translation import ACTIVATIONS, placement_of

BRIDGE = "examples.adapterhub.bridge:adapterhub"
KNOWN = Path(__file__).parents[2] / "examples" / "adapterhub" / "known.toml"


def run(report: Path, *options: str) -> list[dict[str, Any]]:
    """The results of a run in this process; it is never conformant, since there is always something skipped."""
    assert main(["conformance", "run", "--implementation", BRIDGE, "--report", str(report), *options]) == 1
    results: list[dict[str, Any]] = json.loads(report.read_text())["results"]
    return results


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Everything that the bridge claims, with what is known about it."""
    return run(tmp_path_factory.mktemp("adapterhub") / "report.json", "--lists", str(KNOWN))


def test_nothing_is_wrong_but_what_is_known(results: list[dict[str, Any]]) -> None:
    surprises = [
        (one["case"], one["dtype"], one["detail"])
        for one in results
        if one["verdict"] not in ("passed", "skipped", "xfailed")
    ]
    assert surprises == []


def test_every_known_deviation_is_seen(results: list[dict[str, Any]]) -> None:
    """No entry of the list is left over."""
    failed = {one["case"] for one in results if one["verdict"] == "xfailed"}
    for entry in load_lists(KNOWN).xfail:
        assert any(entry.matches(case, None) for case in failed), entry.case


def test_skips_are_what_adapterhub_cannot_express(results: list[dict[str, Any]]) -> None:
    """Everything else is answered."""
    assert {one["detail"] for one in results if one["verdict"] == "skipped"} == {
        "AdapterHub factors weights only inside PHM layers",
        "AdapterHub shares weights of sites only in PHM layers",
        "AdapterHub's parallel adapters add to the sublayer's output alone",
        "AdapterHub's adapters that read the sublayer's output also add to it",
    }


def test_the_work_is_done_by_adapterhub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in its Kronecker product is noticed."""
    right = modeling.kronecker_product

    def transposed(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = right(a.transpose(-1, -2), b)
        return product

    monkeypatch.setattr(modeling, "kronecker_product", transposed)
    broken = run(tmp_path / "report.json", "--case", "forward/lphm/*", "--dtypes", "F64")
    assert "failed" in {one["verdict"] for one in broken}


@pytest.mark.parametrize(
    ("preset", "method", "activation", "attach"),
    [
        (adapters.CompacterConfig, Method.COMPACTER, Activation.GELU, Attach()),
        (adapters.CompacterPlusPlusConfig, Method.COMPACTER_PLUS_PLUS, Activation.GELU, Attach(input=Input.NORMED_SUM)),
        (adapters.DoubleSeqBnConfig, Method.ADAPTER, Activation.SILU, Attach()),
        (adapters.SeqBnConfig, Method.PFEIFFER, Activation.RELU, Attach(input=Input.NORMED_SUM)),
        (adapters.ParBnConfig, Method.PARALLEL, Activation.RELU, Attach(input=Input.RESIDUAL)),
    ],
)
def test_presets(preset: Any, method: Method, activation: Activation, attach: Attach) -> None:
    """What a preset stands for in our words: the activation is never ours, and of Compacter++ neither the placement."""
    options = preset()
    words = {**{value: key for key, value in ACTIVATIONS.items()}, "swish": Activation.SILU}
    assert words[options["non_linearity"]] is activation
    assert placement_of(options) == attach
    agrees = attach == ATTACH_PRESETS[METHODS[method].attach]
    assert agrees is (method is not Method.COMPACTER_PLUS_PLUS)


def test_adapter_plus() -> None:
    """Its placement is ours; its scaling is trained per channel, and it drops whole adapters in training."""
    options = adapters.AdapterPlusConfig()
    assert placement_of(options) == ATTACH_PRESETS["adapter_plus"]
    assert placement_of(options) == Attach(input=Input.NORMED_SUM, skip=Skip.NORMED_SUM, post=False)
    assert (options["scaling"], options["stochastic_depth"]) == ("channel", 0.1)
