"""The names of RAGAS's metrics, without importing RAGAS: so that a misspelt one is found out in setup, at no cost.

`testbench.metrics.ragas.specs` knows the metrics themselves; a test holds the two in step.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

NAMES: Final = frozenset(
    """
    AnswerAccuracy AnswerCorrectness AnswerRelevancy BleuScore CHRFScore ContextEntityRecall ContextRecall
    ContextPrecision ContextPrecisionWithReference ContextPrecisionWithoutReference ContextRelevance ContextUtilization
    ExactMatch FactualCorrectness Faithfulness MultiModalFaithfulness MultiModalRelevance NoiseSensitivity
    NonLLMStringSimilarity QuotedSpansAlignment ResponseGroundedness RougeScore SemanticSimilarity StringPresence
    SummaryScore AgentGoalAccuracy AgentGoalAccuracyWithReference AgentGoalAccuracyWithoutReference ToolCallAccuracy
    ToolCallF1 TopicAdherence DomainSpecificRubrics InstanceSpecificRubrics RubricsScoreWithoutReference
    RubricsScoreWithReference DataCompyScore SQLSemanticEquivalence AspectCritic SimpleCriteriaScore
    IDBasedContextPrecision IDBasedContextRecall NonLLMContextPrecisionWithReference NonLLMContextRecall
    """.split()  # noqa: SIM905  # one to a line would be a screen full
)
_LEGACY_NAMES: Final[Mapping[str, str]] = {
    "InstanceRubrics": "InstanceSpecificRubrics",
    "RubricsScore": "DomainSpecificRubrics",
    "LLMContextRecall": "ContextRecall",
    "LLMContextPrecisionWithReference": "ContextPrecisionWithReference",
    "LLMContextPrecisionWithoutReference": "ContextPrecisionWithoutReference",
    "LLMSQLEquivalence": "SQLSemanticEquivalence",
    "TopicAdherenceScore": "TopicAdherence",
    "SummarizationScore": "SummaryScore",
    "ChrfScore": "CHRFScore",
    "ResponseRelevancy": "AnswerRelevancy",
    "AnswerSimilarity": "SemanticSimilarity",
    "LLMContextPrecision": "ContextPrecision",
}
"""Names of RAGAS's older interface that mean a metric of today's."""
_OWN_NAMES: Final[Mapping[str, str]] = {
    "string_present": "StringPresence",
    "data_compare_score": "DataCompyScore",
}
"""What classes call themselves, where that is not their name in snake case."""


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


ALIASES: Final[Mapping[str, str]] = (
    dict(_OWN_NAMES)
    | dict(_LEGACY_NAMES)
    | {_snake_case(legacy): now for legacy, now in _LEGACY_NAMES.items()}
    | {_snake_case(name): name for name in sorted(NAMES)}
)
"""`answer_relevancy` for `AnswerRelevancy`, the names that the classes give themselves, and legacy names."""
