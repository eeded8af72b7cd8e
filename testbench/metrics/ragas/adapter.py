"""RAGAS's metrics as a framework: samples in its words, our judge as its judge, and scores that can be trusted.

    sample -> arguments of `ascore` -> raw value, and what the judge said -> MetricResult

RAGAS gives NaN, 0.0 or 1.0 where the judge found nothing to judge; none of these is a score. Loaded by
`testbench.metrics.registry` when a metric of RAGAS is first asked for; importing `ragas` takes seconds.
"""

from __future__ import annotations

import asyncio
import importlib
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Final

from pydantic import BaseModel
from ragas.messages import AIMessage, HumanMessage, ToolMessage
from ragas.messages import ToolCall as RagasToolCall

from testbench.errors import InputError
from testbench.metrics.adapter import FrameworkAdapter, parse_parameters
from testbench.metrics.effort import EDIT_DISTANCE_BOUND, LINEAR_BOUND, check_product
from testbench.metrics.judge.judge import Judge
from testbench.metrics.protocol import MetricCallable, MetricResult, MetricSpec, Sample, field_value
from testbench.metrics.ragas import names, specs
from testbench.metrics.ragas.judge_bridge import BridgedEmbeddings, BridgedLLM, recording, remember_schemas
from testbench.schema.models import Failure, ToolCall, Turn

_WORD: Final = re.compile(r"[a-z0-9]+")
ROUGE_TABLE_BOUND: Final = 1e7
"""Cells of the table that rouge-score fills for ROUGE-L: 20,000 characters each, a second and 100 MB."""
QUOTED_SPANS_BOUND: Final = 4e10
"""Product of two lengths for looking up every quoted span: 200,000 characters each, half a second."""

_SIZE_BOUNDS: Final[Mapping[str, tuple[str, str, float]]] = {
    "NonLLMStringSimilarity": ("response", "reference", EDIT_DISTANCE_BOUND),
    "NonLLMContextPrecisionWithReference": ("retrieved_contexts", "reference_contexts", EDIT_DISTANCE_BOUND),
    "NonLLMContextRecall": ("retrieved_contexts", "reference_contexts", EDIT_DISTANCE_BOUND),
    "QuotedSpansAlignment": ("response", "retrieved_contexts", QUOTED_SPANS_BOUND),
    "BleuScore": ("response", "reference", LINEAR_BOUND),
    "CHRFScore": ("response", "reference", LINEAR_BOUND),
    "RougeScore": ("response", "reference", LINEAR_BOUND),
}
"""The two arguments that are compared, and the largest product of their lengths."""
ROUNDING: Final = 1e-6
"""RAGAS adds small numbers to its denominators: a value this close to an end of its range is that end."""
RESULT_DIGITS: Final = 12
"""What is left of 1 - 0.8 must reach a threshold of 0.2."""
REASON_LENGTH: Final = 4000
_MAY_BE_EMPTY: Final = frozenset({"EntitiesList"})
"""Answers that say something by being empty: contexts without any entity."""
_COMPUTING_THREAD: Final = ThreadPoolExecutor(1, "ragas")
"""One thread: they would not be faster in several, and warnings are switched off and on for all threads at once."""

Message = HumanMessage | AIMessage | ToolMessage


class RagasFrameworkAdapter(FrameworkAdapter):
    """The metrics of `ragas.metrics.collections`, and those that only the older interface has."""

    framework = specs.FRAMEWORK

    def specs(self) -> Mapping[str, MetricSpec]:
        return specs.specs()

    def aliases(self) -> Mapping[str, str]:
        return names.ALIASES

    def spec_for(self, name: str, parameters: Mapping[str, Any]) -> MetricSpec:
        spec = specs.metrics()[name].spec
        given = self._parse(name, parameters)
        if name in specs.RUBRICS:
            spec = replace(spec, value_range=rubric_range(getattr(given, "rubrics", None)))
        if name == "SimpleCriteriaScore":
            spec = replace(spec, value_range=(given.minimum, given.maximum))  # type: ignore[attr-defined]  # its own
        if getattr(given, "with_reference", False):
            spec = replace(spec, required=(*spec.required, "reference"))
        weights = getattr(given, "weights", None)
        if weights is not None and len(weights) == 2 and weights[1] == 0:
            spec = replace(spec, needs_embeddings=False)
        return spec

    def create(self, name: str, parameters: Mapping[str, Any], judge: Judge | None) -> MetricCallable:
        metric, spec = specs.metrics()[name], self.spec_for(name, parameters)
        arguments = dict(self._parse(name, parameters))
        embeddings = None
        if spec.needs_judge:
            if judge is None:
                raise InputError(f"{spec.full_name} needs a judge", hint="Give one to the registry.")
            if spec.needs_embeddings:
                arguments["embeddings"] = embeddings = BridgedEmbeddings(judge)
            if spec.needs_llm:
                arguments["llm"] = BridgedLLM(judge)
        if metric.swallows_errors:
            arguments["max_retries"] = 1
        try:
            if spec.package is not None:
                importlib.import_module(spec.package)  # now, and not while the event loop runs
            made = metric.cls(**arguments)
        except (ValueError, TypeError, ImportError) as error:
            raise InputError(
                f"{spec.full_name} cannot be made: {error}", hint="Check its parameters and packages."
            ) from error
        remember_schemas(made)
        return _RagasCallable(spec, made, metric.arguments, embeddings)

    def _parse(self, name: str, parameters: Mapping[str, Any]) -> BaseModel:
        return parse_parameters(f"ragas.{name}", specs.metrics()[name].parameters, parameters)


