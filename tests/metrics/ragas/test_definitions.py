"""RAGAS's scores worked out by hand: what each metric is defined to be, for a judge whose every verdict is known."""

from __future__ import annotations

from typing import Any

import pytest

from testbench.metrics.judge.judge import FakeJudge
from testbench.metrics.ragas.adapter import RagasFrameworkAdapter
from testbench.schema.models import Reference
from tests.support.metric_samples import calls, sample


def verdicts(*given: int) -> dict[str, Any]:
    return {
        "statements": [
            {"statement": f"{n}", "reason": "because", "verdict": verdict} for n, verdict in enumerate(given)
        ]
    }


def sorted_out(tp: int, fp: int, fn: int) -> dict[str, Any]:
    one = {"statement": "s", "reason": "r"}
    return {"TP": [one] * tp, "FP": [one] * fp, "FN": [one] * fn}


class InTurn(FakeJudge):
    """Gives the answers of each type in turn, the last one for good.

    A text that ends in `sun` means (1, 0), any other (0.6, 0.8).
    """

    def __init__(self, **said: Any) -> None:
        left = {name: list(answers) for name, answers in said.items()}
        super().__init__(lambda prompt, wanted: left[wanted].pop(0) if len(left[wanted]) > 1 else left[wanted][0])

    async def embed(self, texts: Any) -> list[list[float]]:
        return [[1.0, 0.0] if text.endswith("sun") else [0.6, 0.8] for text in texts]


TWO = {"statements": ["a", "b"]}
PRECISION = [{"reason": "r", "verdict": verdict} for verdict in (1, 0, 1)]
THREE = {"retrieved_contexts": ["one", "two", "three"]}
FACTS = {"ClaimDecompositionOutput": [{"claims": ["a", "b"]}], "NLIStatementOutput": [verdicts(1, 1), verdicts(1, 0)]}
NOISE = {
    "StatementGeneratorOutput": [TWO],
    # the first context says one thing of the reference, the second nothing; each says one thing of the answer;
    # and of the answer only the first statement is true
    "StatementFaithfulnessOutput": [
        verdicts(1, 0), verdicts(1, 0), verdicts(0, 0), verdicts(0, 1), verdicts(1, 0)
    ],
}  # fmt: skip
TOPICS = {
    "TopicExtractionOutput": [{"topics": ["a", "b", "c", "d"]}],
    "TopicRefusedOutput": [{"refused_to_answer": refused} for refused in (False, False, False, True)],
    "TopicClassificationOutput": [{"classifications": [True, False, False, True]}],
}
SCALE = {"score0_description": "bad", "score4_description": "good"}
BY_DEFINITION: list[tuple[str, dict[str, Any], dict[str, Any], float]] = [
    ("AnswerAccuracy", {"AnswerAccuracyOutput": [{"rating": 4}, {"rating": 2}]}, {}, 0.75),
    ("ContextRelevance", {"ContextRelevanceOutput": [{"rating": 1}, {"rating": 2}]}, {}, 0.75),
    ("ResponseGroundedness", {"ResponseGroundednessOutput": [{"rating": 0}, {"rating": 1}]}, {}, 0.25),
    (
        "AnswerCorrectness",
        {"StatementGeneratorOutput": [TWO], "ClassificationWithReason": [sorted_out(2, 0, 2)]},
        {"weights": [1.0, 0.0]},
        2 / 3,
    ),
    (
        "AnswerCorrectness",
        {"StatementGeneratorOutput": [TWO], "ClassificationWithReason": [sorted_out(1, 1, 1)]},
        {},
        0.75 * 0.5 + 0.25 * 0.6,
    ),
    ("AnswerRelevancy", {"AnswerRelevanceOutput": [{"question": "and the sun", "noncommittal": 0}]}, {}, 0.6),
    ("ContextEntityRecall", {"EntitiesList": [{"entities": ["a", "b"]}, {"entities": ["b", "c"]}]}, {}, 0.5),
    ("ContextEntityRecall", {"EntitiesList": [{"entities": ["a", "b"]}, {"entities": []}]}, {}, 0.0),
    ("ContextPrecision", {"ContextPrecisionOutput": PRECISION}, {}, (1 / 1 + 2 / 3) / 2),
    ("ContextPrecisionWithReference", {"ContextPrecisionOutput": PRECISION}, {}, (1 / 1 + 2 / 3) / 2),
    ("ContextPrecisionWithoutReference", {"ContextPrecisionOutput": PRECISION}, {}, (1 / 1 + 2 / 3) / 2),
    ("ContextUtilization", {"ContextPrecisionOutput": PRECISION[1:]}, {}, (1 / 2 + 2 / 3) / 2),
    (
        "ContextRecall",
        {
            "ContextRecallOutput": [
                {"classifications": [{"statement": "a", "reason": "r", "attributed": one} for one in (1, 0, 0, 0)]}
            ]
        },
        {},
        0.25,
    ),
    ("FactualCorrectness", FACTS, {}, 0.8),  # precision 1, recall 2/3
    ("FactualCorrectness", FACTS, {"mode": "recall"}, 0.67),  # RAGAS rounds to two digits
    ("FactualCorrectness", FACTS, {"mode": "precision"}, 1.0),
    (
        "Faithfulness",
        {"StatementGeneratorOutput": [{"statements": ["a"] * 4}], "NLIStatementOutput": [verdicts(1, 0, 0, 0)]},
        {},
        0.25,
    ),
    ("NoiseSensitivity", NOISE, {}, 1.0),
    ("NoiseSensitivity", NOISE, {"mode": "irrelevant"}, 0.5),
    ("SemanticSimilarity", {}, {}, 0.6),
    ("SemanticSimilarity", {}, {"threshold": 0.7}, 0.0),
    ("SemanticSimilarity", {}, {"threshold": 0.5}, 1.0),
    (
        "SummaryScore",
        {
            "ExtractedKeyphrases": [{"keyphrases": ["a"]}],
            "QuestionsGenerated": [{"questions": ["a", "b"]}],
            "AnswersGenerated": [{"answers": ["1", "0"]}],
        },
        {"coeff": 0.25},
        0.75 * 0.5 + 0.25 * (1 - 8 / 10),  # the answer has 8 letters, the context 10
    ),
    ("TopicAdherence", TOPICS, {"mode": "precision"}, 1 / 3),
    ("TopicAdherence", TOPICS, {"mode": "recall"}, 1 / 2),
    ("TopicAdherence", TOPICS, {}, 2 * (1 / 3 * 1 / 2) / (1 / 3 + 1 / 2)),
    ("DomainSpecificRubrics", {"RubricScoreOutput": [{"feedback": "f", "score": 4}]}, {}, 0.75),
    ("DomainSpecificRubrics", {"RubricScoreOutput": [{"feedback": "f", "score": 1}]}, {"rubrics": SCALE}, 0.25),
    ("RubricsScoreWithReference", {"RubricScoreOutput": [{"feedback": "f", "score": 2}]}, {}, 0.25),
    ("RubricsScoreWithoutReference", {"RubricScoreOutput": [{"feedback": "f", "score": 3}]}, {}, 0.5),
    ("InstanceSpecificRubrics", {"InstanceRubricScoreOutput": [{"feedback": "f", "score": 3}]}, {}, 0.75),
    (
        "SQLSemanticEquivalence",
        {"SQLEquivalenceOutput": [{"response_explanation": "a", "reference_explanation": "b", "equivalent": False}]},
        {},
        0.0,
    ),
    ("ExactMatch", {}, {}, 0.0),
    ("StringPresence", {}, {}, 1.0),
    ("NonLLMStringSimilarity", {}, {}, 1 - 5 / 8),
    ("RougeScore", {}, {}, 0.8),
    ("RougeScore", {}, {"mode": "precision"}, 2 / 3),
    ("QuotedSpansAlignment", {}, {"min_span_words": 1}, 0.5),
    ("ToolCallAccuracy", {}, {}, 0.0),
    ("ToolCallF1", {}, {}, 0.6667),  # RAGAS rounds to four digits
    ("IDBasedContextPrecision", {}, {}, 1 / 3),
    ("IDBasedContextRecall", {}, {}, 1 / 2),
]


