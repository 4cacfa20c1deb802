"""The export backends of this environment: transformers 5 has one, optimum-onnx with transformers 4 the other."""

from importlib.util import find_spec

from compacter_exporters.choices import Backend

BACKENDS = [
    backend
    for backend, package in ((Backend.TRANSFORMERS, "transformers.exporters"), (Backend.OPTIMUM, "optimum"))
    if find_spec(package) is not None
]
ABSENT = [backend for backend in Backend if backend not in BACKENDS]
