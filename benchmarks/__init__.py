"""Benchmarks: each is a module to run, and says in its docstring what it measures."""
