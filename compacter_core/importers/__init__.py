"""Adapters that other libraries saved, as adapters of this format.

Each library has a package or module here with a function `from_…(path, …) -> ImportedAdapter`. An importer reads a
checkpoint into a `SourceState`, takes every tensor out of it exactly once, and refuses what is left over: nothing is
imported half, and nothing that would compute something else. Importers are NumPy alone; what they have to know of a
backbone they ask of a `KnownBackbone`, which `compacter_core.pytorch.known_backbone.open_backbone` makes of a
transformers checkpoint.
"""
