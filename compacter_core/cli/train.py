"""`compacter train`: data and a backbone in, an adapter out."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compacter_core.cli.command import EXIT_OK, Outcome, needs, new_parser
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.methods import Method
from compacter_core.vocabulary import Activation, Pooling

if TYPE_CHECKING:
    from compacter_core.cli.command import Subparsers
    from compacter_core.pytorch.training import Recipe, Schedule, TrainResult, TrainSettings

_FULL = "full"
# The word in the option's name, the field of `Columns`, and its default.
_COLUMNS = {
    "text": ("text", "text"),
    "pair": ("text_pair", "text_pair"),
    "label": ("label", "label"),
    "target": ("target", "target"),
    "tokens": ("tokens", "tokens"),
    "tags": ("tags", "labels"),
}
_EXAMPLES = """
compacter train --backbone ./minilm --train train.jsonl --validation dev.jsonl -o intents
compacter train --backbone bert-base-uncased --train pairs.csv --validation dev.csv --method compacter++ -o pairs
compacter train --backbone roberta-base --dataset glue/mrpc -o mrpc
compacter train --backbone t5-base --dataset glue/mrpc --task seq2seq --preset paper --method compacter++ -o mrpc
compacter train --backbone t5-small --task seq2seq --train pairs.jsonl --validation dev.jsonl -o summaries
compacter train --backbone ./minilm --task token-classification --train ner.jsonl --validation dev.jsonl -o ner
compacter train --backbone gpt2 --task causal-lm --train lines.jsonl --validation dev.jsonl --logging-dir runs -o lm
compacter train --backbone ./minilm --train train.jsonl --validation dev.jsonl -o intents --resume
"""


def add_parser(subparsers: "Subparsers") -> None:
    """Adds the subcommand."""
    parser = new_parser(
        subparsers,
        "train",
        run,
        summary="Train an adapter on a frozen backbone",
        examples=_EXAMPLES,
    )
    _add_data(parser.add_argument_group("data"))
    _add_recipe(parser.add_argument_group("what is trained"))
    _add_schedule(parser.add_argument_group("how long"))
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="new directory for the result")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in the output directory")
    parser.add_argument("--logging-dir", metavar="DIR", help="write TensorBoard's event files there")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar on stderr")


def run(args: argparse.Namespace) -> Outcome:
    """Trains and reports."""
    with needs("torch"):
        from compacter_core.pytorch.distributed import is_first_process
        from compacter_core.pytorch.training import train
    result = train(_settings(args), args.output)
    if not is_first_process():
        raise SystemExit(EXIT_OK)  # the first one reports
    return Outcome(data=result.as_dict(), text=describe(result))


def describe(result: "TrainResult") -> str:
    """A table for people."""
    counts, best = result.counts, result.best
    rows = [
        ("training rows", f"{result.rows['train']:,}"),
        ("validation rows", f"{result.rows['validation']:,}"),
        ("rows cut to the maximum length", f"{result.truncated:,}"),
        *([("classes", f"{len(result.labels):,}")] if result.labels else []),
        ("trained parameters", f"{counts.trained:,}"),
        ("  adapter", f"{counts.adapter:,}"),
        ("  of the backbone", f"{counts.replaced:,}"),
        ("  head", f"{counts.head:,}"),
        ("share of the backbone, without the head", f"{counts.share:.3%}"),
        (f"best epoch, by {_words(result.history.goal)}", f"{best.epoch:g}"),
        ("validation loss", f"{best.loss:.4f}"),
        *((f"validation {_words(name)}", f"{score:.4f}") for name, score in best.scores.items()),
        ("training time", f"{result.seconds:.0f} s"),
        ("saved in", str(result.output)),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _words(metric: str) -> str:
    return metric.replace("_f1", " F1").replace("_", " ")


def _add_data(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--backbone", required=True, metavar="DIR|HUB", help="pretrained transformers model")
    group.add_argument("--revision", metavar="REV", help="of a hub backbone")
    group.add_argument(
        "--task",
        choices=["classification", "regression", "token-classification", "seq2seq", "causal-lm"],
        help="default classification, or what the --dataset is",
    )
    group.add_argument(
        "--dataset",
        "--task-name",
        metavar="NAME",
        help="glue/mrpc, super_glue/boolq, or mrpc alone: its columns, classes and metrics; with --task seq2seq in "
        "T5's text form. Its rows come from the hub unless --train and --validation name files with its columns",
    )
    source = (
        "a .jsonl, .csv or .tsv file, or a data set NAME[:CONFIG][@SPLIT]. Rows have text, label and perhaps text_pair;"
        " for seq2seq text and target; for causal-lm text and perhaps target; for token-classification lists: tokens "
        "and labels"
    )
    group.add_argument("--train", metavar="DATA", help=source)
    group.add_argument("--validation", metavar="DATA", help="the same for validation")
    for word, (_, default) in _COLUMNS.items():
        group.add_argument(f"--{word}-column", default=default, metavar="NAME", help=f"default {default}")
    group.add_argument(
        "--max-length", type=int, metavar="TOKENS", help="cut longer rows (default 128, or the model's limit)"
    )
    group.add_argument(
        "--max-target-length", type=int, default=64, metavar="TOKENS", help="of a target that is generated (64)"
    )
    group.add_argument("--num-beams", type=int, default=1, metavar="N", help="of generation in validation (1)")


def _add_recipe(group: argparse._ArgumentGroup) -> None:
    methods = [method.value for method in Method]
    group.add_argument(
        "--preset",
        choices=["default", "paper"],
        default="default",
        help="what the options below and the schedule are unless given; paper: learning rate 3e-3, 500 steps of "
        "warm-up, batches of 100, 20 epochs, reduction factor 32, 4 summands, gelu_new, norms trained",
    )
    group.add_argument(
        "--method",
        choices=[*methods, _FULL],
        default=Method.COMPACTER.value,
        help="default compacter; full is full fine-tuning, for comparison",
    )
    group.add_argument("--name", default="default", help="the adapter's name")
    group.add_argument("--reduction-factor", type=int, metavar="F", help="bottleneck = hidden size / F (32)")
    group.add_argument("--phm-dim", type=int, metavar="N", help="number of Kronecker summands (4)")
    group.add_argument("--phm-rank", type=int, metavar="R", help="rank of the factors (1)")
    group.add_argument("--non-linearity", choices=[one.value for one in Activation], help="default gelu_new")
    group.add_argument("--freeze-norms", action="store_true", help="do not train the backbone's norms")
    group.add_argument("--train-pooler", action="store_true", help="train BERT's pooler as part of the head")
    group.add_argument("--pooling", type=Pooling, choices=list(Pooling), help="what the head reads, not the pooler")
    group.add_argument("--learning-rate", type=float, metavar="LR", help="default 3e-3; 2e-4 for full")
    group.add_argument("--head-learning-rate", type=float, metavar="LR", help="default: the same")
    group.add_argument("--pretrained-learning-rate", type=float, metavar="LR", help="of norms and pooler; the same")


def _add_schedule(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--epochs", type=int, help="default 5")
    group.add_argument("--batch-size", type=int, metavar="ROWS", help="default 32")
    group.add_argument("--warmup", type=float, metavar="SHARE", help="share of the steps (0.06)")
    group.add_argument("--warmup-steps", type=int, metavar="N", help="their number, instead of the share")
    group.add_argument("--decay", choices=["linear", "cosine", "constant"], help="default linear")
    group.add_argument("--weight-decay", type=float, metavar="W", help="default 0")
    group.add_argument("--patience", type=int, metavar="EPOCHS", help="stop after so many epochs without improvement")
    group.add_argument("--seed", type=int, help="default 0")


def _settings(args: argparse.Namespace) -> "TrainSettings":
    from compacter_core.pytorch.training import Columns, Task, TrainSettings, find_named_task

    named = None if args.dataset is None else find_named_task(args.dataset)
    train, validation = args.train, args.validation
    if named is not None:
        train, validation = train or named.source("train"), validation or named.source(named.validation)
    if train is None or validation is None:
        raise CompacterError(
            ErrorCode.E001, "no data", expected="--train and --validation, or --dataset", remedy="See --help."
        )
    return TrainSettings(
        backbone=args.backbone,
        revision=args.revision,
        train=train,
        validation=validation,
        columns=Columns(**{name: getattr(args, f"{word}_column") for word, (name, _) in _COLUMNS.items()}),
        task=Task(args.task) if args.task else (named.kinds[0] if named else Task.CLASSIFICATION),
        named=None if named is None else named.full_name,
        max_length=args.max_length,
        max_target_length=args.max_target_length,
        num_beams=args.num_beams,
        recipe=_recipe(args),
        schedule=_schedule(args),
        logging_dir=args.logging_dir,
        resume=args.resume,
        progress=not args.no_progress,
    )


def _recipe(args: argparse.Namespace) -> "Recipe":
    from compacter_core.pytorch.training import PRESETS, FullRecipe, Preset

    rates = _given(args, "learning_rate", "head_learning_rate", "pretrained_learning_rate")
    if args.method == _FULL:
        if set(rates) - {"learning_rate"}:
            raise CompacterError(
                ErrorCode.E001, "full fine-tuning has one learning rate", value=rates, expected="--learning-rate alone"
            )
        return FullRecipe(pooling=args.pooling, **rates)
    sizes = _given(args, "reduction_factor", "phm_dim", "phm_rank")
    if args.non_linearity is not None:
        sizes["non_linearity"] = Activation(args.non_linearity)
    recipe, _ = PRESETS[Preset(args.preset)]
    return replace(
        recipe,
        method=Method(args.method),
        name=args.name,
        train_norms=recipe.train_norms and not args.freeze_norms,
        train_pooler=args.train_pooler,
        pooling=args.pooling,
        **sizes,
        **rates,
    )


def _schedule(args: argparse.Namespace) -> "Schedule":
    from compacter_core.pytorch.training import PRESETS, Decay, Preset

    given = _given(args, "epochs", "batch_size", "warmup", "warmup_steps", "weight_decay", "patience", "seed")
    if args.decay is not None:
        given["decay"] = Decay[args.decay.upper()]
    if "warmup" in given:
        # The share was asked for, so the preset's number of steps does not hold.
        given.setdefault("warmup_steps", None)
    _, schedule = PRESETS[Preset(args.preset)]
    return replace(schedule, **given)


def _given(args: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Those of the options that the command line has."""
    return {name: value for name in names if (value := getattr(args, name)) is not None}
