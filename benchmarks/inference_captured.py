"""Runs of a session that replay a CUDA graph, one for each shape of its inputs.

A graph that was captured reads and writes memory where it did at that time. So inputs and outputs of a shape keep their
places on the device: arrays are copied there before each run, and outputs back after it.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import onnxruntime
from onnxruntime import OrtValue

from compacter_runtime.model_inputs import Array
from compacter_runtime.providers import device_of

_GRAPH: Final = "gpu_graph_id"
_NOT_CAPTURED: Final = -1


class Captured:
    """A session's runs.

    Args:
        session: opened with the CUDA provider's option `enable_cuda_graph`. On a CPU nothing is captured, and runs give
            the same from bound inputs and outputs.
    """

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        self._bound: dict[tuple[Any, ...], _Bound] = {}

    def __call__(self, feeds: Mapping[str, Any]) -> list[Array]:
        """The model's outputs.

        Args:
            feeds: arrays, which are copied, and values on the device, which have to be the same ones in every run.
        """
        shape = tuple((name, np.shape(value)) for name, value in feeds.items() if not isinstance(value, OrtValue))
        if shape not in self._bound:
            self._bound[shape] = _Bound(self._session, feeds, graph=1 + len(self._bound))
        return self._bound[shape].run(feeds)


class _Bound:
    """Inputs and outputs of one shape in their places."""

    def __init__(self, session: onnxruntime.InferenceSession, feeds: Mapping[str, Any], graph: int) -> None:
        self._session = session
        device = device_of(session)
        self._binding = session.io_binding()
        self._options = _options_of(graph)
        self._copied: dict[str, OrtValue] = {}
        for name, value in feeds.items():
            if not isinstance(value, OrtValue):
                self._copied[name] = OrtValue.ortvalue_from_shape_and_type(value.shape, value.dtype, device, 0)
            self._binding.bind_ortvalue_input(name, self._copied.get(name, value))
        names = [output.name for output in session.get_outputs()]
        # What shapes outputs have only a run tells.
        like = session.run(names, dict(feeds), _options_of(_NOT_CAPTURED))
        self._outputs = [OrtValue.ortvalue_from_shape_and_type(a.shape, a.dtype, device, 0) for a in like]
        for name, value in zip(names, self._outputs, strict=True):
            self._binding.bind_ortvalue_output(name, value)

    def run(self, feeds: Mapping[str, Any]) -> list[Array]:
        """Copy, run, copy back."""
        for name, value in self._copied.items():
            value.update_inplace(feeds[name])
        self._session.run_with_iobinding(self._binding, self._options)
        return [value.numpy().copy() for value in self._outputs]  # on CPUs it is the memory of the next run's output


def _options_of(graph: int) -> onnxruntime.RunOptions:
    """Options of a run that captures this graph, or replays it; -1 for a run that does neither."""
    options = onnxruntime.RunOptions()
    options.add_run_config_entry(_GRAPH, str(graph))
    return options
