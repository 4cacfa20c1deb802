"""Operators that optimisers fuse, as the simpler ones they stand for."""
