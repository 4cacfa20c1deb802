"""The `compacter` command."""
