"""Tests of the specification's documents: their statements, tables and examples against each other and the code."""
