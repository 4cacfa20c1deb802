"""Quickstart: train, export, graft, verify and run one adapter on real text, and print one table."""
