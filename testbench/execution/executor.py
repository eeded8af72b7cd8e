"""Phase run, scenario by scenario: sends the steps to the agent and records what came back.

`A2AExecutor` is the hooks that `ExperimentRuntime` walks with; `testbench.execution.run` puts both together.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from testbench.net.clock import Clock, SystemClock
from testbench.net.pacing import Pacer
from testbench.net.retry import GaveUp, RetryPolicy, Succeeded, call_with_retries
from testbench.safe_text import printable
from testbench.schema import tracing as names
from testbench.schema.agent import AgentClient, AgentReply, Conversation
from testbench.schema.ids import ScenarioKey, fields_given
from testbench.schema.models import ExecutedScenario, ExecutedStep, Failure, PlannedScenario, PlannedStep, Turn
from testbench.schema.runtime import ExperimentHooks
from testbench.schema.shards import Shard
from testbench.schema.tracing import Span, Tracer, Untraced


@dataclass(frozen=True)
class Trial:
    """One repetition of one scenario, out of `repeats`."""

    scenario: PlannedScenario
    repetition: int = 1
    repeats: int = 1

    @property
    def key(self) -> ScenarioKey:
        return ScenarioKey(self.scenario.id, self.repetition)

    @property
    def steps(self) -> tuple[PlannedStep, ...]:
        return self.scenario.steps


def list_trials(scenarios: Sequence[PlannedScenario], repeats: int, shard: Shard | None = None) -> Sequence[Trial]:
    """Return what is to be sent, in the order of sending."""
    dealt = [Trial(scenario, number, repeats) for number in range(1, repeats + 1) for scenario in scenarios]
    return dealt if shard is None else shard.of(dealt)


def sort_for_file(found: Sequence[Trial], scenarios: Sequence[PlannedScenario]) -> list[Trial]:
    """Return the repetitions of a scenario side by side, as they are read and compared."""
    place = {scenario.id: number for number, scenario in enumerate(scenarios)}
    return sorted(found, key=lambda trial: (place[trial.scenario.id], trial.repetition))


OnStepError = Literal["skip", "continue"]
StepDone = Callable[[ExecutedStep, int], None]
"""Receives every step as soon as it is done, with the number of tries."""

FAILURE_LENGTH: Final = 500
"""Characters of an agent's own words that a failure keeps."""


@dataclass(frozen=True)
class StepRules:
    """What happens to a step that fails, and to those after it."""

    retry: RetryPolicy = field(default_factory=RetryPolicy)
    on_step_error: OnStepError = "skip"


@dataclass(frozen=True)
class RunDependencies:
    """Tracing, time and chance, for the run to use and for tests to replace."""

    tracer: Tracer = field(default_factory=Untraced)
    clock: Clock = field(default_factory=SystemClock)
    chance: Callable[[], float] = random.random


@dataclass
class ScenarioInFlight:
    """All that one scenario has to remember while it runs."""

    span: Span
    conversation: Conversation
    position: int = 0
    failure: Failure | None = None
    turns: int = 0


