"""One libFuzzer process: `python -m tests.fuzz.worker TARGET [libFuzzer options] CORPUS...`.

Only the parsers are instrumented, so that executions are fast and coverage counts their branches alone.
"""

import sys
from importlib import import_module


def main() -> None:
    """Fuzz until libFuzzer ends the process."""
    atheris = import_module("atheris")  # not a dependency of the project, and without type hints
    name, *options = sys.argv[1:]
    with atheris.instrument_imports(
        include=["compacter_core.format", "compacter_core.config", "compacter_core.layout"],
        exclude=["compacter_core.format.atomic", "compacter_core.format.sketch"],
    ):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415 (instrumented while it is imported)
    atheris.Setup([sys.argv[0], *options], TARGETS[name].run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
