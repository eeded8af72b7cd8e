"""What a metric is to the rest of Testbench: a spec to check before anything is paid for, and a callable that judges.

    Sample -> (field_value) -> MetricCallable -> MetricResult

Adapters (`testbench.metrics.<framework>.adapter`) make specs and callables; `testbench.metrics.evaluator` uses them. A
framework's own types never leave its adapter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from testbench.schema.models import ExecutedScenario, ExecutedStep, Failure, Reference, Turn

__all__ = [
    "Combine",
    "MetricCallable",
    "MetricResult",
    "MetricSpec",
    "Parameter",
    "Sample",
    "SampleField",
    "field_value",
    "missing_fields",
]

SampleField = Literal[
    "user_input",
    "response",
    "reference",
    "retrieved_contexts",
    "reference_contexts",
    "retrieved_context_ids",
    "reference_context_ids",
    "reference_tool_calls",
    "reference_topics",
    "turns",
    "conversation",
    "latency_ms",
    "rubrics",
]
"""The parts of a sample that a metric may need; `field_value` says where each comes from.
A missing one makes the evaluation `skipped`, with its place in the reason."""


@dataclass(frozen=True)
class Sample:
    """What a metric looks at: one step with the conversation up to and including it, or a whole scenario.

    `turns` are those of the step (of all steps for a scenario), `conversation` also has those of the steps before.
    """

    user_input: str
    response: str | None
    reference: Reference
    custom_values: Mapping[str, Any]
    turns: tuple[Turn, ...]
    conversation: tuple[Turn, ...]
    latency_ms: float | None = None

    @classmethod
    def of_step(cls, step: ExecutedStep, before: tuple[Turn, ...] = ()) -> Sample:
        """Return the sample of a step that was answered; `before` are the turns of the scenario's earlier steps."""
        return cls(
            user_input=step.input,
            response=step.answer,
            reference=step.reference or Reference(),
            custom_values=step.custom_values,
            turns=step.turns,
            conversation=before + step.turns,
            latency_ms=step.latency_ms,
        )

    @classmethod
    def of_scenario(cls, scenario: ExecutedScenario) -> Sample:
        """Return the sample of a whole conversation: first question, last answer, and what all its steps expect.

        The reference is the last step's, with the tool calls and topics of all steps in order. Expected tool calls are
        known only if every step states them.
        """
        turns = tuple(turn for step in scenario.steps for turn in step.turns)
        first, last = scenario.steps[0], scenario.steps[-1]
        return cls(
            user_input=first.input,
            response=last.answer,
            reference=_reference_of([step.reference or Reference() for step in scenario.steps]),
            custom_values={key: value for step in scenario.steps for key, value in step.custom_values.items()},
            turns=turns,
            conversation=turns,
            latency_ms=_sum_of_all([step.latency_ms for step in scenario.steps]),
        )


@dataclass(frozen=True)
class Parameter:
    """A parameter of a metric, as a user may write it under `parameters`."""

    name: str
    type: str
    """For people, e.g. `int`, `str | list[str]` or `exact | in_order`."""
    required: bool = False
    default: Any = None
    description: str = ""


Combine = Literal["mean", "majority"]
"""How several judgements of one sample become one."""


