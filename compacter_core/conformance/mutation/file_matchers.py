"""Wrong comparisons of an adapter with a backbone: sketches taken or compared in another way."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from compacter_core.adapter import Array
from compacter_core.conformance.implementation import Answer, Rejected, Request
from compacter_core.conformance.mutation.file_mutant import FileMutant, Right, unchecked
from compacter_core.conformance.tensor_files import read_tensors
from compacter_core.conformance.words import ConformanceClass, Op
from compacter_core.format.reader import load_adapter
from compacter_core.format.sketch import ROUNDING, SKETCH_SIZE, THRESHOLD, sketch_indices
from compacter_core.format.writer import adapter_bytes

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Matching:
    """A right comparison in parts; subclasses change one.

    Args:
        relative: how far a value may be off, relative to the sketch.
        absolute: the same absolutely.
        parts: sketches that are compared.
        sites: how many sites are compared; all if None.
    """

    relative: float = ROUNDING
    absolute: float = 2.0**-24
    parts: tuple[str, ...] = ("weight", "bias")
    sites: int | None = None

    def positions(self, array: Array) -> NDArray[np.int64]:
        """Flat positions of the sketch."""
        return sketch_indices(array.shape)

    def values(self, array: Array) -> Values:
        """The array as it is sampled, flat."""
        return array.astype(np.float32).astype(np.float64).reshape(-1)

    def same(self, sketch: Values, sampled: Values) -> bool:
        """Whether the values are the sketched ones."""
        return bool(np.all(np.abs(sampled - sketch) <= self.relative * np.abs(sketch) + self.absolute))

    def matches(self, sketch: Array, array: Array) -> bool:
        """Whether an array is the sketched one."""
        where = self.positions(array)
        return len(where) == sketch.size and self.same(sketch.astype(np.float64), self.values(array)[where])

    def behave(self, request: Request, right: Right) -> Answer:
        """Leave all but sketches to the right implementation."""
        if request.op is not Op.MATCH:
            return right(request)
        adapter = load_adapter(request.files["adapter"])
        bare = request.files["adapter"].with_suffix(".bare.safetensors")
        bare.write_bytes(adapter_bytes(replace(adapter, sketches={})))
        answer = right(replace(request, files={**request.files, "adapter": bare}))
        if isinstance(answer, Rejected) and answer.code in ("E401", "E402"):
            return answer
        weights = {
            name: tensor.array
            for name, tensor in read_tensors(request.files["weights"].read_bytes(), "weights").items()
        }
        return answer if self._fits(adapter.config.sites, adapter.sketches, weights) else Rejected("E403")

    def _fits(self, sites: Any, sketches: Mapping[str, Array], weights: Mapping[str, Array]) -> bool:
        names = [f"{site.id}.{part}" for site in list(sites)[: self.sites] for part in self.parts]
        found = [(sketches.get(f"sketch.{name}"), weights.get(name)) for name in names]
        return all(self.matches(sketch, array) for sketch, array in found if sketch is not None and array is not None)


class _FirstPositions(Matching):
    def positions(self, array: Array) -> NDArray[np.int64]:
        return np.arange(min(SKETCH_SIZE, array.size))


class _EvenPositions(Matching):
    def positions(self, array: Array) -> NDArray[np.int64]:
        count = min(SKETCH_SIZE, array.size)
        return np.arange(count) * array.size // count


class _SizeOnly(Matching):
    def positions(self, array: Array) -> NDArray[np.int64]:
        return sketch_indices((array.size,))


class _OutIn(Matching):
    def positions(self, array: Array) -> NDArray[np.int64]:
        return sketch_indices(array.shape[::-1])

    def values(self, array: Array) -> Values:
        return super().values(array.T)


class _Correlation(Matching):
    def same(self, sketch: Values, sampled: Values) -> bool:
        if np.array_equal(sketch, sampled):
            return True
        with np.errstate(invalid="ignore", divide="ignore"):
            return bool(np.corrcoef(sketch, sampled)[0, 1] >= THRESHOLD)


class _Unsorted(Matching):
    def same(self, sketch: Values, sampled: Values) -> bool:
        return super().same(np.sort(sketch), np.sort(sampled))


class _AnySize(Matching):
    def matches(self, sketch: Array, array: Array) -> bool:
        where = self.positions(array)
        count = min(len(where), sketch.size)
        return self.same(sketch.astype(np.float64)[:count], self.values(array)[where][:count])


_reader: Final = partial(FileMutant, classes=frozenset({ConformanceClass.READER}))


def _matcher(name: str, description: str, matching: Matching) -> FileMutant:
    return _reader(name, description, matching.behave)


MATCH_MUTANTS: Final[tuple[FileMutant, ...]] = (
    *(
        _reader(
            f"match-never-{code.lower()}",
            f"does not look for {code} when it compares backbones",
            unchecked(code, op=Op.MATCH),
        )
        for code in ("E401", "E402", "E403", "E404", "E405")
    ),
    _matcher("first-256-positions", "samples the first 256 elements", _FirstPositions()),
    _matcher("even-positions", "samples at even distances", _EvenPositions()),
    _matcher("positions-of-the-size", "makes positions of the size and not of the shape", _SizeOnly()),
    _matcher("weight-as-out-in", "takes weights as [out, in]", _OutIn()),
    _matcher("correlation-only", "accepts a weight that was trained further", _Correlation()),
    _matcher("positions-unsorted", "compares without regard to the order", _Unsorted()),
    _matcher("any-number-of-positions", "compares the positions that there are", _AnySize()),
    _matcher("twice-the-tolerance", "allows 2^-7", Matching(relative=2 * ROUNDING)),
    _matcher("half-the-tolerance", "allows 2^-9", Matching(relative=ROUNDING / 2)),
    _matcher("no-absolute-tolerance", "allows a zero nothing", Matching(absolute=0.0)),
    _matcher("absolute-tolerance", "allows 2^-8 absolutely", Matching(absolute=ROUNDING)),
    _matcher("weights-only", "does not compare biases", Matching(parts=("weight",))),
    _matcher("first-site-only", "compares the first site", Matching(sites=1)),
)
"""Wrong comparisons; each has to fail a case of `match`."""
