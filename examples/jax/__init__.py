"""An implementation of the specification in JAX that shares no code with this project's packages."""
