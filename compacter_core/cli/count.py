"""`compacter count`: how many parameters a method trains on a backbone."""

import argparse
from typing import TYPE_CHECKING

from compacter_core.cli.command import Outcome, needs, new_parser
from compacter_core.methods import Method

if TYPE_CHECKING:
    from compacter_core.cli.command import Subparsers

_EXAMPLES = """
compacter count --model t5-base --method compacter++
compacter count --model t5-base --method phm_adapter --phm-dim 12 --json
compacter count --model path/to/model --method pfeiffer --reduction-factor 16
"""


def add_parser(subparsers: "Subparsers") -> None:
    """Add the command."""
    parser = new_parser(
        subparsers,
        "count",
        run,
        summary="Count what a method trains on a backbone, norms included, without loading weights",
        examples=_EXAMPLES,
    )
    parser.add_argument("--model", required=True, help="t5-base, …, a directory with a config.json, or a hub name")
    parser.add_argument("--method", choices=[method.value for method in Method], default=Method.COMPACTER.value)
    parser.add_argument("--reduction-factor", type=int, default=32, help="d over k (default: 32)")
    parser.add_argument("--phm-dim", type=int, default=4, help="n (default: 4)")
    parser.add_argument("--phm-rank", type=int, default=1, help="r (default: 1)")


def run(args: argparse.Namespace) -> Outcome:
    """Count."""
    with needs("torch"):
        from compacter_core.pytorch.counting import count_trained
    count = count_trained(
        args.model,
        method=args.method,
        reduction_factor=args.reduction_factor,
        phm_dim=args.phm_dim,
        phm_rank=args.phm_rank,
    )
    data = count.as_dict()
    rows = {
        "backbone parameters": f"{count.backbone:,}",
        "adapter": f"{count.adapter:,}",
        "  formula": str(data["formula"]),
        "norms": f"{count.norms:,}",
        "trained": f"{count.adapter + count.norms:,} ({count.percent:.3f} %)",
    }
    width = max(map(len, rows))
    return Outcome(data, "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items()))
