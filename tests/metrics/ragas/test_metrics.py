"""RAGAS behind our interface: every metric described, scores as they should be, and none where the judge gave none.

This module imports `ragas`, which takes seconds: what needs it is here and in `test_ragas_definitions`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from testbench.errors import InputError, JudgeError
from testbench.metrics.judge.judge import FakeJudge
from testbench.metrics.protocol import MetricResult, MetricSpec, missing_fields
from testbench.metrics.ragas import specs as ragas_specs
from testbench.metrics.ragas.adapter import RagasFrameworkAdapter, rubric_range
from testbench.metrics.ragas.judge_bridge import BridgedEmbeddings, BridgedLLM, KnownSchema, remember_schemas
from testbench.metrics.registry import GenericMetricsRegistry
from testbench.schema.models import Reference
from tests.support.metric_samples import ANSWER, calls, metric, sample

CONTEXTS = ["It is sunny in Paris today.", "Paris is in France."]
FULL = Reference(
    response=ANSWER,
    tool_calls=calls(("get_weather", {"city": "Paris"})),
    topics=("weather",),
    reference_contexts=tuple(CONTEXTS),
)
SAMPLE = sample(
    reference=FULL,
    made=calls(("get_weather", {"city": "Paris"})),
    custom_values={
        "retrieved_contexts": CONTEXTS,
        "retrieved_context_ids": ["a", 2],
        "reference_context_ids": ["2", "a"],
        "rubrics": {"score1_description": "bad", "score5_description": "good"},
    },
)
NO_JUDGE = (
    "BleuScore",
    "CHRFScore",
    "ExactMatch",
    "IDBasedContextPrecision",
    "IDBasedContextRecall",
    "NonLLMContextPrecisionWithReference",
    "NonLLMContextRecall",
    "NonLLMStringSimilarity",
    "QuotedSpansAlignment",
    "RougeScore",
    "StringPresence",
    "ToolCallAccuracy",
    "ToolCallF1",
)
LEGACY_METRICS = {
    "AspectCritic",
    "SimpleCriteriaScore",
    "IDBasedContextPrecision",
    "IDBasedContextRecall",
    "NonLLMContextPrecisionWithReference",
    "NonLLMContextRecall",
}
UNAVAILABLE = {"DataCompyScore", "MultiModalFaithfulness", "MultiModalRelevance"}

Said = Mapping[str, Any] | Callable[[str], Mapping[str, Any]]


@pytest.fixture(scope="module")
def adapter() -> RagasFrameworkAdapter:
    return RagasFrameworkAdapter()


def statement(text: str, verdict: int, reason: str = "because") -> dict[str, Any]:
    return {"statement": text, "reason": reason, "verdict": verdict}


GOOD: dict[str, Said] = {
    "StatementGeneratorOutput": {"statements": ["It is sunny.", "It is 18 degrees."]},
    "NLIStatementOutput": {"statements": [statement("It is sunny.", 1), statement("It is 18 degrees.", 1)]},
    "StatementFaithfulnessOutput": {"statements": [statement("It is sunny.", 1), statement("It is 18 degrees.", 1)]},
    "ClassificationWithReason": {"TP": [{"statement": "It is sunny.", "reason": "same"}] * 2, "FP": [], "FN": []},
    "AnswerRelevanceOutput": {"question": "What is the weather in Paris?", "noncommittal": 0},
    "AnswerAccuracyOutput": {"rating": 4},
    "ContextRelevanceOutput": {"rating": 2},
    "ResponseGroundednessOutput": {"rating": 2},
    "EntitiesList": {"entities": ["Paris"]},
    "ContextPrecisionOutput": {"reason": "useful", "verdict": 1},
    "ContextRecallOutput": {"classifications": [{"statement": "It is sunny.", "reason": "there", "attributed": 1}]},
    "ClaimDecompositionOutput": {"claims": ["It is sunny.", "It is 18 degrees."]},
    "RubricScoreOutput": {"feedback": "fine", "score": 5},
    "InstanceRubricScoreOutput": {"feedback": "fine", "score": 5},
    "ExtractedKeyphrases": {"keyphrases": ["sun"]},
    "QuestionsGenerated": {"questions": ["Is it sunny?", "Is it Paris?"]},
    "AnswersGenerated": {"answers": ["1", "1"]},
    "TopicExtractionOutput": {"topics": ["weather"]},
    "TopicRefusedOutput": {"refused_to_answer": False},
    "TopicClassificationOutput": {"classifications": [True]},
    "WorkflowOutput": {"user_goal": "weather", "end_state": "told"},
    "CompareOutcomeOutput": {"reason": "the same", "verdict": "1"},
    "AspectCriticOutput": {"reason": "it is", "verdict": 1},
    "SimpleCriteriaOutput": {"reason": "it is", "score": 5},
    "SQLEquivalenceOutput": {"response_explanation": "a", "reference_explanation": "a", "equivalent": True},
}


def judge_that_says(**changed: Said | JudgeError) -> FakeJudge:
    said = GOOD | changed

    def answer(prompt: str, wanted: str) -> Mapping[str, Any] | JudgeError:
        found = said[wanted]
        return found(prompt) if callable(found) else found

    return FakeJudge(answer)


async def judged(
    adapter: RagasFrameworkAdapter, name: str, judge: FakeJudge | None = None, sample: Any = SAMPLE, **parameters: Any
) -> MetricResult:
    return await adapter.create(name, PARAMETERS.get(name, {}) | parameters, judge)(sample)


def test_telemetry_is_off_before_ragas_is_imported() -> None:
    assert os.environ["RAGAS_DO_NOT_TRACK"] == "true"
    from ragas._analytics import do_not_track

    assert do_not_track()


def test_a_prompt_with_its_schema_remembered_is_word_for_word_that_of_ragas(adapter: RagasFrameworkAdapter) -> None:
    compared = 0
    for name, described in ragas_specs.metrics().items():
        if described.spec.unavailable or not described.spec.needs_llm:
            continue
        given = adapter._parse(name, PARAMETERS.get(name, {}))
        made = described.cls(**dict(given), llm=BridgedLLM(FakeJudge()), **_embeddings(described.spec.needs_embeddings))
        prompts = [prompt for prompt in vars(made).values() if getattr(prompt, "examples", None)]
        asked = [prompt.to_string(prompt.examples[0][0]) for prompt in prompts]
        remember_schemas(made)
        for _ in range(2):
            assert [prompt.to_string(prompt.examples[0][0]) for prompt in prompts] == asked
        compared += sum(isinstance(prompt.output_model, KnownSchema) for prompt in prompts)
    assert compared > 20


def _embeddings(needed: bool) -> dict[str, Any]:
    return {"embeddings": BridgedEmbeddings(FakeJudge())} if needed else {}


def test_every_class_is_described(adapter: RagasFrameworkAdapter) -> None:
    import ragas.metrics.collections as collections

    specs = adapter.specs()
    today = {name for name in collections.__all__ if name not in ("BaseMetric", "DistanceMeasure")}
    assert len(today) == 37
    assert set(specs) == today | LEGACY_METRICS
    assert {name for name, spec in specs.items() if spec.unavailable} == UNAVAILABLE
    assert {name for name, spec in specs.items() if not spec.needs_judge} - UNAVAILABLE == set(NO_JUDGE)
    assert {name for name, spec in specs.items() if spec.needs_embeddings} == {
        "AnswerCorrectness",
        "AnswerRelevancy",
        "SemanticSimilarity",
    }
    assert {name for name, spec in specs.items() if not spec.higher_is_better} == {"NoiseSensitivity"}
    for spec in specs.values():
        assert 10 < len(spec.description) < 160, spec
        assert not missing_fields(SAMPLE, spec.required), spec


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("faithfulness", "Faithfulness"),
        ("answer_relevancy", "AnswerRelevancy"),
        ("ResponseRelevancy", "AnswerRelevancy"),
        ("tool_call_f1", "ToolCallF1"),
        ("LLMContextRecall", "ContextRecall"),
        ("RubricsScore", "DomainSpecificRubrics"),
        ("TopicAdherenceScore", "TopicAdherence"),
        ("agent_goal_accuracy", "AgentGoalAccuracy"),
    ],
)
def test_former_names_are_known(alias: str, name: str) -> None:
    assert GenericMetricsRegistry().check(metric(alias)).name == name


@pytest.mark.parametrize("name", NO_JUDGE)
async def test_metrics_without_a_judge_work_without_one(adapter: RagasFrameworkAdapter, name: str) -> None:
    result = await judged(adapter, name)
    assert result.score == 1.0
    assert result.reason
    assert {"raw", "range"} <= result.details.keys()


NO_FAULTS: dict[str, list[Any]] = {"FP": [], "FN": []}
ALL_WITH_JUDGE = [
    ("AnswerAccuracy", 1.0),
    ("AnswerCorrectness", 1.0),
    ("AnswerRelevancy", 1.0),
    ("ContextEntityRecall", 1.0),
    ("ContextPrecision", 1.0),
    ("ContextPrecisionWithReference", 1.0),
    ("ContextPrecisionWithoutReference", 1.0),
    ("ContextRecall", 1.0),
    ("ContextRelevance", 1.0),
    ("ContextUtilization", 1.0),
    ("FactualCorrectness", 1.0),
    ("Faithfulness", 1.0),
    ("NoiseSensitivity", 1.0),
    ("ResponseGroundedness", 1.0),
    ("SemanticSimilarity", 1.0),
    ("SummaryScore", None),
    ("AgentGoalAccuracy", 1.0),
    ("AgentGoalAccuracyWithReference", 1.0),
    ("AgentGoalAccuracyWithoutReference", 1.0),
    ("TopicAdherence", 1.0),
    ("DomainSpecificRubrics", 1.0),
    ("InstanceSpecificRubrics", 1.0),
    ("RubricsScoreWithReference", 1.0),
    ("RubricsScoreWithoutReference", 1.0),
    ("SQLSemanticEquivalence", 1.0),
    ("AspectCritic", 1.0),
    ("SimpleCriteriaScore", 1.0),
]
PARAMETERS = {"AspectCritic": {"definition": "polite"}, "SimpleCriteriaScore": {"definition": "polite"}}


def test_the_table_has_every_metric_that_needs_a_judge(adapter: RagasFrameworkAdapter) -> None:
    needing = {name for name, spec in adapter.specs().items() if spec.needs_judge} - UNAVAILABLE
    assert {name for name, _ in ALL_WITH_JUDGE} == needing


@pytest.mark.parametrize(("name", "score"), ALL_WITH_JUDGE)
async def test_a_judge_that_praises_gives_the_best_score(
    adapter: RagasFrameworkAdapter, name: str, score: float | None
) -> None:
    result = await judged(adapter, name, judge_that_says())
    assert result.error is None
    assert result.score is not None
    assert result.score == score if score is not None else 0 < result.score < 1


@pytest.mark.parametrize(
    ("name", "said", "score"),
    [
        ("Faithfulness", {"NLIStatementOutput": {"statements": [statement("a", 1), statement("b", 0)]}}, 0.5),
        ("AnswerAccuracy", {"AnswerAccuracyOutput": {"rating": 2}}, 0.5),
        ("DomainSpecificRubrics", {"RubricScoreOutput": {"feedback": "meh", "score": 3}}, 0.5),
        ("DomainSpecificRubrics", {"RubricScoreOutput": {"feedback": "bad", "score": 1}}, 0.0),
        ("AgentGoalAccuracy", {"CompareOutcomeOutput": {"reason": "no", "verdict": "0"}}, 0.0),
        ("AnswerRelevancy", {"AnswerRelevanceOutput": {"question": "?", "noncommittal": 1}}, 0.0),
        ("AspectCritic", {"AspectCriticOutput": {"reason": "no", "verdict": 0}}, 0.0),
        ("SimpleCriteriaScore", {"SimpleCriteriaOutput": {"reason": "meh", "score": 2}}, 0.4),
    ],
)
async def test_the_judges_verdicts_decide(
    adapter: RagasFrameworkAdapter, name: str, said: dict[str, Said], score: float
) -> None:
    result = await judged(adapter, name, judge_that_says(**said))
    assert (result.score, result.error) == (score, None)


async def test_lower_is_better_is_turned_round(adapter: RagasFrameworkAdapter) -> None:
    wrong: Said = lambda prompt: {  # noqa: E731  # the verdict depends on what the statements are held against
        "statements": [statement("a", int(ANSWER not in prompt)), statement("b", 1)]
    }
    result = await judged(adapter, "NoiseSensitivity", judge_that_says(StatementFaithfulnessOutput=wrong))
    assert result.details["raw"] == 0.5
    assert result.details["higher_is_better"] is False
    assert result.score == 0.5
    best = await judged(adapter, "NoiseSensitivity", judge_that_says())
    assert (best.details["raw"], best.score) == (0.0, 1.0)


async def test_verdicts_of_another_list_are_malformed(adapter: RagasFrameworkAdapter) -> None:
    """One statement of the reference, two of the answer: a verdict for the one is none for the two."""
    statements = iter([{"statements": ["a"]}, {"statements": ["b", "c"]}])
    one = {"statements": [statement("a", 1)]}
    judge = judge_that_says(
        StatementGeneratorOutput=lambda prompt: next(statements), StatementFaithfulnessOutput=lambda prompt: one
    )
    with pytest.raises(JudgeError, match="1 verdicts for 2 items"):
        await judged(adapter, "NoiseSensitivity", judge)


async def test_the_judges_reasons_are_kept(adapter: RagasFrameworkAdapter) -> None:
    verdicts = {"statements": [statement("It is sunny.", 1, "it says so"), statement("It is cold.", 0, "it does not")]}
    result = await judged(adapter, "Faithfulness", judge_that_says(NLIStatementOutput=verdicts))
    assert result.reason == "[1] It is sunny.: it says so\n[0] It is cold.: it does not"
    rubrics = await judged(adapter, "DomainSpecificRubrics", judge_that_says())
    assert rubrics.reason == "fine"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Faithfulness", {"StatementGeneratorOutput": {"statements": []}}),
        ("FactualCorrectness", {"ClaimDecompositionOutput": {"claims": []}}),
        ("AnswerCorrectness", {"StatementGeneratorOutput": {"statements": []}}),
        ("ContextRecall", {"ContextRecallOutput": {"classifications": []}}),
        ("TopicAdherence", {"TopicExtractionOutput": {"topics": []}}),
        ("ContextEntityRecall", {"EntitiesList": {"entities": []}}),
    ],
)
async def test_nothing_to_judge_is_undefined_and_no_score(
    adapter: RagasFrameworkAdapter, name: str, said: dict[str, Said]
) -> None:
    result = await judged(adapter, name, judge_that_says(**said))
    assert result.score is None
    assert result.error is not None
    assert result.error.kind == "undefined"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("AnswerAccuracy", {"AnswerAccuracyOutput": {"rating": 3}}),
        ("ContextRelevance", {"ContextRelevanceOutput": {"rating": 9}}),
        ("ResponseGroundedness", {"ResponseGroundednessOutput": {"rating": -1}}),
        ("Faithfulness", {"NLIStatementOutput": {"statements": [statement("a", 7), statement("b", 1)]}}),
        ("Faithfulness", {"NLIStatementOutput": {"statements": [statement("a", 1)]}}),
        ("AspectCritic", {"AspectCriticOutput": {"reason": "very", "verdict": 2}}),
        ("ContextPrecision", {"ContextPrecisionOutput": {"reason": "x", "verdict": 2}}),
        ("SummaryScore", {"AnswersGenerated": {"answers": ["yes", "no"]}}),
        ("SummaryScore", {"AnswersGenerated": {"answers": ["1"]}}),
        ("AnswerCorrectness", {"ClassificationWithReason": {"TP": [{"statement": "a", "reason": "b"}], **NO_FAULTS}}),
        ("AnswerCorrectness", {"ClassificationWithReason": {"TP": [], **NO_FAULTS}}),
        ("FactualCorrectness", {"NLIStatementOutput": {"statements": [statement("a", 1)] * 3}}),
        ("TopicAdherence", {"TopicClassificationOutput": {"classifications": [True, False]}}),
        ("AnswerRelevancy", {"AnswerRelevanceOutput": {"question": " ", "noncommittal": 0}}),
    ],
)
async def test_a_verdict_off_its_scale_or_a_list_of_the_wrong_length_is_malformed(
    adapter: RagasFrameworkAdapter, name: str, said: dict[str, Said]
) -> None:
    with pytest.raises(JudgeError) as caught:
        await judged(adapter, name, judge_that_says(**said))
    assert caught.value.kind == "malformed"


async def test_a_rubric_score_off_the_scale_is_an_error(adapter: RagasFrameworkAdapter) -> None:
    judge = judge_that_says(RubricScoreOutput={"feedback": "great", "score": 9})
    result = await judged(adapter, "DomainSpecificRubrics", judge)
    assert result.score is None
    assert result.error is not None
    assert (result.error.kind, result.error.raw) == ("out_of_range", "9.0")


@pytest.mark.parametrize("name", ["AnswerAccuracy", "ContextRelevance", "ResponseGroundedness", "Faithfulness"])
async def test_a_judges_failure_is_never_swallowed(adapter: RagasFrameworkAdapter, name: str) -> None:
    slow = JudgeError("slow", kind="timeout")
    ratings: Iterator[Mapping[str, Any] | JudgeError] = iter([{"rating": 4 if name == "AnswerAccuracy" else 2}, slow])
    judge = FakeJudge(lambda prompt, wanted: next(ratings))
    if name == "Faithfulness":
        judge = judge_that_says(NLIStatementOutput=slow)
    with pytest.raises(JudgeError) as caught:
        await judged(adapter, name, judge)
    assert caught.value.kind == "timeout"
    assert len(judge.asked) == 2


async def test_similarity_of_meaning_fetches_its_embeddings_at_once(adapter: RagasFrameworkAdapter) -> None:
    judge = FakeJudge()
    result = await judged(
        adapter, "SemanticSimilarity", judge, sample=sample("rain", reference=Reference(response="sun"))
    )
    assert sorted(judge.embedded) == ["rain", "sun"]
    assert result.score is not None
    assert 0 < result.score < 1


async def test_a_negative_cosine_counts_as_nothing(adapter: RagasFrameworkAdapter) -> None:
    class Opposed(FakeJudge):
        async def embed(self, texts: Any) -> list[list[float]]:
            return [[1.0, 0.0] if text == "sun" else [-1.0, 0.0] for text in texts]

    opposed = sample("rain", reference=Reference(response="sun"))
    result = await judged(adapter, "SemanticSimilarity", Opposed(), sample=opposed)
    assert (result.score, result.details["raw"]) == (0.0, -1.0)


@pytest.mark.parametrize(
    ("name", "made", "parameters", "score"),
    [
        ("ToolCallF1", ("get_weather", {"city": "Rome"}), {}, 0.0),
        ("ToolCallAccuracy", ("get_weather", {"city": "Rome"}), {}, 0.0),
    ],
)
async def test_wrong_tool_calls(
    adapter: RagasFrameworkAdapter, name: str, made: Any, parameters: dict[str, Any], score: float
) -> None:
    called = sample(made=calls(made), reference=FULL)
    assert (await judged(adapter, name, sample=called, **parameters)).score == score


async def test_tool_metrics_compare_the_step_with_the_steps_own_reference(adapter: RagasFrameworkAdapter) -> None:
    from dataclasses import replace

    earlier = sample(made=calls(("get_time", {}))).turns
    later = replace(SAMPLE, conversation=earlier + SAMPLE.turns)
    assert (await judged(adapter, "ToolCallAccuracy", sample=later)).score == 1.0


async def test_no_call_expected_and_none_made(adapter: RagasFrameworkAdapter) -> None:
    quiet = sample(reference=Reference(tool_calls=()))
    assert (await judged(adapter, "ToolCallAccuracy", sample=quiet)).score == 1.0
    result = await judged(adapter, "ToolCallF1", sample=quiet)
    assert result.score is None
    assert result.error is not None
    assert "builtin.tool_calls" in result.error.message


@pytest.mark.parametrize(
    ("name", "parameters", "told"),
    [
        ("NonLLMStringSimilarity", {"distance_measure": "soundex"}, "distance_measure"),
        ("FactualCorrectness", {"mode": "best"}, "mode"),
        ("AnswerRelevancy", {"strictness": "very"}, "strictness"),
        ("AnswerCorrectness", {"weights": [0.0, 0.0]}, "weight"),
    ],
)
def test_values_that_do_not_fit_are_refused(
    adapter: RagasFrameworkAdapter, name: str, parameters: dict[str, Any], told: str
) -> None:
    with pytest.raises(InputError) as caught:
        adapter.create(name, parameters, FakeJudge())
    assert told in caught.value.message.lower()


def test_parameters_change_what_is_needed(adapter: RagasFrameworkAdapter) -> None:
    def spec(name: str, **parameters: Any) -> MetricSpec:
        return adapter.spec_for(name, parameters)

    assert "reference" in spec("DomainSpecificRubrics", with_reference=True).required
    assert "reference" not in spec("DomainSpecificRubrics").required
    assert spec("AnswerCorrectness").needs_embeddings
    assert not spec("AnswerCorrectness", weights=[1.0, 0.0]).needs_embeddings
    assert spec("DomainSpecificRubrics", rubrics={"score0": "a", "score3": "b"}).value_range == (0.0, 3.0)


async def test_weights_without_likeness_need_no_embeddings(adapter: RagasFrameworkAdapter) -> None:
    judge = judge_that_says()
    assert (await judged(adapter, "AnswerCorrectness", judge, weights=[1.0, 0.0])).score == 1.0
    assert judge.embedded == []


def test_the_scale_of_rubrics() -> None:
    assert rubric_range(None) == (1.0, 5.0)
    assert rubric_range({"score1_description": "a", "score3_description": "b"}) == (1.0, 3.0)
    assert rubric_range({"good": "a", "bad": "b"}) == (1.0, 5.0)


async def test_ids_are_compared_as_text(adapter: RagasFrameworkAdapter) -> None:
    ids = sample(custom_values={"retrieved_context_ids": [1, 2, 3, 4], "reference_context_ids": ["1", "9"]})
    assert (await judged(adapter, "IDBasedContextPrecision", sample=ids)).score == 0.25
    assert (await judged(adapter, "IDBasedContextRecall", sample=ids)).score == 0.5


async def test_a_score_beyond_the_criterias_scale_is_an_error(adapter: RagasFrameworkAdapter) -> None:
    judge = judge_that_says(SimpleCriteriaOutput={"reason": "wow", "score": 7})
    result = await judged(adapter, "SimpleCriteriaScore", judge)
    assert result.error is not None
    assert result.error.kind == "out_of_range"
    assert (await judged(adapter, "SimpleCriteriaScore", judge, maximum=10)).score == 0.7
