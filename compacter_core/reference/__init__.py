"""The reference: the paper's equations in NumPy, with hand-derived gradients and rounding error bounds.

It is meant to be read beside the paper (Karimi Mahabadi, Henderson and Ruder, "Compacter: Efficient Low-Rank
Hypercomplex Adapter Layers", 2021) and to judge every other implementation of the project. It is not fast and need not
be.
"""
