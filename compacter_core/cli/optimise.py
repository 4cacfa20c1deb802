"""The options of `compacter graft` that make a graph for a named target: its precision, and what is measured."""

import argparse
from pathlib import Path

from compacter_core.cli.command import needs
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.linkage.kinds import Linkage
from compacter_exporters.optimise.choices import Precision, Target

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
        "for cuda, tensorrt and webgpu are built and checked in structure, and have not been run by us (default: cpu, "
        "nothing fused)",
    )
    parser.add_argument(
        "--precision",
        type=Precision,
        choices=list(Precision),
        help="type of the backbone's weights; with int8 (dynamic) and int4 (weights only, in blocks) adapters, norms "
        "and head stay in float (default: fp32)",
    )
    parser.add_argument(
        "--tune",
        nargs="+",
        metavar="ROWSxTOKENS",
        help="build several graphs that compute the same, measure them on this machine at these shapes, and write the "
        "fastest, never one that is slower than the unoptimised",
    )


def is_optimised(args: argparse.Namespace) -> bool:
    """Whether one of the options is given."""
    return bool(_given(args))


def check_optimisable(args: argparse.Namespace, *, one_file: bool) -> None:
    """Refuse the options where the adapter is not merged into one graph.

    Raises:
        CompacterError: E001.
    """
    if is_optimised(args) and not (one_file and args.linkage == Linkage.MERGED):
        raise CompacterError(
            ErrorCode.E001,
            "only an adapter that is merged into one graph is optimised",
            value=_given(args),
            expected="the linkage merged, and a backbone in one file",
            remedy="Optimise the backbone's graphs before, and graft into what comes out.",
        )


def graft_optimised(
    args: argparse.Namespace, backbone: Path, adapter: Path, output: Path
) -> tuple[dict[str, object], str]:
    """Graft as the options say; the result for `--json`, and as text."""
    with needs("onnx,cpu"):
        from tqdm import tqdm

        from compacter_core.format.reader import load_adapter
        from compacter_exporters.forms import Form
        from compacter_exporters.optimise.recipe import Recipe, build
        from compacter_exporters.optimise.shapes import Shape
        from compacter_exporters.optimise.tuning import tune

    loaded = load_adapter(adapter)
    target, precision = args.target or Target.CPU, args.precision or Precision.FP32
    recipe = Recipe.best_known(target, precision, Form(args.form), loaded)
    with tqdm(bar_format=_BAR, leave=False, disable=None) as bar:

        def step(stage: str) -> None:
            bar.set_description(stage, refresh=False)
            bar.update()

        if args.tune is None:
            report = build(backbone, loaded, output, recipe, announce=step)
            text = f"grafted {report.adapter} into {backbone} for {target} in {precision}: {output}"
            return report.as_dict() | recipe.as_dict(), text
        shapes = [Shape.parse(text) for text in args.tune]
        tuned = tune(backbone, loaded, output, recipe, shapes, seconds=SECONDS, announce=step)
    text = f"grafted {tuned.graft.adapter} into {backbone} for {target} in {precision}: {output}\n{tuned.as_text()}"
    return tuned.as_dict() | recipe.as_dict(), text


def _given(args: argparse.Namespace) -> list[str]:
    return [f"--{name}" for name in ("target", "precision", "tune") if getattr(args, name) is not None]
