"""Graphs that take adapters at run time: swappable, one at a time, and bank, one per row."""
