"""The adapter file: safetensors container, configuration JSON, tensors, weight sketches, atomic writes."""
