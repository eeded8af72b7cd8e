"""An evaluated experiment as data points: pure, so that what is counted can be tested without a collector.

`score_points` has one point for every score and none for anything else: an evaluation that ended in an error or was
skipped is part of `aggregate_points`, where it is counted. No two points have the same attributes, because a time
series database keeps only the last of them.

The aggregates carry the workflow, the execution's number and the metric, never a trace, a step or an input: how many
there are depends on the metrics and not on the size of the dataset.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from testbench import defaults
from testbench.results.summary import PlacedEvaluation, Summary, walk_evaluations
from testbench.safe_text import printable
from testbench.schema.ids import content_id
from testbench.schema.models import EvaluatedExperiment
from testbench.telemetry import attributes as names
from testbench.telemetry.attributes import attribute_text

WHOLE_SCENARIO = 0
"""Value of the attribute `step` for a metric that judges the whole conversation; steps count from 1."""

Attributes = Mapping[str, str | int]


@dataclass(frozen=True)
class Execution:
    """Which run of which workflow is published."""

    workflow_name: str
    execution_id: str
    execution_number: int


@dataclass(frozen=True)
class Point:
    """One value of one gauge."""

    gauge: str
    value: float
    attributes: Attributes


@dataclass(frozen=True)
class ScoredSample:
    """One evaluation with an identity that no other evaluation of the experiment has."""

    evaluated: PlacedEvaluation
    hash: str

    @property
    def score(self) -> float | None:
        """The score, where the metric gave one and the agent's step is worth a score."""
        judged = self.evaluated.status in ("pass", "fail")
        return self.evaluated.evaluation.result.score if judged else None

    @property
    def name(self) -> str:
        return attribute_text(self.evaluated.evaluation.metric.shown_name)


def samples(experiment: EvaluatedExperiment) -> Iterator[ScoredSample]:
    """Yield every evaluation with its hash: the id of its step, or of its scenario for a metric of the conversation.

    From the second repetition on `-r2`, `-r3`... is appended, and where the same metric judges the same step more than
    once, e.g. with other parameters, `-2`, `-3`...; a file without ids gets them made of its content.
    """
    seen: Counter[tuple[str, str]] = Counter()
    for evaluated in walk_evaluations(experiment):
        identity = _identity(evaluated)
        key = (evaluated.evaluation.metric.shown_name, identity)
        seen[key] += 1
        yield ScoredSample(evaluated, identity if seen[key] == 1 else f"{identity}-{seen[key]}")


def score_points(found: Iterable[ScoredSample], execution: Execution, *, content: bool) -> Iterator[Point]:
    """Yield one point per score. Without `content` the user's input stays empty."""
    for sample in found:
        if sample.score is not None:
            yield Point(names.EVALUATION_METRIC, float(sample.score), _sample_attributes(sample, execution, content))


def aggregate_points(summary: Summary, execution: Execution) -> Iterator[Point]:
    """Yield pass rate, mean and missing scores of each metric, and what the judge used, where it is known."""
    shared: dict[str, str | int] = {
        names.WORKFLOW_NAME: attribute_text(execution.workflow_name),
        names.EXECUTION_NUMBER: execution.execution_number,
    }
    for metric in summary.metrics:
        labels = shared | {names.NAME: attribute_text(metric.name)}
        if metric.counts.pass_rate is not None:
            yield Point(names.PASS_RATE, float(metric.counts.pass_rate), labels)
        if metric.mean is not None:
            yield Point(names.SCORE_MEAN, float(metric.mean), labels)
        for result, number in (("error", metric.counts.errors), ("skipped", metric.counts.skipped)):
            yield Point(names.ERRORS, float(number), labels | {names.RESULT: result})
    usage = summary.judge_usage
    for kind, tokens in ((names.INPUT_TOKENS, usage.input_tokens), (names.OUTPUT_TOKENS, usage.output_tokens)):
        if tokens is not None:
            yield Point(names.TOKEN_USAGE, float(tokens), shared | {names.TYPE: kind})
    if usage.cost_usd is not None:
        yield Point(names.COST, float(usage.cost_usd), shared)


def _sample_attributes(sample: ScoredSample, execution: Execution, content: bool) -> Attributes:
    where = sample.evaluated
    asked = where.step or next(iter(where.scenario.steps), None)
    said = printable(asked.input, defaults.USER_INPUT_TRUNCATED) if asked and content else ""
    return {
        names.NAME: sample.name,
        names.WORKFLOW_NAME: attribute_text(execution.workflow_name),
        names.EXECUTION_ID: attribute_text(execution.execution_id),
        names.EXECUTION_NUMBER: execution.execution_number,
        names.TRACE_ID: where.scenario.trace_id or "",
        names.SAMPLE_HASH: sample.hash,
        names.USER_INPUT_TRUNCATED: attribute_text(said),
        names.SCENARIO: attribute_text(where.scenario.name),
        names.STEP: WHOLE_SCENARIO if where.position is None else where.position + 1,
        names.RESULT: where.status,
    }


def _identity(evaluated: PlacedEvaluation) -> str:
    scenario, step = evaluated.scenario, evaluated.step
    if step is not None:
        found = step.id or content_id("stp", scenario.id, scenario.name, evaluated.position, step.input)
    else:
        found = scenario.id or content_id("scn", scenario.name, [step.input for step in scenario.steps])
    return found if scenario.repetition == 1 else f"{found}-r{scenario.repetition}"
