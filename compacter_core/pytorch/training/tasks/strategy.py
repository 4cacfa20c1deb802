"""What sets one kind of task apart from another: its rows, encoding, model class, batches and scores."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Self, TypeVar

from numpy.typing import NDArray
from torch import Tensor

from compacter_core.pytorch.training.encoding import EncodedDataset
from compacter_core.pytorch.training.examples import Columns
from compacter_core.pytorch.training.metrics import Metric, Scores
from compacter_core.pytorch.training.named_tasks import NamedTask
from compacter_core.rows import Row

RowT = TypeVar("RowT")


@dataclass(frozen=True, slots=True)
class Limits:
    """Most tokens of a row's input, and of its target where that is a text."""

    source: int
    target: int


class Strategy(ABC, Generic[RowT]):
    """One kind of task, with what its training rows say of it (such as the classes)."""

    auto_class: ClassVar[Any]
    """transformers' class that finds the model class of a checkpoint."""
    generates: ClassVar[bool] = False
    """Whether answers are generated texts."""
    adds_head: ClassVar[bool] = True
    """Whether the model gets a head that no checkpoint has; a language model's head is the backbone's."""

    @classmethod
    @abstractmethod
    def of(cls, train: Sequence[Row], columns: Columns, named: NamedTask | None) -> Self:
        """The strategy for a training set.

        Args:
            train: its rows.
            columns: where the parts of a row are.
            named: the published task that the rows are of; it is of this kind.

        Raises:
            CompacterError: E801 if the rows are unfit.
        """

    @abstractmethod
    def parse(self, rows: Sequence[Row], source: str) -> Sequence[RowT]:
        """Checked rows, of which there is at least one; `source` is where they are from, for messages.

        Raises:
            CompacterError: E801 for an unfit row, E802 for a label that the training rows lack.
        """

    @abstractmethod
    def encode(self, rows: Sequence[RowT], tokenizer: Any, limits: Limits, *, training: bool) -> EncodedDataset:
        """Rows as token ids, with `labels`."""

    @abstractmethod
    def collator(self, tokenizer: Any) -> Any:
        """Makes a batch of encoded rows."""

    @abstractmethod
    def reduce(self, outputs: Tensor | tuple[Tensor, ...], labels: Tensor) -> Tensor:
        """What scoring needs of a batch's outputs, of which the first are the logits; the less, the less memory."""

    @abstractmethod
    def score(self, reduced: NDArray[Any], labels: NDArray[Any], rows: Sequence[RowT], tokenizer: Any) -> Scores:
        """The scores of all rows, from what `reduce` left of them (or the generated tokens), padded with -100."""

    @property
    @abstractmethod
    def goal(self) -> Metric:
        """The score by which the best epoch is chosen."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of classes by number; none where the task has none."""
        return ()

    def model_options(self) -> Mapping[str, Any]:
        """For `auto_class.from_pretrained`."""
        return {}

    def tokenizer_options(self) -> Mapping[str, Any]:
        """For `AutoTokenizer.from_pretrained`."""
        return {}


def logits_of(outputs: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The logits among a model's outputs, which may have states after them."""
    return outputs[0] if isinstance(outputs, tuple) else outputs
