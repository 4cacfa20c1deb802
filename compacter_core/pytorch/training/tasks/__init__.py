"""One strategy for each kind of task."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from compacter_core.pytorch.training.task import Task
from compacter_core.pytorch.training.tasks.causal_lm import CausalLM
from compacter_core.pytorch.training.tasks.classification import Classification
from compacter_core.pytorch.training.tasks.regression import Regression
from compacter_core.pytorch.training.tasks.seq2seq import Seq2Seq
from compacter_core.pytorch.training.tasks.strategy import Limits, Strategy
from compacter_core.pytorch.training.tasks.token_classification import TokenClassification

STRATEGIES: Final[Mapping[Task, type[Strategy[Any]]]] = MappingProxyType(
    {
        Task.CLASSIFICATION: Classification,
        Task.REGRESSION: Regression,
        Task.TOKEN_CLASSIFICATION: TokenClassification,
        Task.SEQ2SEQ: Seq2Seq,
        Task.CAUSAL_LM: CausalLM,
    }
)

__all__ = ["STRATEGIES", "Limits", "Strategy", "Task"]
