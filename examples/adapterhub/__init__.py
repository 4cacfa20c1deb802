"""AdapterHub's `adapters` library behind the conformance interface."""
