"""The equations in exact arithmetic: plain loops over fractions, from which the expected values of the vectors come.

It shares no arithmetic with `compacter_core.reference`. Sums and products are exact. Only the smooth activations are
not rational; mpmath evaluates them to 320 bits, and what it returns is carried on exactly.
"""
