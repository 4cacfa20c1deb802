"""The options of `compacter graft` that make a graph for a named target: its precision, and what is measured."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from compacter_core.cli.command import needs
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.linkage.kinds import Linkage
from compacter_exporters.optimise.choices import Precision, Target

if TYPE_CHECKING:
    from compacter_core.adapter import Adapter
    from compacter_exporters.graft_set import SetReport
    from compacter_exporters.linkage.opening import OpenSetReport
    from compacter_exporters.optimise.recipe import Recipe

SECONDS = 20.0
"""How long candidates are measured."""
_BAR = "{desc} {bar} {elapsed}"


def add_optimise_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--target",
        type=Target,
        choices=list(Target),
        help="where the graph will run: decides what is fused beforehand, and refuses what has no kernel there. Graphs "
        "for cuda, tensorrt and webgpu are built and checked in structure, and have not been run by us; cpu keeps "
        "residual sums from being fused with norms, which costs time there; the linkages swappable and bank are for "
        "cpu and cuda (default: cpu if --precision is given, else the graph is for any)",
    )
    parser.add_argument(
        "--precision",
        type=Precision,
        choices=list(Precision),
        help="type of the backbone's weights; with int8 (dynamic) and int4 (weights only, in blocks) adapters, norms "
        "and head stay in float; fp16, and for merged graphs bf16, are for GPUs, and leave in fp32 what "
        "would overflow (default: fp32)",
    )
    parser.add_argument(
        "--tune",
        nargs="+",
        metavar="ROWSxTOKENS",
        help="build several graphs that compute the same, measure them on this machine at these shapes, and write the "
        "fastest, never one that is slower than what a graft without options writes; they differ in the fused "
        "operators, for the linkage merged in the form of the sites and, on CPUs, in whether ONNX Runtime may fuse "
        "residual sums with norms, which can cost time there; other linkages are measured with ADAPTER in every row",
    )


def is_optimised(args: argparse.Namespace) -> bool:
    """Whether one of the options is given."""
    return bool(_given(args))


def check_optimisable(args: argparse.Namespace, *, one_file: bool) -> None:
    """Refuse to measure what cannot be measured: several graphs at once.

    Raises:
        CompacterError: E001.
    """
    if args.tune is not None and not one_file:
        raise CompacterError(
            ErrorCode.E001,
            "--tune measures one graph, and the backbone is a directory of several",
            value=str(args.backbone),
            expected="a backbone in one file",
            remedy="Give --target and --precision alone.",
        )


def graft_optimised(
    args: argparse.Namespace, backbone: Path, adapter: Path, output: Path
) -> tuple[dict[str, object], str]:
    """Graft into one graph, or open it, as the options say; the result for `--json`, and as text."""
    with needs("onnx,cpu"):
        from compacter_core.format.reader import load_adapter
        from compacter_exporters.optimise.open_recipe import build_linked
        from compacter_exporters.optimise.shapes import Shape
        from compacter_exporters.optimise.tuning import tune

    loaded, linkage = load_adapter(adapter), Linkage(args.linkage)
    recipe, name = _recipe(args, loaded), loaded.config.name
    done = f"grafted {name} into {backbone}" if linkage is Linkage.MERGED else f"opened {backbone} as {linkage}"
    text = f"{done} for {recipe.target} in {recipe.precision}: {output}"
    with _steps() as step:
        if args.tune is not None:
            shapes = [Shape.parse(one) for one in args.tune]
            tuned = tune(backbone, loaded, output, recipe, shapes, linkage=linkage, seconds=SECONDS, announce=step)
            return tuned.as_dict() | recipe.as_dict(), f"{text}\n{tuned.as_text()}"
        report = build_linked(backbone, loaded, output, linkage, recipe, announce=step)
    return report.as_dict() | recipe.as_dict(), text


def graft_set_optimised(args: argparse.Namespace, adapter: Path) -> tuple["SetReport", dict[str, object]]:
    """Graft into the graphs of a directory as the options say; what was done, and the result for `--json`."""
    with needs("onnx,cpu"):
        from compacter_core.format.reader import load_adapter
        from compacter_exporters.optimise.recipe_set import build_directory

    loaded = load_adapter(adapter)
    recipe = _recipe(args, loaded)
    with _steps() as step:
        report = build_directory(args.backbone, loaded, args.output, recipe, announce=step)
    return report, report.as_dict() | recipe.as_dict()


def open_set_optimised(args: argparse.Namespace, template: Path) -> tuple["OpenSetReport", dict[str, object]]:
    """Open the graphs of a directory as the options say; what was done, and the result for `--json`."""
    with needs("onnx,cpu"):
        from compacter_core.format.reader import load_adapter
        from compacter_exporters.optimise.open_recipe import build_open_directory

    loaded = load_adapter(template)
    recipe = _recipe(args, loaded)
    with _steps() as step:
        report = build_open_directory(args.backbone, loaded, args.output, Linkage(args.linkage), recipe, announce=step)
    return report, report.as_dict() | recipe.as_dict()


def _recipe(args: argparse.Namespace, adapter: "Adapter") -> "Recipe":
    from compacter_exporters.forms import Form
    from compacter_exporters.optimise.recipe import Recipe

    target, precision = args.target or Target.CPU, args.precision or Precision.FP32
    return Recipe.best_known(target, precision, Form(args.form), adapter)


@contextmanager
def _steps() -> Iterator[Callable[[str], None]]:
    """A line on the terminal that says what is being done."""
    from tqdm import tqdm

    with tqdm(bar_format=_BAR, leave=False, disable=None) as bar:

        def step(stage: str) -> None:
            bar.set_description(stage, refresh=False)
            bar.update()

        yield step


def _given(args: argparse.Namespace) -> list[str]:
    return [f"--{name}" for name in ("target", "precision", "tune") if getattr(args, name) is not None]
