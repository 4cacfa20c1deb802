"""Adapters that a graph takes at run time: what the graph says about itself, and the tensors an adapter gives it.

Everything here is NumPy; the exporter writes such graphs and the runtime feeds them.
"""
