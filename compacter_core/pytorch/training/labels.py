"""Class names and their numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.pytorch.training.examples import Example

_MIN_CLASSES = 2


@dataclass(frozen=True, slots=True)
class Labels:
    """The classes in the order of their numbers."""

    names: tuple[str, ...]

    @classmethod
    def of(cls, examples: Sequence[Example]) -> Self:
        """The classes of a training set: numbers in numerical order if all are numbers, else names by code point.

        Raises:
            CompacterError: E801 if there are fewer than two.
        """
        names = {example.label for example in examples}
        if len(names) < _MIN_CLASSES:
            raise CompacterError(ErrorCode.E801, "all rows have one label", value=sorted(names), expected="two classes")
        numeric = all(name.isdecimal() and str(int(name)) == name for name in names)
        return cls(tuple(sorted(names, key=int) if numeric else sorted(names)))

    def index(self, example: Example) -> int:
        """The number of an example's class.

        Raises:
            CompacterError: E802 for a class that the training data does not have.
        """
        try:
            return self.names.index(example.label)
        except ValueError:
            raise CompacterError(
                ErrorCode.E802,
                f"{example.place}: no training row has this label",
                value=example.label,
                expected=f"one of {len(self.names)} labels: {', '.join(self.names)[:300]}",
                remedy="Correct the label, or add training rows with it.",
            ) from None
