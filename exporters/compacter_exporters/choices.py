"""The finite choices of an export. They stand apart since naming them needs none of the packages that export does."""

from enum import StrEnum


class Task(StrEnum):
    """What the exported graph answers; the values are transformers' names of the tasks."""

    TEXT_CLASSIFICATION = "text-classification"
    FEATURE_EXTRACTION = "feature-extraction"


class Backend(StrEnum):
    """The exporter that does the work."""

    TRANSFORMERS = "transformers"
    OPTIMUM = "optimum"
