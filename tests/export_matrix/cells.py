"""One cell of the matrix, and what was found in it."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import Any, Final, Self

SEPARATOR: Final = "/"


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """A point of the matrix: one value of each axis, those first that take longest to change."""

    backbone: str
    exporter: str
    precision: str
    linkage: str

    @property
    def key(self) -> str:
        """Its name in a file of results."""
        return SEPARATOR.join((self.backbone, self.exporter, self.precision, self.linkage))

    @classmethod
    def of(cls, key: str) -> Self:
        """The cell of a name."""
        return cls(*key.split(SEPARATOR))

    @classmethod
    def all(cls, *axes: Iterable[str]) -> list[Self]:
        """Every combination of some values of each axis."""
        return [cls(*values) for values in product(*axes)]

    def matches(self, only: Mapping[str, frozenset[str]]) -> bool:
        """Whether it has one of the wanted values on each axis that `only` names."""
        return all(getattr(self, axis) in values for axis, values in only.items())


AXES: Final = ("backbone", "exporter", "precision", "linkage")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was found in a cell.

    Args:
        refused: code of the error that refused it.
        failed: type of an exception that is no refusal.
        why: what either of them said.
        is_theirs: whether what failed are others' steps alone: their converter, or a runtime on what it wrote.
        within: whether every value that `verify` compares is within its bound; None where there is no adapter.
        ratio: the largest error of an adapter, norm or head over its bound.
        error: the largest error of one.
        difference: the largest difference of a logit from PyTorch's float32 model, over the largest logit.
        agreement: share of predictions, of rows or of tokens, that are PyTorch's.
        accuracy: share of right predictions, where there are labels and an adapter that was trained on their like.
        torch_accuracy: that of PyTorch's float32 model with the same adapter.
        same_tokens: whether greedy generation writes PyTorch's tokens; None without a cache.
        fused: number of fused operators of the model after ONNX Runtime's optimiser, without those in adapters.
        own: number of those of the backbone alone.
        lost: by type, those that the backbone has and the model lacks.
    """

    refused: str | None = None
    failed: str | None = None
    why: str | None = None
    is_theirs: bool = False
    within: bool | None = None
    ratio: float | None = None
    error: float | None = None
    difference: float | None = None
    agreement: float | None = None
    accuracy: float | None = None
    torch_accuracy: float | None = None
    same_tokens: bool | None = None
    fused: int = 0
    own: int = 0
    lost: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_done(self) -> bool:
        """Whether there is a model."""
        return self.refused is None and self.failed is None

    @property
    def is_wrong(self) -> bool:
        """Whether something of this project is neither a result within its bounds nor a refusal."""
        return (self.failed is not None and not self.is_theirs) or self.within is False

    def as_dict(self) -> dict[str, Any]:
        """JSON-compatible fields that say something."""
        return {name: value for name, value in asdict(self).items() if value is not None}
