"""`compacter train`: labelled texts and a backbone in, an adapter out."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from compacter_core.cli.command import Outcome, needs, new_parser
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.methods import Method
from compacter_core.vocabulary import Activation

if TYPE_CHECKING:
    from compacter_core.cli.command import Subparsers
    from compacter_core.pytorch.training import Recipe, TrainResult, TrainSettings

_FULL = "full"
_EXAMPLES = """
compacter train --backbone ./minilm --train train.jsonl --validation dev.jsonl -o intents
compacter train --backbone bert-base-uncased --train pairs.csv --validation dev.csv --method compacter++ -o pairs
compacter train --backbone roberta-base --train glue:sst2 --validation glue:sst2 --text-column sentence -o sst2
compacter train --backbone ./minilm --train train.jsonl --validation dev.jsonl -o intents --resume
"""


def add_parser(subparsers: "Subparsers") -> None:
    """Adds the subcommand."""
    parser = new_parser(
        subparsers,
        "train",
        run,
        summary="Train an adapter for text classification on a frozen backbone",
        examples=_EXAMPLES,
    )
    _add_data(parser.add_argument_group("data"))
    _add_recipe(parser.add_argument_group("what is trained"))
    _add_schedule(parser.add_argument_group("how long"))
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="new directory for the result")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in the output directory")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar on stderr")


def run(args: argparse.Namespace) -> Outcome:
    """Trains and reports."""
    with needs("torch"):
        from compacter_core.pytorch.training import train
    result = train(_settings(args), args.output)
    return Outcome(data=result.as_dict(), text=describe(result))


def describe(result: "TrainResult") -> str:
    """A table for people."""
    counts, best = result.counts, result.best
    rows = [
        ("training rows", f"{result.rows['train']:,}"),
        ("validation rows", f"{result.rows['validation']:,}"),
        ("rows cut to the maximum length", f"{result.truncated:,}"),
        ("classes", f"{len(result.labels):,}"),
        ("trained parameters", f"{counts.trained:,}"),
        ("  adapter", f"{counts.adapter:,}"),
        ("  of the backbone", f"{counts.replaced:,}"),
        ("  head", f"{counts.head:,}"),
        ("share of the backbone, without the head", f"{counts.share:.3%}"),
        ("best epoch", f"{best.epoch:g}"),
        ("validation accuracy", f"{best.accuracy:.4f}"),
        ("validation macro F1", f"{best.macro_f1:.4f}"),
        ("training time", f"{result.seconds:.0f} s"),
        ("saved in", str(result.output)),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _add_data(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--backbone", required=True, metavar="DIR|HUB", help="pretrained BERT, RoBERTa or DistilBERT")
    group.add_argument("--revision", metavar="REV", help="of a hub backbone")
    source = (
        "rows with text, label and perhaps text_pair: a .jsonl, .csv or .tsv file, or a data set NAME[:CONFIG][@SPLIT]"
    )
    group.add_argument("--train", required=True, metavar="DATA", help=source)
    group.add_argument("--validation", required=True, metavar="DATA", help="the same for validation")
    for name, default in (("text", "text"), ("pair", "text_pair"), ("label", "label")):
        group.add_argument(f"--{name}-column", default=default, metavar="NAME", help=f"default {default}")
    group.add_argument(
        "--max-length", type=int, metavar="TOKENS", help="cut longer rows (default 128, or the model's limit)"
    )


def _add_recipe(group: argparse._ArgumentGroup) -> None:
    methods = [method.value for method in Method]
    group.add_argument(
        "--method",
        choices=[*methods, _FULL],
        default=Method.COMPACTER.value,
        help="default compacter; full is full fine-tuning, for comparison",
    )
    group.add_argument("--name", default="default", help="the adapter's name")
    group.add_argument(
        "--reduction-factor", type=int, default=32, metavar="F", help="bottleneck = hidden size / F (32)"
    )
    group.add_argument("--phm-dim", type=int, default=4, metavar="N", help="number of Kronecker summands (4)")
    group.add_argument("--phm-rank", type=int, default=1, metavar="R", help="rank of the factors (1)")
    group.add_argument(
        "--non-linearity",
        choices=[one.value for one in Activation],
        default=Activation.GELU_NEW.value,
        help="default gelu_new",
    )
    group.add_argument("--freeze-norms", action="store_true", help="do not train the backbone's norms")
    group.add_argument("--train-pooler", action="store_true", help="train BERT's pooler as part of the head")
    group.add_argument("--learning-rate", type=float, metavar="LR", help="default 3e-3; 2e-4 for full")
    group.add_argument("--head-learning-rate", type=float, metavar="LR", help="default: the same")
    group.add_argument("--pretrained-learning-rate", type=float, metavar="LR", help="of norms and pooler; the same")


def _add_schedule(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--epochs", type=int, default=5, help="default 5")
    group.add_argument("--batch-size", type=int, default=32, metavar="ROWS", help="default 32")
    group.add_argument("--warmup", type=float, default=0.06, metavar="SHARE", help="share of the steps (0.06)")
    group.add_argument("--decay", choices=["linear", "cosine", "constant"], default="linear", help="default linear")
    group.add_argument("--weight-decay", type=float, default=0.0, metavar="W", help="default 0")
    group.add_argument("--patience", type=int, metavar="EPOCHS", help="stop after so many epochs without improvement")
    group.add_argument("--seed", type=int, default=0, help="default 0")


def _settings(args: argparse.Namespace) -> "TrainSettings":
    from compacter_core.pytorch.training import Columns, Decay, Schedule, TrainSettings

    return TrainSettings(
        backbone=args.backbone,
        revision=args.revision,
        train=args.train,
        validation=args.validation,
        columns=Columns(text=args.text_column, text_pair=args.pair_column, label=args.label_column),
        max_length=args.max_length,
        recipe=_recipe(args),
        schedule=Schedule(
            epochs=args.epochs,
            batch_size=args.batch_size,
            warmup=args.warmup,
            decay=Decay[args.decay.upper()],
            weight_decay=args.weight_decay,
            patience=args.patience,
            seed=args.seed,
        ),
        resume=args.resume,
        progress=not args.no_progress,
    )


def _recipe(args: argparse.Namespace) -> "Recipe":
    from compacter_core.pytorch.training import AdapterRecipe, FullRecipe

    rates = ("learning_rate", "head_learning_rate", "pretrained_learning_rate")
    given = {name: rate for name in rates if (rate := getattr(args, name)) is not None}
    if args.method == _FULL:
        if set(given) - {"learning_rate"}:
            raise CompacterError(
                ErrorCode.E001, "full fine-tuning has one learning rate", value=given, expected="--learning-rate alone"
            )
        return FullRecipe(**given)
    return AdapterRecipe(
        method=Method(args.method),
        name=args.name,
        reduction_factor=args.reduction_factor,
        phm_dim=args.phm_dim,
        phm_rank=args.phm_rank,
        non_linearity=Activation(args.non_linearity),
        train_norms=not args.freeze_norms,
        train_pooler=args.train_pooler,
        **given,
    )
