"""Why a verdict is what it is, in lines for people: what failed and what could not be judged, by metric and kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from testbench.results.checks import Check, repetitions_of
from testbench.results.summary import Summary, evaluations, in_quarantine, missing_metrics, summarize
from testbench.schema.models import EvaluatedExperiment, EvaluatedScenario, EvaluatedStep, Failure

CONTRADICTION = " (result and score contradict each other)"


def reasons(experiment: EvaluatedExperiment, found: Sequence[Check]) -> tuple[str, ...]:
    """One line for each, the same whatever the order of the steps."""
    return (
        *sorted(_missed(summarize(experiment))),
        *_agent(experiment),
        *sorted(_judge(experiment)),
        *_lost(experiment, found),
        *_not_counted(found),
    )


def _missed(summary: Summary) -> Iterator[str]:
    for metric in summary.metrics:
        if metric.gating and metric.counts.failed:
            yield f"{metric.name}: {metric.counts.failed} of {metric.counts.total} below the threshold"


def _agent(experiment: EvaluatedExperiment) -> Iterator[str]:
    steps = [step for scenario in experiment.scenarios for step in scenario.steps if not step.quarantine]
    kinds = Counter(step.error.kind for step in steps if step.error is not None)
    for kind, count in sorted(kinds.items()):
        yield f"agent: {count} of {len(steps)} steps: {kind}"
    if skipped := sum(step.status == "skipped" for step in steps):
        yield f"agent: {skipped} of {len(steps)} steps skipped after an earlier one failed"


def _judge(experiment: EvaluatedExperiment) -> Iterator[str]:
    kinds = Counter(
        (
            item.evaluation.metric.shown_name,
            item.status,
            _kind(item.evaluation.result.error, item.evaluation.result.score),
        )
        for item in evaluations(experiment)
        if item.evaluation.metric.gating and (item.step is None or item.step.status == "ok") and not item.quarantined
        if item.status in ("error", "skipped")
    )
    for (name, status, kind), count in kinds.items():
        yield f"{name}: {count} {status}{kind}"
    absent = Counter(
        metric.shown_name
        for scenario in experiment.scenarios
        for owner in _answered(scenario)
        for metric in missing_metrics(owner)
        if metric.gating
    )
    for name, count in absent.items():
        yield f"{name}: {count} without any result in the file"


def _answered(scenario: EvaluatedScenario) -> Iterator[EvaluatedStep | EvaluatedScenario]:
    yield from (step for step in scenario.steps if step.status == "ok" and not step.quarantine)
    if not in_quarantine(scenario):
        yield scenario


def _kind(failure: Failure | None, score: float | None) -> str:
    if score is not None:
        return CONTRADICTION
    return f" ({failure.kind})" if failure else ""


def _lost(experiment: EvaluatedExperiment, found: Sequence[Check]) -> Iterator[str]:
    """Repetitions that are missing, or in the file more than once."""
    expected = repetitions_of(experiment)
    keys = Counter((scenario.provider, scenario.id, scenario.repetition) for scenario in experiment.scenarios)
    twice = sum(count > 1 for (_, identity, _), count in keys.items() if identity)
    if twice:
        yield f"file: {twice} scenarios occur more than once"
    ran = Counter((scenario.provider, scenario.id or scenario.name) for scenario in experiment.scenarios)
    if short := sum(count < expected for count in ran.values()):
        yield f"file: {short} of {len(ran)} scenarios have fewer than {expected} repetitions"


def _not_counted(found: Sequence[Check]) -> Iterator[str]:
    if apart := sum(check.quarantine for check in found):
        passed = sum(check.verdict == "pass" for check in found if check.quarantine)
        yield f"quarantine: {apart} not counted, of which {passed} passed"
    if ungated := sum(check.verdict == "unjudged" and not check.quarantine for check in found):
        yield f"not gated: {ungated} of {len(found)} have no metric that gates"
