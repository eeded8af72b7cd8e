"""RAGAS's metrics as a framework: samples in its words, our judge as its judge, and scores that can be trusted.

Loaded by `testbench.metrics.registry` when a metric of RAGAS is first asked for; importing `ragas` takes seconds.
"""

from __future__ import annotations

import asyncio
import importlib
import re
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
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
from testbench.metrics.ragas.reading import result_of, rubric_range
from testbench.schema.models import Failure, ToolCall, Turn

_WORD: Final = re.compile(r"[a-z0-9]+")
TABLE: Final = 1e7
"""Cells of the table that rouge-score fills for ROUGE-L: 20,000 characters each, a second and 100 MB."""
SPANS: Final = 4e10
"""Product of two lengths for looking up every quoted span: 200,000 characters each, half a second."""

_BOUNDS: Final[Mapping[str, tuple[str, str, float]]] = {
    "NonLLMStringSimilarity": ("response", "reference", EDIT_DISTANCE_BOUND),
    "NonLLMContextPrecisionWithReference": ("retrieved_contexts", "reference_contexts", EDIT_DISTANCE_BOUND),
    "NonLLMContextRecall": ("retrieved_contexts", "reference_contexts", EDIT_DISTANCE_BOUND),
    "QuotedSpansAlignment": ("response", "retrieved_contexts", SPANS),
    "BleuScore": ("response", "reference", LINEAR_BOUND),
    "CHRFScore": ("response", "reference", LINEAR_BOUND),
    "RougeScore": ("response", "reference", LINEAR_BOUND),
}
"""The two arguments that are compared, and the largest product of their lengths."""


def check_effort(name: str, metric: Any, arguments: Mapping[str, Any]) -> None:
    """See that a metric comes to an end in reasonable time.

    Raises:
        TooMuchEffortError: it would not.
    """
    if name not in _BOUNDS:
        return
    one, other, most = _BOUNDS[name]
    left, right = _text(arguments[one]), _text(arguments[other])
    check_product(len(left), len(right), most)
    if getattr(metric, "rouge_type", None) == "rougeL":
        check_product(_words(left), _words(right), TABLE, "words")


def _text(value: str | list[str]) -> str:
    return value if isinstance(value, str) else "".join(value)


def _words(text: str) -> int:
    """As rouge-score counts them."""
    return len(_WORD.findall(text.lower()))


_COMPUTING: Final = ThreadPoolExecutor(1, "ragas")
"""One thread: they would not be faster in several, and warnings are switched off and on for all threads at once."""

Message = HumanMessage | AIMessage | ToolMessage


class RagasAdapter(FrameworkAdapter):
    """The metrics of `ragas.metrics.collections`, and those that only the older interface has."""

    framework = specs.FRAMEWORK

    def specs(self) -> Mapping[str, MetricSpec]:
        return specs.specs()

    def aliases(self) -> Mapping[str, str]:
        return names.ALIASES

    def spec_for(self, name: str, parameters: Mapping[str, Any]) -> MetricSpec:
        spec = specs.metrics()[name].spec
        given = self._parameters(name, parameters)
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
        arguments = dict(self._parameters(name, parameters))
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

    def _parameters(self, name: str, parameters: Mapping[str, Any]) -> BaseModel:
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
            arguments = arguments_of(self.spec, self.arguments, sample)
            if self.embeddings is not None and spec.name == "SemanticSimilarity":
                await self.embeddings.prefetch([arguments["reference"], arguments["response"]])
            outcome = await self._ascore(arguments)
        if record.errors:
            # some metrics swallow it and go on with half of the judgements
            raise record.errors[0]
        return result_of(spec, outcome.value, outcome.reason, record.answers)

    async def _ascore(self, arguments: Mapping[str, Any]) -> Any:
        if self.spec.needs_judge:
            return await self.metric.ascore(**arguments)
        check_effort(self.spec.name, self.metric, arguments)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(_COMPUTING, _computed, self.metric, arguments)


def _computed(metric: Any, arguments: Mapping[str, Any]) -> Any:
    """The outcome of a metric that computes, though it says that it waits; RAGAS warns where a score says it all."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return asyncio.run(metric.ascore(**arguments))


def arguments_of(spec: MetricSpec, names: Sequence[str], sample: Sample) -> dict[str, Any]:
    """The arguments of a metric's `ascore` that a sample has, in RAGAS's types."""
    found: dict[str, Any] = {}
    for name in names:
        if name == "user_input" and spec.multi_turn:
            turns = sample.turns if "turns" in spec.required else sample.conversation
            found[name] = [_message(turn) for turn in turns]
        elif name == "reference_tool_calls":
            found[name] = _tool_calls(sample.reference.tool_calls)
        elif (value := field_value(sample, name)) is not None:  # type: ignore[arg-type]  # specs checked the name
            found[name] = value
    return found


def _message(turn: Turn) -> Message:
    if turn.type == "human":
        return HumanMessage(content=turn.content)
    if turn.type == "tool":
        return ToolMessage(content=turn.content)
    return AIMessage(content=turn.content, tool_calls=_tool_calls(turn.tool_calls) or None)


def _tool_calls(calls: Sequence[ToolCall] | None) -> list[RagasToolCall]:
    return [RagasToolCall(name=call.name, args=call.args) for call in calls or ()]


def _nothing_called_nor_expected(sample: Sample) -> bool:
    return not sample.reference.tool_calls and not any(turn.tool_calls for turn in sample.turns)
