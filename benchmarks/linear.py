"""Accuracy of linear classifiers on the rows of `benchmarks.quality`: what is there before anything is adapted.

    python -m benchmarks.linear
    python -m benchmarks.linear --data DIRECTORY

Two kinds of features, each with a multinomial logistic regression on them: the words of a text and their pairs,
weighted by rarity, which know nothing beyond the training rows; and the mean of the frozen backbone's last hidden
states. Where the first beats the second, a data set rewards memory for words and says little about adapting a
pretrained model. The strength of the penalty is chosen on the validation rows; then the test rows are answered once.
"""

import argparse
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoModel, AutoTokenizer

from compacter_core.errors import CompacterError
from compacter_core.pytorch.training import Columns, read_file
from examples.quickstart.docstrings import split_paths
from examples.quickstart.stages import MAX_LENGTH, Stages

PENALTIES: Final = (1e-5, 1e-4, 3e-4, 1e-3, 3e-3)

_WORD: Final = re.compile(r"[a-z]+")
_SEEN: Final = 2
"""A word that is in fewer training rows is no feature."""
_BATCH: Final = 64
_ITERATIONS: Final = 150
_NORM: Final = 5.0
"""Length of a text's hidden state, about that of what the encoder gives."""

Texts = Mapping[str, Sequence[str]]
Features = dict[str, Tensor]


def word_features(texts: Texts) -> Features:
    """By split [rows, words]: of the words and neighbouring pairs in a text, log(rows / rows with it), normalised."""
    terms = {split: [_terms(text) for text in of_split] for split, of_split in texts.items()}
    rows = Counter(term for of_text in terms["train"] for term in of_text)
    places = {term: place for place, term in enumerate(term for term, count in rows.items() if count >= _SEEN)}
    rarity = torch.tensor([len(terms["train"]) / rows[term] for term in places]).log()
    features = {}
    for split, of_split in terms.items():
        counts = torch.zeros(len(of_split), len(places))
        for row, of_text in enumerate(of_split):
            counts[row, [places[term] for term in of_text if term in places]] = 1.0
        features[split] = functional.normalize(counts * rarity)
    return features


def hidden_features(texts: Texts, backbone: Path) -> Features:
    """By split [rows, d]: mean of the last hidden states, normalised."""
    tokenizer, model = AutoTokenizer.from_pretrained(backbone), AutoModel.from_pretrained(backbone).eval()
    features = {}
    for split, of_split in texts.items():
        means = []
        for start in range(0, len(of_split), _BATCH):
            options = {"padding": True, "truncation": True, "max_length": MAX_LENGTH, "return_tensors": "pt"}
            batch = tokenizer(list(of_split[start : start + _BATCH]), **options)
            mask = batch["attention_mask"].unsqueeze(-1)
            with torch.inference_mode():
                hidden = model(**batch).last_hidden_state
            means.append((hidden * mask).sum(1) / mask.sum(1))
        features[split] = _NORM * functional.normalize(torch.cat(means).clone())
    return features


def fit(x: Tensor, labels: Tensor, classes: int, penalty: float) -> Tensor:
    """[columns + 1, classes]: weights, penalised by the sum of their squares, and biases of a logistic regression."""
    weights = torch.zeros(x.shape[1] + 1, classes, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=_ITERATIONS)

    def loss() -> float:
        optimiser.zero_grad()
        value = functional.cross_entropy(_logits(x, weights), labels) + penalty * weights[:-1].square().sum()
        value.backward()  # type: ignore[no-untyped-call]  # PyTorch's annotations lack it
        return float(value.detach())

    optimiser.step(loss)  # type: ignore[no-untyped-call]  # as above
    return weights.detach()


def accuracies(features: Features, labels: Features, classes: int) -> dict[str, float]:
    """On validation and test rows, with the penalty that is best on the validation rows."""
    fits = [fit(features["train"], labels["train"], classes, penalty) for penalty in PENALTIES]
    best = max(fits, key=lambda weights: _right(features, labels, weights, "validation"))
    return {split: _right(features, labels, best, split) for split in ("validation", "test")}


def _terms(text: str) -> set[str]:
    words = _WORD.findall(text.lower())
    return {*words, *(f"{one} {other}" for one, other in pairwise(words))}


def _logits(x: Tensor, weights: Tensor) -> Tensor:
    return x @ weights[:-1] + weights[-1]


def _right(features: Features, labels: Features, weights: Tensor, split: str) -> float:
    return float((_logits(features[split], weights).argmax(1) == labels[split]).float().mean())


def main() -> int:
    """Fits both, prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="directory with train.jsonl, validation.jsonl and test.jsonl")
    parser.add_argument("--directory", type=Path, default=Path("build/quality"), help="default build/quality")
    args = parser.parse_args()
    try:
        stages = Stages(args.directory)
        paths = stages.data() if args.data is None else split_paths(args.data)
        rows = {split: read_file(path, Columns()) for split, path in paths.items()}
        names = sorted({str(row.label) for row in rows["train"]})
        labels = {split: torch.tensor([names.index(str(row.label)) for row in of]) for split, of in rows.items()}
        texts = {split: [row.text for row in of_split] for split, of_split in rows.items()}
        kinds = {"words": word_features(texts), "hidden states": hidden_features(texts, stages.backbone())}
    except CompacterError as error:
        print(f"linear: {error}", file=sys.stderr)
        return 2
    print(f"{'features':<16}{'columns':>8}{'validation':>12}{'test':>8}")
    for kind, features in kinds.items():
        found = accuracies(features, labels, len(names))
        print(f"{kind:<16}{features['train'].shape[1]:>8}{found['validation']:>12.4f}{found['test']:>8.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
