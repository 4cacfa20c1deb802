"""Serve the bridge on standard input and output: python -m examples.adapterhub (CNF-14)."""

from compacter_core.conformance.serve import protected_stdout, serve

if __name__ == "__main__":
    answers = protected_stdout()  # before the import, which may print too
    from examples.adapterhub.bridge import adapterhub

    serve(adapterhub(), stdout=answers)