@dataclass(frozen=True)
class _RagasCallable:
    """One metric instance, which RAGAS keeps no state of a sample in."""

    spec: MetricSpec
    metric: Any
    arguments: tuple[str, ...]
    embeddings: BridgedEmbeddings | None

    async def __call__(self, sample: Sample, **overrides: Any) -> MetricResult:
        sample = replace(sample, **overrides)
        spec = self.spec
        if spec.name == "InstanceSpecificRubrics":
            spec = replace(spec, value_range=rubric_range(field_value(sample, "rubrics")))
        if spec.name == "ToolCallF1" and _nothing_called_nor_expected(sample):
            message = "nothing was expected and nothing called, which RAGAS calls 0; builtin.tool_calls calls it 1"
            return MetricResult(error=Failure(kind="undefined", message=message))
        with recording() as record:
            arguments = _arguments_for(self.spec, self.arguments, sample)
            if self.embeddings is not None and spec.name == "SemanticSimilarity":
                await self.embeddings.prefetch([arguments["reference"], arguments["response"]])
            outcome = await self._ascore(arguments)
        if record.errors:
            # some metrics swallow it and go on with half of the judgements
            raise record.errors[0]
        return make_result(spec, outcome.value, outcome.reason, record.answers)

    async def _ascore(self, arguments: Mapping[str, Any]) -> Any:
        if self.spec.needs_judge:
            return await self.metric.ascore(**arguments)
        _check_effort(self.spec.name, self.metric, arguments)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(_COMPUTING_THREAD, _run_to_end, self.metric, arguments)


