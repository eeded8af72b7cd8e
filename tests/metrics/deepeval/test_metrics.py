"""DeepEval behind our interface: scores as they should be, and none where the judge gave none."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import pytest

if find_spec("deepeval") is None:
    pytest.skip("the optional extra deepeval is not installed: uv sync --extra deepeval", allow_module_level=True)

from testbench.errors import InputError, JudgeError
from testbench.metrics.deepeval.adapter import DeepEvalAdapter
from testbench.metrics.effort import TooMuchEffortError
from testbench.metrics.judge.judge import FakeJudge
from testbench.metrics.protocol import MetricResult, missing_fields
from testbench.metrics.registry import GenericMetricsRegistry
from testbench.schema.models import Reference
from tests.support.metric_samples import ANSWER, calls, metric, sample

CONTEXTS = ["It is sunny in Paris today.", "Paris is in France."]
SAMPLE = sample(
    made=calls(("get_weather", {"city": "Paris"})),
    reference=Reference(
        response=ANSWER, tool_calls=calls(("get_weather", {"city": "Paris"})), reference_contexts=tuple(CONTEXTS)
    ),
    custom_values={"retrieved_contexts": CONTEXTS},
)
PARAMETERS: dict[str, dict[str, Any]] = {
    "GEval": {"criteria": "The answer is polite."},
    "ConversationalGEval": {"criteria": "The agent is polite."},
    "ToolPermissionMetric": {"allowed_tools": ["get_weather"]},
    "NonAdviceMetric": {"advice_types": ["medical"]},
    "MisuseMetric": {"domain": "weather"},
    "RoleViolationMetric": {"role": "a weather assistant"},
    "PromptAlignmentMetric": {"prompt_instructions": ["Be short."]},
    "TopicAdherenceMetric": {"relevant_topics": ["weather"]},
    "ToolUseMetric": {"available_tools": [{"name": "get_weather"}]},
}


def verdicts(*words: str) -> dict[str, Any]:
    return {"verdicts": [{"verdict": word, "reason": "because"} for word in words]}


FAITHFUL: dict[str, Any] = {
    "Truths": {"truths": ["It is sunny."]},
    "Claims": {"claims": ["It is sunny.", "It is 18 degrees."]},
    "Statements": {"statements": ["It is sunny.", "It is 18 degrees."]},
    "Verdicts": verdicts("yes", "no"),
    "FaithfulnessScoreReason": {"reason": "half of it is there"},
    "AnswerRelevancyScoreReason": {"reason": "half of it is about it"},
    "HallucinationScoreReason": {"reason": "one context is contradicted"},
}


def judge_that_says(**changed: Any) -> FakeJudge:
    said = FAITHFUL | changed

    def answer(prompt: str, wanted: str) -> Mapping[str, Any] | JudgeError:
        found: Mapping[str, Any] | JudgeError = said.get(wanted, JudgeError(f"no {wanted}", kind="malformed"))
        return found

    return FakeJudge(answer)


async def judged(name: str, judge: FakeJudge | None = None, of: Any = SAMPLE, **parameters: Any) -> MetricResult:
    given = PARAMETERS.get(name, {}) | parameters
    return await DeepEvalAdapter().create(name, given, judge)(of)


def test_telemetry_is_off_and_nothing_is_written() -> None:
    assert os.environ["DEEPEVAL_TELEMETRY_OPT_OUT"] == "1"
    assert os.environ["DEEPEVAL_FILE_SYSTEM"] == "READ_ONLY"


def test_every_metric_is_described_and_can_be_made() -> None:
    adapter = DeepEvalAdapter()
    for name, spec in adapter.specs().items():
        assert 10 < len(spec.description) < 100
        assert not missing_fields(SAMPLE, spec.required), spec
        adapter.create(name, PARAMETERS.get(name, {}), judge_that_says())


@pytest.mark.parametrize(
    "name", ["deepeval.ToolCorrectnessMetric", "deepeval.ToolCorrectness", "deepeval.tool_correctness"]
)
def test_names(name: str) -> None:
    assert GenericMetricsRegistry().check(metric(name)).full_name == "deepeval.ToolCorrectnessMetric"


async def test_tool_metrics_need_no_judge() -> None:
    assert (await judged("ToolCorrectnessMetric")).score == 1.0
    assert (await judged("ToolPermissionMetric")).score == 1.0
    assert (await judged("ToolPermissionMetric", allowed_tools=["other"])).score == 0.0
    half = sample(made=calls("a"), reference=Reference(tool_calls=calls("a", "b")))
    assert (await judged("ToolCorrectnessMetric", of=half)).score == 0.5


async def test_thousands_of_tool_calls_are_an_error_or_come_to_an_end() -> None:
    many, some = calls(*(("t", {"n": n}) for n in range(1000))), calls(*(("t", {"n": n}) for n in range(20)))
    looping = sample(made=many, reference=Reference(tool_calls=some))
    for ordering in (False, True):
        assert (await judged("ToolCorrectnessMetric", of=looping, should_consider_ordering=ordering)).score == 1.0
    with pytest.raises(TooMuchEffortError, match="1,000 and 1,000 tool calls"):
        await judged("ToolCorrectnessMetric", of=sample(made=many, reference=Reference(tool_calls=many)))
    with pytest.raises(TooMuchEffortError):
        await judged("ToolPermissionMetric", of=sample(made=calls("t") * 200_000))


@pytest.mark.parametrize(
    ("expected", "made", "given", "score"),
    [
        (["a", "a"], ["a", "a"], {}, None),
        (["a", "a"], ["a", "a"], {"should_exact_match": True}, 1.0),
        (["a", "a"], ["a", "a"], {"should_consider_ordering": True}, 1.0),
        (["a", "b"], ["a", "b", "b", "c", "c"], {}, 1.0),
        (["a", "a"], ["a"], {}, 0.5),
    ],
)
async def test_equal_calls_that_deepeval_takes_for_one_give_no_score(
    expected: list[str], made: list[str], given: dict[str, Any], score: float | None
) -> None:
    of = sample(made=calls(*made), reference=Reference(tool_calls=calls(*expected)))
    result = await judged("ToolCorrectnessMetric", of=of, **given)
    assert result.score == score
    assert (result.error is None) == (score is not None)


@pytest.mark.parametrize("name", ["FaithfulnessMetric", "AnswerRelevancyMetric", "HallucinationMetric"])
async def test_the_judges_verdicts_decide(name: str) -> None:
    result = await judged(name, judge_that_says())
    assert (result.score, result.error) == (0.5, None)
    assert result.reason


async def test_g_eval_with_criteria() -> None:
    judge = judge_that_says(Steps={"steps": ["look"]}, ReasonScore={"reason": "polite", "score": 7})
    result = await judged("GEval", judge)
    assert result.score == pytest.approx(0.7)
    assert result.reason == "polite"


async def test_g_eval_off_its_scale_is_an_error() -> None:
    judge = judge_that_says(Steps={"steps": ["look"]}, ReasonScore={"reason": "wow", "score": 70})
    result = await judged("GEval", judge)
    assert result.score is None
    assert result.error is not None
    assert result.error.kind == "out_of_range"


@pytest.mark.parametrize(("name", "empty"), [("FaithfulnessMetric", "Claims"), ("AnswerRelevancyMetric", "Statements")])
async def test_nothing_to_judge_is_undefined_and_no_score(name: str, empty: str) -> None:
    judge = judge_that_says(**{empty: {empty.lower(): []}, "Verdicts": {"verdicts": []}})
    result = await judged(name, judge)
    assert result.score is None
    assert result.error is not None
    assert result.error.kind == "undefined"


@pytest.mark.parametrize("name", ["FaithfulnessMetric", "AnswerRelevancyMetric", "HallucinationMetric"])
async def test_too_few_verdicts_are_malformed(name: str) -> None:
    with pytest.raises(JudgeError, match="exactly one for each"):
        await judged(name, judge_that_says(Verdicts=verdicts("yes")))


@pytest.mark.parametrize("kind", ["timeout", "max_cost"])
async def test_a_judges_failure_is_never_swallowed(kind: str) -> None:
    with pytest.raises(JudgeError) as caught:
        await judged("FaithfulnessMetric", judge_that_says(Verdicts=JudgeError("no", kind=kind)))
    assert caught.value.kind == kind


async def test_evaluations_at_once_do_not_mix() -> None:
    good, bad = sample(made=calls("a"), reference=Reference(tool_calls=calls("a"))), SAMPLE
    wrong = sample(made=calls("b"), reference=Reference(tool_calls=calls("a")))
    call = DeepEvalAdapter().create("ToolCorrectnessMetric", {}, None)
    found = await asyncio.gather(*(call(one) for one in [good, wrong, bad] * 5))
    assert [result.score for result in found] == [1.0, 0.0, 1.0] * 5


@pytest.mark.parametrize(
    ("name", "parameters", "told"),
    [
        ("GEval", {"criteria": "x", "evaluation_params": ["mood"]}, "evaluation_params"),
        ("FaithfulnessMetric", {"truths_extraction_limit": "many"}, "truths_extraction_limit"),
        ("GEval", {"criteria": None}, "criteria"),
    ],
)
def test_values_that_do_not_fit_are_refused(name: str, parameters: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError) as caught:
        DeepEvalAdapter().create(name, parameters, FakeJudge())
    assert told in caught.value.message


def test_what_g_eval_looks_at_is_what_it_needs() -> None:
    spec = DeepEvalAdapter().spec_for(
        "GEval", {"criteria": "x", "evaluation_params": ["actual_output", "expected_output"]}
    )
    assert spec.required == ("response", "reference")
