"""The wheel holds the three packages, whole, and nothing else at its top level."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = {"compacter_core": ROOT, "compacter_exporters": ROOT / "exporters", "compacter_runtime": ROOT / "runtime"}
# The runner finds the suite and the schemas inside the installed package.
INCLUDED = {
    "specs/vectors": "compacter_core/conformance/vectors",
    "specs/schemas": "compacter_core/conformance/schemas",
}


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    target = tmp_path_factory.mktemp("wheel")
    build = f"from hatchling.build import build_wheel; build_wheel({str(target)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = target.glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def test_top_level(wheel_names: set[str]) -> None:
    tops = {name.split("/")[0] for name in wheel_names}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(SOURCES)


@pytest.mark.parametrize("package", sorted(SOURCES))
def test_every_source_and_data_file_is_in(wheel_names: set[str], package: str) -> None:
    root = SOURCES[package]
    expected = {
        path.relative_to(root).as_posix()
        for path in (root / package).rglob("*")
        if path.is_file() and path.suffix in {".py", ".json", ".typed", ".c", ".h"}
    }
    assert f"{package}/py.typed" in expected
    expected |= {
        f"{target}/{path.relative_to(ROOT / source).as_posix()}"
        for source, target in INCLUDED.items()
        for path in (ROOT / source).rglob("*")
        if path.is_file() and target.startswith(f"{package}/")
    }
    assert {name for name in wheel_names if name.startswith(f"{package}/")} == expected
