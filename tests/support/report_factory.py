"""Evaluated experiments of any size for the report's tests and benchmark: clearly invented, yet shaped like real ones.

The travel desk of a railway that does not exist answers questions in conversations of several steps. Among its steps
are tool calls, failed agents, judges that break, an informational metric and metrics of conversations.
The same arguments give the same experiment.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from testbench.schema.ids import assign_ids
from testbench.schema.models import (
    EvaluatedExperiment,
    EvaluatedScenario,
    EvaluatedStep,
    Evaluation,
    EvaluationRecord,
    Failure,
    Metric,
    PlannedScenario,
    PlannedStep,
    Reference,
    Result,
    RunRecord,
    Scenario,
    Step,
    ToolCall,
    Turn,
    Usage,
)

TOWNS = ("Birkenau", "Port Ellery", "Marrowgate", "Sankt Hilde", "Oyambre", "Vellinge", "Tarn Hollow", "Quintal")
START = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)

FAITHFUL = Metric(metric_name="ragas.Faithfulness", threshold=0.8)
RELEVANT = Metric(metric_name="ragas.AnswerRelevancy", threshold=0.7, gating=False)
CORRECT = Metric(metric_name="ragas.FactualCorrectness", threshold=0.75, parameters={"mode": "f1", "atomicity": "low"})
TOOLS = Metric(metric_name="builtin.tool_calls", threshold=1.0)
WHOLE = Metric(metric_name="builtin.topics", threshold=0.5)

OPENINGS = (
    "Which trains leave {a} for {b} tomorrow morning?",
    "I need to be in {b} before noon. When do I have to leave {a}?",
    "What does a return ticket from {a} to {b} cost for two adults and a child?",
    "Can I take my bicycle on the night train from {a} to {b}?",
)
FOLLOW_UPS = (
    "And on Sunday?",
    "Is there a quiet coach?",
    "Please book the earlier one.",
    "How long is the change in {c}?",
    "What happens if I miss the connection?",
)


def experiment(steps: int = 60, *, seed: int = 7, conversations: bool = True) -> EvaluatedExperiment:
    """An evaluated experiment with exactly `steps` steps; another `seed` answers the same questions differently."""
    asked = random.Random(f"questions {steps}")
    answered = random.Random(f"answers {seed}")
    scenarios = [_evaluated(scenario, answered, conversations) for scenario in assign_ids(_scenarios(steps, asked))]
    started = START + timedelta(days=seed)
    return EvaluatedExperiment(
        id="exp_5e1f00d5e1f00d42",
        llm_as_a_judge_model="synthetic-judge-1",
        default_threshold=0.9,
        scenarios=tuple(scenarios),
        run=RunRecord(
            agent_url="http://travel-desk.example:8000",
            agent_name="Travel desk (synthetic)",
            agent_version=f"2.{seed}.0",
            protocol_version="1.0",
            workflow_name="travel-desk-nightly",
            testbench_version="0.1.0",
            started_at=started,
            wall_seconds=round(steps * 0.21, 1),
        ),
        evaluation=EvaluationRecord(
            judge_model="synthetic-judge-1",
            testbench_version="0.1.0",
            started_at=started + timedelta(minutes=3),
            wall_seconds=round(steps * 0.34, 1),
        ),
    )


def _scenarios(steps: int, rng: random.Random) -> Iterator[Scenario]:
    left, number = steps, 0
    while left:
        number += 1
        length = min(left, rng.choice((1, 1, 2, 3, 4)))
        left -= length
        a, b, c = rng.sample(TOWNS, 3)
        questions = [rng.choice(OPENINGS), *rng.sample(FOLLOW_UPS, length - 1)]
        yield Scenario(
            name=f"{number:04d} {a} to {b}",
            steps=tuple(_step(question.format(a=a, b=b, c=c), a, b, rng) for question in questions),
            metrics=(WHOLE,) if length > 2 else (),
        )


def _step(question: str, a: str, b: str, rng: random.Random) -> Step:
    hour = rng.randint(6, 11)
    response = (
        f"There are two trains from {a} to {b}: at {hour:02d}:12 with one change, and at {hour + 2:02d}:47 direct."
    )
    call = ToolCall(name="search_connections", args={"from": a, "to": b, "date": "2026-11-22", "passengers": 2})
    return Step(
        input=question,
        reference=Reference(response=response, tool_calls=(call,), topics=("timetable", "tickets")),
        custom_values={"persona": rng.choice(("commuter", "family", "cyclist")), "locale": "en-GB"},
        metrics=(FAITHFUL, RELEVANT, CORRECT, TOOLS),
    )


def _evaluated(scenario: PlannedScenario, rng: random.Random, conversations: bool) -> EvaluatedScenario:
    steps = tuple(_evaluated_step(step, rng) for step in scenario.steps)
    whole = scenario.metrics if conversations else ()
    return EvaluatedScenario(
        id=scenario.id,
        name=scenario.name,
        metrics=whole,
        trace_id=f"{rng.getrandbits(128):032x}",
        steps=steps,
        evaluations=tuple(Evaluation(metric=metric, result=_judged(metric, rng, 0.92)) for metric in whole),
    )


def _evaluated_step(step: PlannedStep, rng: random.Random) -> EvaluatedStep:
    known = dict(step)
    asked = Turn(content=step.input, type="human")
    fate = rng.random()
    if fate < 0.025:
        failure = Failure(kind="timeout", message="no answer within 30 s", attempts=4, retryable=True)
        return EvaluatedStep(**known, status="error", error=failure, turns=(asked,), latency_ms=30_012.0)
    if fate < 0.035:
        return EvaluatedStep(**known, status="skipped", turns=(asked,))
    quality = rng.choice((0.97, 0.96, 0.95, 0.98, 0.62)) if fate > 0.15 else 0.55
    assert step.reference is not None
    call = (step.reference.tool_calls or ())[0]
    answer = _answer(step.reference.response or "", quality, rng)
    return EvaluatedStep(
        **known,
        turns=(
            asked,
            Turn(type="agent", tool_calls=(call,)),
            Turn(type="tool", content=_connections(rng)),
            Turn(type="agent", content=answer),
        ),
        context_id=f"ctx-{rng.getrandbits(32):08x}",
        task_id=f"task-{rng.getrandbits(32):08x}",
        span_id=f"{rng.getrandbits(64):016x}",
        started_at=START + timedelta(seconds=rng.randint(0, 3000)),
        latency_ms=round(rng.lognormvariate(7.1, 0.5), 1),
        time_to_first_token_ms=round(rng.lognormvariate(5.6, 0.4), 1),
        usage=Usage(input_tokens=rng.randint(300, 900), output_tokens=rng.randint(60, 260)),
        evaluations=tuple(_evaluation(metric, rng, quality) for metric in step.metrics),
    )


def _connections(rng: random.Random) -> str:
    hour = rng.randint(6, 11)
    return (
        f'{{"connections": [{{"departure": "{hour:02d}:12", "changes": 1, "price_eur": {rng.randint(29, 89)}.90}}, '
        f'{{"departure": "{hour + 2:02d}:47", "changes": 0, "price_eur": {rng.randint(29, 89)}.90}}]}}'
    )


def _answer(reference: str, quality: float, rng: random.Random) -> str:
    if quality > 0.9:
        return reference + "\n\nShall I reserve seats for you?"
    words = reference.split()
    words[rng.randrange(len(words))] = rng.choice(("perhaps", "three", "cancelled,"))
    return " ".join(words) + " I could not find prices."


def _evaluation(metric: Metric, rng: random.Random, quality: float) -> Evaluation:
    return Evaluation(metric=metric, result=_judged(metric, rng, quality))


def _judged(metric: Metric, rng: random.Random, quality: float) -> Result:
    framework = metric.metric_name.split(".")[0]
    fate = rng.random()
    if framework == "ragas" and fate < 0.008:
        failure = Failure(
            kind="malformed",
            message="the judge's answer is no JSON",
            attempts=2,
            raw='Sure! Here is the verdict you asked for: {"score": 0.9',
        )
        return Result(result="error", error=failure, judge_model="synthetic-judge-1")
    if framework == "ragas" and fate < 0.012:
        return Result(result="skipped", reason="needs retrieved_contexts, which the step does not have")
    if framework == "builtin":
        score = 1.0 if rng.random() < quality + 0.02 else 0.0
    else:
        score = round(min(1.0, max(0.0, rng.gauss(quality - 0.03, 0.06))), 3)
    assert metric.threshold is not None
    return Result(
        result="pass" if score >= metric.threshold else "fail",
        score=score,
        reason=_reason(framework, score),
        usage=Usage(input_tokens=640, output_tokens=90, cost_usd=0.0004) if framework == "ragas" else None,
        judge_model="synthetic-judge-1" if framework == "ragas" else None,
        cached=framework == "ragas" and rng.random() < 0.3,
    )


def _reason(framework: str, score: float) -> str:
    if framework == "builtin":
        return "All expected calls were made." if score else "search_connections was not called with these arguments."
    if score > 0.85:
        return "Every departure that the answer names is in the tool's result, and both prices agree with it."
    return "The answer names a departure that the tool did not return, so one of its three claims is unsupported."
