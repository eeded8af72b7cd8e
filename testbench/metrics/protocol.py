"""What a metric is to the rest of Testbench: a spec to check before anything is paid for, and a callable that judges.

Adapters (`testbench.metrics.<framework>.adapter`) produce both; `testbench.metrics.evaluator` uses them. A framework's
own types never leave its adapter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from testbench.schema.models import ExecutedScenario, ExecutedStep, Failure, Reference, Turn

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
"""The parts of a sample that a metric may need; `testbench.metrics.sample_fields` says where each comes from.
A missing one makes the evaluation `skipped` and is named there."""


Combine = Literal["mean", "majority"]
"""How several judgements of one sample become one."""


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
        """The sample of a step that was answered; `before` are the turns of the scenario's earlier steps."""
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
        """The sample of a whole conversation: first question, last answer, and what all its steps expect.

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


def _reference_of(steps: Sequence[Reference]) -> Reference:
    expected = [reference.tool_calls for reference in steps]
    calls = None if None in expected else tuple(call for some in expected for call in some or ())
    topics = tuple(dict.fromkeys(topic for reference in steps for topic in reference.topics or ()))
    return steps[-1].model_copy(update={"tool_calls": calls, "topics": topics or None})


def _sum_of_all(latencies: Sequence[float | None]) -> float | None:
    known = [latency for latency in latencies if latency is not None]
    return sum(known) if len(known) == len(latencies) else None


@dataclass(frozen=True)
class Parameter:
    """A parameter of a metric, as a user may write it under `parameters`."""

    name: str
    type: str
    """For people, e.g. `int`, `str | list[str]` or `exact | in_order`."""
    required: bool = False
    default: Any = None
    description: str = ""


@dataclass(frozen=True)
class MetricSpec:
    """Everything that is known of a metric without running it; `--list-metrics` prints these."""

    framework: str
    name: str
    description: str
    required: tuple[SampleField, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    needs_llm: bool = False
    needs_embeddings: bool = False
    multi_turn: bool = False
    value_range: tuple[float, float] = (0.0, 1.0)
    """Range of the framework's own value; the score is that value mapped to 0..1."""
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
    """What a metric said of one sample: a score in 0..1 (1 is best), or the failure, or why it was skipped."""

    score: float | None = None
    reason: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    error: Failure | None = None
    skipped: str | None = None


class MetricCallable(Protocol):
    """Judges one sample; called by `MetricEvaluator` for many samples at once, so it keeps nothing of any of them.

    `overrides` replace fields of the sample by name. What it spent is counted by the judge
    (`testbench.metrics.judge.cost`), not by the callable.

    Raises:
        JudgeError: the judge gave no usable verdict; the evaluation becomes an error with its kind.
        Exception: a fault of the framework; the evaluation becomes an error of kind `metric_failed`.
    """

    async def __call__(self, sample: Sample, **overrides: Any) -> MetricResult: ...


CHARACTERS: Final = 1e9
"""Product of two lengths for edit distances: 30,000 characters each, a tenth of a second (RapidFuzz 3.14)."""
TOKENS: Final = 4e9
"""The same for the longest common sequence of two lists of tokens (RapidFuzz)."""
CALLS: Final = 1e5
"""Product of the numbers of two lists of tool calls, where each is compared with each in Python: a second."""
LINEAR: Final = 1e12
"""Product of two lengths for what grows with their sum: a million characters each, some seconds."""


class TooLongError(Exception):
    """The texts are too long to be compared in reasonable time: nothing is known of them."""


def check_product(left: int, right: int, most: float, unit: str = "characters") -> None:
    """See that two lengths can be compared.

    Raises:
        TooLongError: their product is above `most`.
    """
    if left * right > most:
        raise TooLongError(f"{left:,} and {right:,} {unit} are too many to be compared; see docs/metrics.md")