def _run_to_end(metric: Any, arguments: Mapping[str, Any]) -> Any:
    """Return what a metric computes, though it says that it waits; RAGAS warns where a score says it all."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return asyncio.run(metric.ascore(**arguments))


def _arguments_for(spec: MetricSpec, names: Sequence[str], sample: Sample) -> dict[str, Any]:
    """Return the arguments of a metric's `ascore` that a sample has, in RAGAS's types."""
    found: dict[str, Any] = {}
    for name in names:
        if name == "user_input" and spec.multi_turn:
            turns = sample.turns if "turns" in spec.required else sample.conversation
            found[name] = [_to_message(turn) for turn in turns]
        elif name == "reference_tool_calls":
            found[name] = _to_tool_calls(sample.reference.tool_calls)
        elif (value := field_value(sample, name)) is not None:  # type: ignore[arg-type]  # specs checked the name
            found[name] = value
    return found


def _to_message(turn: Turn) -> Message:
    if turn.type == "human":
        return HumanMessage(content=turn.content)
    if turn.type == "tool":
        return ToolMessage(content=turn.content)
    return AIMessage(content=turn.content, tool_calls=_to_tool_calls(turn.tool_calls) or None)


def _to_tool_calls(calls: Sequence[ToolCall] | None) -> list[RagasToolCall]:
    return [RagasToolCall(name=call.name, args=call.args) for call in calls or ()]


def _nothing_called_nor_expected(sample: Sample) -> bool:
    return not sample.reference.tool_calls and not any(turn.tool_calls for turn in sample.turns)


def _check_effort(name: str, metric: Any, arguments: Mapping[str, Any]) -> None:
    """Check that a metric comes to an end in reasonable time.

    Raises:
        TooMuchEffortError: it would not.
    """
    if name not in _SIZE_BOUNDS:
        return
    one, other, most = _SIZE_BOUNDS[name]
    left, right = _join(arguments[one]), _join(arguments[other])
    check_product(len(left), len(right), most)
    if getattr(metric, "rouge_type", None) == "rougeL":
        check_product(_count_words(left), _count_words(right), ROUGE_TABLE_BOUND, "words")


def _join(value: str | list[str]) -> str:
    return value if isinstance(value, str) else "".join(value)


def _count_words(text: str) -> int:
    """Return the number of words as rouge-score counts them."""
    return len(_WORD.findall(text.lower()))


def make_result(spec: MetricSpec, raw: Any, reason: str | None, said: Sequence[BaseModel]) -> MetricResult:
    """Return the result of a metric of this spec, `spec.value_range` being that of this sample."""
    if spec.needs_llm and (nothing := _find_nothing_judged(said)):
        return _undefined_result(nothing, raw)
    if isinstance(raw, bool) or not isinstance(raw, Real) or not math.isfinite(raw):
        return _undefined_result("RAGAS gave no number", raw)
    value = float(raw)
    low, high = spec.value_range
    outside = value < low - ROUNDING or value > high + ROUNDING
    if outside and not spec.clamped:
        message = f"the value {value:g} is outside of {low:g} to {high:g}"
        return MetricResult(error=Failure(kind="out_of_range", message=message, raw=str(raw)))
    score = _snap_to_ends((min(max(value, low), high) - low) / (high - low))
    details = {"raw": value, "range": [low, high], "higher_is_better": spec.higher_is_better}
    return MetricResult(
        score=score if spec.higher_is_better else round(1 - score, RESULT_DIGITS),
        reason=(reason or _reason_from(said) or _describe_value(spec, value))[:REASON_LENGTH],
        details=details,
    )


def rubric_range(rubrics: Mapping[str, str] | None) -> tuple[float, float]:
    """Return the scale of rubrics by the numbers in their names, e.g. `score1_description` to `score3_description`."""
    numbers = [int(found.group()) for name in rubrics or () if (found := re.search(r"\d+", name))]
    low, high = (min(numbers), max(numbers)) if numbers else (1, 5)
    return (float(low), float(high)) if low < high else (1.0, 5.0)


def _reason_from(said: Sequence[BaseModel]) -> str | None:
    """Return the judge's own words for its verdicts, a line each."""
    lines = [line for answer in said for part in _parts_of(answer) if (line := _format_part(part))]
    return "\n".join(lines) or None


def _find_nothing_judged(said: Sequence[BaseModel]) -> str | None:
    for position, answer in enumerate(said):
        lists = [value for value in dict(answer).values() if isinstance(value, list)]
        name = type(answer).__name__
        matters = name not in _MAY_BE_EMPTY or position == 0
        if lists and not any(lists) and matters:
            return f"the judge found nothing to judge (empty {name})"
    return None


def _undefined_result(why: str, raw: Any) -> MetricResult:
    message = f"the metric is undefined for this sample: {why}"
    return MetricResult(error=Failure(kind="undefined", message=message, raw=str(raw)))


def _snap_to_ends(score: float) -> float:
    return 0.0 if score < ROUNDING else 1.0 if score > 1 - ROUNDING else score


def _describe_value(spec: MetricSpec, value: float) -> str:
    direction = "" if spec.higher_is_better else ", lower is better"
    return f"RAGAS {spec.name} = {value:.4g}{direction}"


def _parts_of(answer: BaseModel) -> list[tuple[str | None, dict[str, Any]]]:
    """Return the answer's own fields and the objects in its lists, each with the list's name."""
    fields = dict(answer)
    below = [
        (key, dict(item))
        for key, items in fields.items()
        if isinstance(items, list)
        for item in items
        if isinstance(item, BaseModel)
    ]
    return [(None, fields), *below]


def _format_part(part: tuple[str | None, dict[str, Any]]) -> str | None:
    group, fields = part
    if "rating" in fields:
        return f"rating {fields['rating']}"
    why = fields.get("reason") or fields.get("feedback")
    if not why:
        return None
    verdict = fields.get("verdict", fields.get("attributed", group))
    head = f"[{verdict}] " if verdict is not None else ""
    statement = f"{fields['statement']}: " if fields.get("statement") else ""
    return f"{head}{statement}{why}"