@dataclass(frozen=True)
class MetricSpec:
    """All that is known of a metric without running it; `--list-metrics` prints these.

    `value_range` is that of the framework's own value; the score is that value mapped to 0..1.
    """

    framework: str
    name: str
    description: str
    required: tuple[SampleField, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    needs_llm: bool = False
    needs_embeddings: bool = False
    multi_turn: bool = False
    value_range: tuple[float, float] = (0.0, 1.0)
    clamped: bool = False
    """A value outside the range, such as a negative cosine, counts as its nearest end. Otherwise it is an error."""
    higher_is_better: bool = True
    """False: the score is turned round, so that 1 is best for every metric."""
    samples: int | None = None
    """How often each sample is judged; None: as often as the run asks for, which is once for metrics without LLM."""
    combine: Combine = "mean"
    package: str | None = None
    """What must be installed for it beside its framework."""
    unavailable: str | None = None
    """Why it cannot be used here, e.g. a package that is missing."""

    @property
    def full_name(self) -> str:
        return f"{self.framework}.{self.name}"

    @property
    def needs_judge(self) -> bool:
        return self.needs_llm or self.needs_embeddings


@dataclass(frozen=True)
class MetricResult:
    """What a metric says of one sample: a score from 0 to 1 (1 is best), or an error, or why it was skipped.

    `reason` is for people; `details` are values by name that JSON can hold. Without score, error and `skipped` the
    evaluation becomes an error.
    """

    score: float | None = None
    reason: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    error: Failure | None = None
    skipped: str | None = None


class MetricCallable(Protocol):
    """A metric with its parameters, ready to judge one sample after the other and many at once.

    It is called by `MetricEvaluator` in one event loop, and must keep nothing of a sample. What it spends on a judge is
    counted by the judge (`testbench.metrics.judge.cost`).
    """

    async def __call__(self, sample: Sample, **overrides: Any) -> MetricResult:
        """Return the result for a sample; `overrides` replace fields of the sample by name.

        Raises:
            JudgeError: the judge gave no usable answer; the evaluation becomes an error of its kind.
            Exception: anything else makes the evaluation an error of kind `metric_failed`.
        """


_PLACES: Final[Mapping[SampleField, str]] = {
    "user_input": "input",
    "response": "answer of the agent",
    "reference": "reference.response",
    "retrieved_contexts": "custom_values.retrieved_contexts (or tool results of the agent)",
    "reference_contexts": "reference.reference_contexts",
    "retrieved_context_ids": "custom_values.retrieved_context_ids",
    "reference_context_ids": "custom_values.reference_context_ids",
    "reference_tool_calls": "reference.tool_calls",
    "reference_topics": "reference.topics",
    "turns": "turns",
    "conversation": "turns",
    "latency_ms": "latency_ms",
    "rubrics": "custom_values.rubrics",
}
"""Where a user finds or writes each field."""


def field_value(sample: Sample, field: SampleField) -> Any:
    """Return the value of a field (text, list of texts, turns, tool calls or number), or None if there is none.

    The same for every framework; an adapter translates it to the framework's own types. The answer under judgement is
    always the agent's: a `response` column of the dataset never stands in for it.
    """
    return _SOURCES[field](sample)


def missing_fields(sample: Sample, required: Iterable[SampleField]) -> tuple[str, ...]:
    """Return what a sample lacks, in the words of the experiment file, e.g. `reference.response`."""
    return tuple(_PLACES[field] for field in required if field_value(sample, field) is None)


def _retrieved_contexts(sample: Sample) -> list[str] | None:
    """Return what the answer rests on: what the dataset says, else the tools' results, else the reference."""
    return (
        _texts(sample.custom_values.get("retrieved_contexts"))
        or _texts([turn.content for turn in sample.turns if turn.type == "tool"])
        or _texts(sample.reference.retrieved_contexts)
    )


def _reference_contexts(sample: Sample) -> list[str] | None:
    return (
        _texts(sample.custom_values.get("reference_contexts"))
        or _texts(sample.reference.reference_contexts)
        or _texts(sample.reference.retrieved_contexts)
    )


def _reference_topics(sample: Sample) -> list[str] | None:
    return _texts(sample.reference.topics) or _texts(sample.custom_values.get("reference_topics"))


def _rubrics(sample: Sample) -> dict[str, str] | None:
    rubrics = sample.custom_values.get("rubrics")
    if not isinstance(rubrics, Mapping) or not rubrics:
        return None
    return {str(key): str(text) for key, text in rubrics.items()}


def _unless_blank(text: str | None) -> str | None:
    """Return None for a text of white space: it says nothing, and every answer would contain it."""
    return text if text and not text.isspace() else None


def _texts(value: Any) -> list[str] | None:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple):
        return None
    return [str(item) for item in value if item is not None and str(item).strip()] or None


_SOURCES: Final[Mapping[SampleField, Callable[[Sample], Any]]] = {
    "user_input": lambda sample: _unless_blank(sample.user_input),
    "response": lambda sample: _unless_blank(sample.response),
    "reference": lambda sample: _unless_blank(sample.reference.response),
    "retrieved_contexts": _retrieved_contexts,
    "reference_contexts": _reference_contexts,
    "retrieved_context_ids": lambda sample: _texts(sample.custom_values.get("retrieved_context_ids")),
    "reference_context_ids": lambda sample: _texts(sample.custom_values.get("reference_context_ids")),
    # an empty list is an expectation of its own: no tool may be called
    "reference_tool_calls": lambda sample: sample.reference.tool_calls,
    "reference_topics": _reference_topics,
    "turns": lambda sample: sample.turns or None,
    "conversation": lambda sample: sample.conversation or None,
    "latency_ms": lambda sample: sample.latency_ms,
    "rubrics": _rubrics,
}


def _reference_of(steps: Sequence[Reference]) -> Reference:
    expected = [reference.tool_calls for reference in steps]
    calls = None if None in expected else tuple(call for some in expected for call in some or ())
    topics = tuple(dict.fromkeys(topic for reference in steps for topic in reference.topics or ()))
    return steps[-1].model_copy(update={"tool_calls": calls, "topics": topics or None})


def _sum_of_all(latencies: Sequence[float | None]) -> float | None:
    known = [latency for latency in latencies if latency is not None]
    return sum(known) if len(known) == len(latencies) else None
