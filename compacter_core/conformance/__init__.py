"""The conformance kit: test vectors, and a runner that judges any implementation by them (specs, conformance)."""
