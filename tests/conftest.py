"""Set-up of the whole test tree: how Hypothesis runs."""

from hypothesis import settings

# No test is timed: a slow machine is not a fault. Failing examples print what reproduces them.
settings.register_profile("project", deadline=None, print_blob=True)
settings.load_profile("project")