@pytest.mark.parametrize(("name", "said", "parameters", "score"), BY_DEFINITION)
async def test_scores_are_those_of_the_definitions(
    name: str, said: dict[str, Any], parameters: dict[str, Any], score: float
) -> None:
    texts = {"RougeScore": "the cat sat", "QuotedSpansAlignment": 'It says "one" and "four".'}
    expected = {"RougeScore": "the cat", "NonLLMStringSimilarity": "sun"}
    asked = sample(
        texts.get(name, "rain sun"),
        reference=Reference(
            response=expected.get(name, "sun" if name == "StringPresence" else "the rain"),
            tool_calls=calls(("find", {"of": 1})),
            topics=("a",),
            reference_contexts=("ten of ten",),
        ),
        made=calls(("find", {"of": 1}), ("find", {"of": 2})),
        custom_values=THREE
        | {"retrieved_context_ids": ["1", "2", "3"], "reference_context_ids": [3, 4]}
        | {"rubrics": SCALE},
        input="the weather",
    )
    result = await RagasFrameworkAdapter().create(name, parameters, InTurn(**said))(asked)
    assert result.error is None
    assert result.score == pytest.approx(score, abs=1e-6)


async def test_what_is_turned_round_reaches_the_threshold_that_it_is() -> None:
    """1 - 0.8 is a little less than 0.2 in binary fractions."""
    wrong = [verdicts(*[1] * 5), verdicts(*[1] * 5), verdicts(1, 0, 0, 0, 0)]
    said = {"StatementGeneratorOutput": [{"statements": ["a"] * 5}], "StatementFaithfulnessOutput": wrong}
    asked = sample(reference=Reference(response="r"), custom_values={"retrieved_contexts": ["one"]})
    result = await RagasFrameworkAdapter().create("NoiseSensitivity", {}, InTurn(**said))(asked)
    assert (result.score, result.details["raw"]) == (0.2, 0.8)


def test_every_metric_with_a_scale_of_its_own_is_here() -> None:
    """Those that only say yes or no, or that a library works out, are in `test_ragas_metrics` alone."""
    elsewhere = {"AgentGoalAccuracy", "AgentGoalAccuracyWithReference", "AgentGoalAccuracyWithoutReference"}
    elsewhere |= {"AspectCritic", "SimpleCriteriaScore", "BleuScore", "CHRFScore"}
    elsewhere |= {"NonLLMContextPrecisionWithReference", "NonLLMContextRecall"}
    usable = {name for name, spec in RagasFrameworkAdapter().specs().items() if not spec.unavailable}
    assert {name for name, *_ in BY_DEFINITION} == usable - elsewhere
