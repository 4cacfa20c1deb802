"""Compacter and the bottleneck-adapter family: the reference, the file format and the back ends.

`import compacter_core` needs NumPy and safetensors alone.
"""
