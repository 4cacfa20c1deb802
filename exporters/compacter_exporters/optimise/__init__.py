"""Graphs for a named target: precision of the backbone's weights, fused operators, and which graph is the fastest."""
