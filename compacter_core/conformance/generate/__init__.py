"""The generator of the test vectors: the same suite, byte for byte, whenever and wherever it runs."""
