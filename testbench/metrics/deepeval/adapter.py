"""DeepEval's metrics as a framework: samples in its words, our judge as its model, and scores that can be trusted.

Loaded by `testbench.metrics.registry` when a metric of DeepEval is first asked for.
"""

from __future__ import annotations

import asyncio
import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from deepeval.errors import MissingTestCaseParamsError
from deepeval.test_case import ConversationalTestCase, LLMTestCase, MultiTurnParams, SingleTurnParams
from deepeval.test_case import ToolCall as DeepEvalToolCall
from deepeval.test_case import Turn as DeepEvalTurn
from pydantic import BaseModel

from testbench.errors import InputError
from testbench.metrics.adapter import FrameworkAdapter, parse_parameters
from testbench.metrics.deepeval import specs
from testbench.metrics.deepeval.judge_bridge import BridgedModel, recording
from testbench.metrics.effort import PAIRWISE_BOUND, check_product
from testbench.metrics.judge.judge import Judge
from testbench.metrics.protocol import MetricCallable, MetricResult, MetricSpec, Sample, SampleField, field_value
from testbench.schema.models import Failure, ToolCall, Turn

REASON_LENGTH: Final = 4000
ROUNDING: Final = 1e-9
_FIELDS_OF_PARAMS: Final[Mapping[Any, SampleField]] = {
    SingleTurnParams.INPUT: "user_input",
    SingleTurnParams.ACTUAL_OUTPUT: "response",
    SingleTurnParams.EXPECTED_OUTPUT: "reference",
    SingleTurnParams.CONTEXT: "reference_contexts",
    SingleTurnParams.RETRIEVAL_CONTEXT: "retrieved_contexts",
    SingleTurnParams.TOOLS_CALLED: "turns",
    SingleTurnParams.EXPECTED_TOOLS: "reference_tool_calls",
}
_ITEMS_WITH_VERDICTS: Final[Mapping[str, SampleField]] = {
    "ContextualPrecisionMetric": "retrieved_contexts",
    "HallucinationMetric": "reference_contexts",
}
_NEEDS_VERDICTS: Final = frozenset(
    {"AnswerRelevancyMetric", "FaithfulnessMetric", "ContextualRecallMetric", "ContextualPrecisionMetric"}
    | {"ContextualRelevancyMetric", "HallucinationMetric", "PromptAlignmentMetric", "ArgumentCorrectnessMetric"}
)
"""Metrics that give 1 where the judge found nothing to judge."""


class DeepEvalAdapter(FrameworkAdapter):
    """The metrics of `deepeval.metrics` in `testbench.metrics.deepeval.specs`."""

    framework = specs.FRAMEWORK

    def specs(self) -> Mapping[str, MetricSpec]:
        return specs.specs()

    def aliases(self) -> Mapping[str, str]:
        return specs.aliases()

    def spec_for(self, name: str, parameters: Mapping[str, Any]) -> MetricSpec:
        spec, given = specs.metrics()[name].spec, self._parse(name, parameters)
        if name == "GEval" and (shown := getattr(given, "evaluation_params", None)):
            spec = replace(spec, required=tuple(_FIELDS_OF_PARAMS[one] for one in shown if one in _FIELDS_OF_PARAMS))
        if name == "ToolCorrectnessMetric" and getattr(given, "available_tools", None):
            spec = replace(spec, needs_llm=True)
        return spec

    def create(self, name: str, parameters: Mapping[str, Any], judge: Judge | None) -> MetricCallable:
        spec = self.spec_for(name, parameters)
        if spec.needs_llm and judge is None:
            raise InputError(f"{spec.full_name} needs a judge", hint="Give one to the registry.")
        given = {key: value for key, value in self._parse(name, parameters) if value is not None}
        if name == "GEval":
            given.setdefault("evaluation_params", [SingleTurnParams.INPUT, SingleTurnParams.ACTUAL_OUTPUT])
        if name == "ConversationalGEval":
            given.setdefault("evaluation_params", [MultiTurnParams.CONTENT, MultiTurnParams.ROLE])
        if name in ("GEval", "ConversationalGEval") and not {"criteria", "evaluation_steps"} & given.keys():
            raise InputError(f"{spec.full_name} needs the parameter 'criteria'", hint="Or give it evaluation_steps.")
        made = _DeepEvalCallable(spec, specs.metrics()[name].cls, given, BridgedModel(judge))
        try:
            made.new_metric()
        except (ValueError, TypeError) as error:
            raise InputError(f"{spec.full_name} cannot be made: {error}", hint="Check its parameters.") from error
        return made

    def _parse(self, name: str, parameters: Mapping[str, Any]) -> BaseModel:
        return parse_parameters(f"{specs.FRAMEWORK}.{name}", specs.metrics()[name].parameters, parameters)


