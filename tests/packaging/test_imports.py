"""Each package imports no more than its extra installs."""

import pkgutil
from importlib import import_module
from importlib.metadata import packages_distributions

import pytest

from tests.support.blocking import run_blocked

OURS = {"compacter_core", "compacter_exporters", "compacter_runtime"}
CORE = OURS | {"numpy", "safetensors"}
TORCH = {"torch", "transformers", "accelerate"}
IMPLEMENTATIONS = "compacter_core.conformance.implementations"
GRAPHS = (f"{IMPLEMENTATIONS}.onnx_graph", f"{IMPLEMENTATIONS}.site_graph")
PROGRAMS = ("compacter_core.__main__",)  # importing it runs the command line
BACKBONE_EXPORT = tuple(
    f"compacter_exporters.{module}"
    for module in (
        "backbone",
        "graph_check",
        "generation_check",
        "decoder_inputs",
        "source_model",
        "transformers_backend",
        "optimum_backend",
    )
)

BEHIND_TRANSFORMERS = ("compacter_runtime.generating_model",)  # graphs behind its `generate`


def modules_of(package: str, *, without: tuple[str, ...] = ()) -> list[str]:
    """Names of a package's modules, except those under the given prefixes."""
    path = import_module(package).__path__
    names = [package, *(found.name for found in pkgutil.walk_packages(path, f"{package}."))]
    return [name for name in names if not name.startswith(without)]


def import_all(modules: list[str]) -> str:
    return "from importlib import import_module\n" + "".join(f"import_module({name!r})\n" for name in modules)


def test_core_imports_numpy_and_safetensors_alone() -> None:
    installed = set(packages_distributions())
    without = ("compacter_core.pytorch", f"{IMPLEMENTATIONS}.pytorch", *GRAPHS, *PROGRAMS)
    modules = modules_of("compacter_core", without=without)
    assert len(modules) > 10
    result = run_blocked(import_all(modules), installed - CORE)
    assert result.returncode == 0, result.stderr


def test_grafting_imports_no_torch() -> None:
    modules = modules_of("compacter_exporters", without=BACKBONE_EXPORT)
    assert len(modules) > 5
    result = run_blocked(import_all([*modules, *GRAPHS]), TORCH)
    assert result.returncode == 0, result.stderr


def test_runtime_imports_no_torch_and_no_onnx() -> None:
    modules = modules_of("compacter_runtime", without=BEHIND_TRANSFORMERS)
    assert len(modules) > 5
    result = run_blocked(import_all(modules), TORCH | {"onnx", "onnx_ir", "onnxscript"})
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("package", ["numpy", "torch"])
def test_the_blocker_blocks(package: str) -> None:
    result = run_blocked(f"import {package}", {package})
    assert result.returncode == 1
    assert "is blocked" in result.stderr
