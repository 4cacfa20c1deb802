"""The generator of the test vectors: the same suite, byte for byte, whenever and wherever it runs."""

from compacter_core.conformance.generate.suite import build, generate

__all__ = ["build", "generate"]
