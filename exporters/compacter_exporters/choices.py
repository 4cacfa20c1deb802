"""The finite choices of an export. They stand apart since naming them needs none of the packages that export does."""

from enum import StrEnum

from compacter_core.graph_files import (
    DECODER_FILE,
    DECODER_WITH_PAST_FILE,
    ENCODER_FILE,
    MERGED_DECODER_FILE,
    MODEL_FILE,
)

__all__ = [
    "DECODER_FILE",
    "DECODER_WITH_PAST_FILE",
    "ENCODER_FILE",
    "MERGED_DECODER_FILE",
    "MODEL_FILE",
    "Backend",
    "Task",
]


class Task(StrEnum):
    """What the exported graph answers; the values are transformers' names of the tasks.

    The two that generate text export their decoder with a cache of keys and values.
    """

    TEXT_CLASSIFICATION = "text-classification"
    TOKEN_CLASSIFICATION = "token-classification"  # noqa: S105 no password
    QUESTION_ANSWERING = "question-answering"
    FILL_MASK = "fill-mask"
    FEATURE_EXTRACTION = "feature-extraction"
    IMAGE_CLASSIFICATION = "image-classification"
    TEXT_GENERATION = "text-generation"
    TEXT2TEXT_GENERATION = "text2text-generation"

    @property
    def generates(self) -> bool:
        """Whether the graphs are run step by step."""
        return self in (Task.TEXT_GENERATION, Task.TEXT2TEXT_GENERATION)

    @property
    def classifies(self) -> bool:
        """Whether the head has one output per label."""
        return self.value.endswith("-classification")


class Backend(StrEnum):
    """The exporter that does the work."""

    TRANSFORMERS = "transformers"
    OPTIMUM = "optimum"