class A2AExecutor(ExperimentHooks[Trial, PlannedStep, ScenarioInFlight, ExecutedStep, ExecutedScenario]):
    """Sends steps and keeps nothing of any scenario. Every try waits for its turn under the pace."""

    def __init__(
        self, agent: AgentClient, rules: StepRules, dependencies: RunDependencies, pacer: Pacer, on_step_done: StepDone
    ) -> None:
        self._agent = agent
        self._rules = rules
        self._tracer = dependencies.tracer
        self._clock = dependencies.clock
        self._chance = dependencies.chance
        self._pacer = pacer
        self._on_step_done = on_step_done

    async def before_scenario(self, trial: Trial) -> ScenarioInFlight:
        about: dict[str, str | int] = {names.SCENARIO_ID: trial.scenario.id}
        if trial.repeats > 1:
            about[names.REPETITION] = trial.repetition
        return ScenarioInFlight(self._tracer.start_scenario(trial.scenario.name, about), Conversation())

    async def on_step(self, step: PlannedStep, state: ScenarioInFlight) -> ExecutedStep:
        if state.failure is not None and self._rules.on_step_error == "skip":
            executed, attempts = _make_executed_step(step, status="skipped"), 0
        else:
            executed, attempts = await self._send(step, state)
        state.position += 1
        state.failure = state.failure or executed.error
        state.turns += len(executed.turns)
        self._on_step_done(executed, attempts)
        return executed

    async def after_scenario(
        self, trial: Trial, steps: Sequence[ExecutedStep], state: ScenarioInFlight
    ) -> ExecutedScenario:
        state.span.set({names.MESSAGE_COUNT: state.turns, names.CONTEXT_ID: state.conversation.context_id or ""})
        if state.failure is not None:
            state.span.fail(state.failure.kind, state.failure.message)
        state.span.end()
        happened: dict[str, object] = {"steps": tuple(steps), "trace_id": state.span.trace_id}
        if trial.repetition > 1:
            happened["repetition"] = trial.repetition
        return ExecutedScenario.model_validate(fields_given(trial.scenario) | happened)

    async def _send(self, step: PlannedStep, state: ScenarioInFlight) -> tuple[ExecutedStep, int]:
        """Return the step as it went, and the number of tries."""
        started_at = self._clock.now()
        with self._tracer.step(state.span, state.position, _make_span_attributes(step, state)) as span:
            sent = await call_with_retries(
                lambda: self._agent.send_step(step.input, state.conversation),
                self._rules.retry,
                self._clock,
                self._chance,
                lambda again: self._pacer.take_slot(ahead=again or state.position > 0),
            )
            state.conversation.outstanding = None
            human = Turn(type="human", content=step.input, timestamp=started_at)
            common = {"context_id": state.conversation.context_id, "span_id": span.span_id, "started_at": started_at}
            if isinstance(sent, GaveUp):
                failure = _make_failure(sent)
                span.fail(failure.kind, failure.message)
                failed = common | {"status": "error", "error": failure, "turns": (human,)}
                return _make_executed_step(step, **failed), sent.attempts
            executed = _make_executed_step(step, **common, **_describe_answer(human, sent))
            span.set({names.MESSAGE_COUNT: len(executed.turns), names.CONTEXT_ID: executed.context_id or ""})
            if executed.task_id:
                span.set({names.TASK_ID: executed.task_id})
            return executed, sent.attempts


def _make_span_attributes(step: PlannedStep, state: ScenarioInFlight) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {names.STEP_ID: step.id, names.USER_INPUT: step.input}
    if step.reference is not None:
        response = step.reference.response
        attributes[names.REFERENCE] = (
            step.reference.model_dump_json(exclude_none=True) if response is None else response
        )
    if state.conversation.context_id is not None:
        attributes[names.CONTEXT_ID] = state.conversation.context_id
    return attributes


def _make_executed_step(step: PlannedStep, **outcome: object) -> ExecutedStep:
    known = {name: value for name, value in outcome.items() if value is not None}
    return ExecutedStep.model_validate(fields_given(step) | known)


def _describe_answer(human: Turn, sent: Succeeded[AgentReply]) -> dict[str, object]:
    reply = sent.value
    return {
        "status": "ok",
        "turns": (human, *reply.turns),
        "task_id": reply.task_id,
        "latency_ms": round(1000 * (sent.seconds if reply.seconds is None else reply.seconds), 3),
        "time_to_first_token_ms": reply.time_to_first_token_ms,
        "usage": reply.usage,
    }


def _make_failure(gave_up: GaveUp) -> Failure:
    error = gave_up.error
    return Failure(
        kind=error.kind,
        message=printable(error.message, FAILURE_LENGTH),
        attempts=gave_up.attempts,
        retryable=error.retryable,
    )