@dataclass(frozen=True)
class _DeepEvalCallable:
    """Makes a new metric for each sample: DeepEval's keep the sample's state."""

    spec: MetricSpec
    cls: type[Any]
    given: Mapping[str, Any]
    model: BridgedModel

    def new_metric(self) -> Any:
        """Return a metric that has seen no sample."""
        with_model = {} if self.spec.name == "ToolPermissionMetric" else {"model": self.model}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what was otherwise in earlier versions is nothing to a user of ours
            return self.cls(**self.given, **with_model)

    async def __call__(self, sample: Sample, **overrides: Any) -> MetricResult:
        sample = replace(sample, **overrides)
        if self.spec.name in specs.WITHOUT_JUDGE:
            made, expected = _calls_made(sample), sample.reference.tool_calls or ()
            check_product(len(made), max(1, len(expected)), PAIRWISE_BOUND, "tool calls")
            if self.spec.name == "ToolCorrectnessMetric" and self._counts_as_one(made, expected):
                message = "the same call was made more than once, which DeepEval counts as one; see builtin.tool_calls"
                return MetricResult(error=Failure(kind="undefined", message=message))
        metric = self.new_metric()
        case = _make_conversation(sample) if self.spec.multi_turn else _make_case(sample)
        counted = _ITEMS_WITH_VERDICTS.get(self.spec.name)
        with recording(len(field_value(sample, counted)) if counted else None) as record:
            try:
                measuring = metric.a_measure(case, _show_indicator=False)
                if self.spec.needs_llm:
                    await measuring
                else:
                    await asyncio.to_thread(asyncio.run, measuring)
            except MissingTestCaseParamsError as error:
                return MetricResult(skipped=str(error))
            finally:
                if record.errors:
                    raise record.errors[0]
        if self.spec.name in _NEEDS_VERDICTS and not _count_verdicts(record.answers):
            message = "the metric is undefined for this sample: the judge found nothing to judge"
            return MetricResult(error=Failure(kind="undefined", message=message, raw=str(metric.score)))
        return _make_result(metric)

    def _counts_as_one(self, made: Sequence[ToolCall], expected: Sequence[ToolCall]) -> bool:
        """Return whether calls that are equal matter, and DeepEval would take them for one."""
        if self.given.get("should_exact_match") or self.given.get("should_consider_ordering"):
            return False
        wanted = Counter(call.name for call in expected)
        equal = Counter(_to_tool_calls([call for call in made if wanted[call.name] > 1]))
        return any(times > 1 for times in equal.values())


def _make_result(metric: Any) -> MetricResult:
    if metric.score is None or not math.isfinite(metric.score):
        return MetricResult(error=Failure(kind="undefined", message="DeepEval gave no score", raw=str(metric.score)))
    raw = float(metric.score)
    if not -ROUNDING <= raw <= 1 + ROUNDING:
        message = f"the value {raw:g} is outside of 0 to 1"
        return MetricResult(error=Failure(kind="out_of_range", message=message, raw=str(raw)))
    details = {"raw": raw, "range": [0.0, 1.0], "higher_is_better": True}
    reason = (metric.reason or f"DeepEval gave {raw:.4g}")[:REASON_LENGTH]
    return MetricResult(score=min(1.0, max(0.0, raw)), reason=reason, details=details)


def _count_verdicts(answers: Sequence[BaseModel]) -> int:
    return sum(len(verdicts) for one in answers if (verdicts := getattr(one, "verdicts", None)))


def _make_case(sample: Sample) -> LLMTestCase:
    """Return a sample as DeepEval's test case of one turn."""
    expected = sample.reference.tool_calls
    return LLMTestCase(
        input=sample.user_input,
        actual_output=sample.response,
        expected_output=sample.reference.response,
        retrieval_context=field_value(sample, "retrieved_contexts"),
        context=field_value(sample, "reference_contexts"),
        tools_called=_to_tool_calls(_calls_made(sample)),
        expected_tools=None if expected is None else _to_tool_calls(expected),
    )


def _make_conversation(sample: Sample) -> ConversationalTestCase:
    """Return a sample's conversation; what a tool said is the context of the agent's next turn."""
    turns: list[DeepEvalTurn] = []
    said: list[str] = []
    for turn in sample.conversation:
        if turn.type == "tool":
            said.append(turn.content)
        else:
            turns.append(_to_turn(turn, said))
            said = []
    return ConversationalTestCase(turns=turns, expected_outcome=sample.reference.response)


def _to_turn(turn: Turn, contexts: list[str]) -> DeepEvalTurn:
    if turn.type == "human":
        return DeepEvalTurn(role="user", content=turn.content)
    return DeepEvalTurn(
        role="assistant",
        content=turn.content,
        tools_called=_to_tool_calls(turn.tool_calls or ()) or None,
        retrieval_context=contexts or None,
    )


def _calls_made(sample: Sample) -> list[ToolCall]:
    return [call for turn in sample.turns for call in turn.tool_calls or ()]


def _to_tool_calls(calls: Sequence[ToolCall]) -> list[DeepEvalToolCall]:
    return [DeepEvalToolCall(name=call.name, input_parameters=call.args) for call in calls]
