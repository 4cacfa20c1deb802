"""Class names and their numbers."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Self

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.pytorch.training.examples import Example

_MIN_CLASSES = 2


@dataclass(frozen=True, slots=True)
class Labels:
    """The classes in the order of their numbers."""

    names: tuple[str, ...]

    @classmethod
    def of(cls, examples: Sequence[Example]) -> Self:
        """The classes of a training set; order and errors as of `of_names`."""
        return cls.of_names({example.label for example in examples})

    @classmethod
    def of_names(cls, names: Collection[str]) -> Self:
        """Different names as classes: numbers in numerical order if all are numbers, else names by code point.

        Raises:
            CompacterError: E801 if there are fewer than two.
        """
        if len(names) < _MIN_CLASSES:
            raise CompacterError(ErrorCode.E801, "all rows have one label", value=sorted(names), expected="two classes")
        numeric = all(name.isdecimal() and str(int(name)) == name for name in names)
        return cls(tuple(sorted(names, key=int) if numeric else sorted(names)))

    def index(self, example: Example) -> int:
        """The number of an example's class.

        Raises:
            CompacterError: E802 for a class that the training data does not have.
        """
        return self.number(example.label, example.place)

    def number(self, name: str, place: str) -> int:
        """The number of a class that was read at `place`.

        Raises:
            CompacterError: E802 for a class that the training data does not have.
        """
        try:
            return self.names.index(name)
        except ValueError:
            raise CompacterError(
                ErrorCode.E802,
                f"{place}: no training row has this label",
                value=name,
                expected=f"one of {len(self.names)} labels: {', '.join(self.names)[:300]}",
                remedy="Correct the label, or add training rows with it.",
            ) from None

    def model_options(self) -> dict[str, Any]:
        """What makes transformers build a head for the classes, and name them."""
        names = dict(enumerate(self.names))
        return {
            "num_labels": len(names),
            "id2label": names,
            "label2id": {name: index for index, name in names.items()},
        }
