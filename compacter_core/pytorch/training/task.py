"""The kinds of task that can be trained."""

from enum import StrEnum


class Task(StrEnum):
    """A kind of task; the value is its word on the command line."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"
    TOKEN_CLASSIFICATION = "token-classification"  # noqa: S105 (no password)
    SEQ2SEQ = "seq2seq"
    CAUSAL_LM = "causal-lm"
