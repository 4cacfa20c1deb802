"""The tensors of a foreign checkpoint, each of which has to be used."""

from collections.abc import Iterable, Iterator, Mapping

from compacter_core.adapter import Array
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.layout import Shape

_SHOWN = 8


class SourceState:
    """Tensors by key, taken out one by one: what is never taken is unknown to the importer.

    Iterating gives the keys that are still there, in the checkpoint's order.

    Args:
        tensors: the checkpoint's; each is read when it is asked for, and not kept.
        place: the file they are from, for messages.
    """

    def __init__(self, tensors: Mapping[str, Array], place: str) -> None:
        self.place = place
        self._tensors = tensors
        self._added: dict[str, Array] = {}
        self._left = dict.fromkeys(tensors)

    def __contains__(self, key: object) -> bool:
        return key in self._left

    def __iter__(self) -> Iterator[str]:
        return iter(self._left)

    def take(self, key: str, shape: Shape | None = None) -> Array:
        """The tensor of that key, which can be taken once.

        Args:
            key: its name in the checkpoint.
            shape: what it must have; None for any.

        Raises:
            CompacterError: E301 if there is no such tensor, E302 if it is a rule, E304 if it has another shape.
        """
        array = self.peek(key)
        if shape is not None and array.shape != shape:
            raise CompacterError(
                ErrorCode.E304, f"shape of {key} in {self.place}", value=array.shape, expected=str(shape)
            )
        del self._left[key]
        return array

    def add(self, key: str, array: Array) -> None:
        """Puts in a tensor that the checkpoint itself lacks."""
        self._added[key] = array
        self._left[key] = None

    def peek(self, key: str) -> Array:
        """The tensor of that key, which stays there.

        Raises:
            CompacterError: E301 if there is no such tensor, E302 if it is a rule.
        """
        if key not in self._left:
            raise self.missing(key)
        return self._added[key] if key in self._added else self._tensors[key]

    def drop(self, keys: Iterable[str]) -> None:
        """Passes over tensors that are known to say nothing about the adapter.

        Raises:
            CompacterError: E301 if one is not there.
        """
        for key in keys:
            self.take(key)

    def missing(self, key: str, remedy: str | None = None) -> CompacterError:
        """The refusal for a tensor that is not there: E302 for a rule, otherwise E301."""
        is_rule = key.rpartition(".")[2].startswith("phm_rule")
        return CompacterError(
            ErrorCode.E302 if is_rule else ErrorCode.E301,
            f"{self.place} has no tensor {key}",
            remedy=remedy or "The checkpoint is incomplete: save it again.",
        )

    def finish(self) -> None:
        """Every tensor has been taken.

        Raises:
            CompacterError: E303 if one has not.
        """
        if self._left:
            names = list(self._left)
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            raise CompacterError(
                ErrorCode.E303,
                f"{self.place} has tensors that the adapter's configuration does not account for{more}",
                value=names[:_SHOWN],
                expected="none",
            )
