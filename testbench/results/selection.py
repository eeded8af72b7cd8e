"""What of a run is judged, and how strictly, where a policy says other than the file: `--only` and `--threshold`.

Called by `testbench.gating.decision`, and by `visualize.py` scenario by scenario, so that report and gate agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from testbench import defaults
from testbench.errors import InputError
from testbench.results.verdict import Policy
from testbench.schema.models import EvaluatedExperiment, EvaluatedScenario, EvaluatedStep, Evaluation, Metric


def apply_policy(experiment: EvaluatedExperiment, policy: Policy) -> EvaluatedExperiment:
    """Return the experiment as the policy sees it. Doing it twice is doing it once."""
    if not policy.only and not policy.thresholds:
        return experiment
    kept = (scenario for scenario in experiment.scenarios if is_selected(scenario, policy.only))
    return experiment.model_copy(update={"scenarios": tuple(regrade(one, policy.thresholds) for one in kept)})


def is_selected(scenario: EvaluatedScenario, only: Sequence[str]) -> bool:
    """Return whether a scenario has one of the tags; without tags all are selected."""
    return not only or any(tag in only for tag in scenario.tags)


def regrade(scenario: EvaluatedScenario, thresholds: Mapping[str, float]) -> EvaluatedScenario:
    """Return the scenario judged anew from the scores that it holds; metrics that `thresholds` does not name stay."""
    if not thresholds:
        return scenario
    steps = tuple(
        step.model_copy(
            update={
                "metrics": tuple(_tighten(metric, thresholds) for metric in step.metrics),
                "evaluations": tuple(_regrade_evaluation(evaluation, thresholds) for evaluation in step.evaluations),
            }
        )
        for step in scenario.steps
    )
    return scenario.model_copy(
        update={
            "steps": steps,
            "metrics": tuple(_tighten(metric, thresholds) for metric in scenario.metrics),
            "evaluations": tuple(_regrade_evaluation(evaluation, thresholds) for evaluation in scenario.evaluations),
        }
    )


def check_policy_matches(experiment: EvaluatedExperiment, policy: Policy) -> None:
    """Check that a policy names what the run has: a misspelt name must not make a gate that lets everything through.

    Raises:
        InputError: a tag that no scenario has, or a threshold of a metric that nothing asks for.
    """
    if not experiment.scenarios:
        return
    tags = {tag for scenario in experiment.scenarios for tag in scenario.tags}
    for tag in policy.only:
        if tag not in tags:
            known = f"The tags of this run: {', '.join(sorted(tags))}." if tags else "No scenario of this run has tags."
            raise InputError(f"--only {tag!r}: no scenario has this tag", hint=known)
    names = {metric.shown_name for scenario in experiment.scenarios for metric in _metrics_of(scenario)}
    for name in policy.thresholds:
        if not any(_is_named(name, metric) for metric in names):
            raise InputError(
                f"--threshold {name}: no step has this metric",
                hint=f"The metrics: {', '.join(sorted(names)) or 'none'}.",
            )


def _metrics_of(scenario: EvaluatedScenario) -> list[Metric]:
    owners: tuple[EvaluatedScenario | EvaluatedStep, ...] = (scenario, *scenario.steps)
    return [
        metric
        for owner in owners
        for metric in (*owner.metrics, *(evaluation.metric for evaluation in owner.evaluations))
    ]


def _is_named(name: str, shown_name: str) -> bool:
    """Return whether `name` means the metric; without a framework it is one of the default framework, as everywhere."""
    return shown_name.lower() in (name.lower(), f"{defaults.METRIC_FRAMEWORK}.{name}".lower())


def _tighten(metric: Metric, thresholds: Mapping[str, float]) -> Metric:
    found = [threshold for name, threshold in thresholds.items() if _is_named(name, metric.shown_name)]
    return metric.model_copy(update={"threshold": max(found)}) if found else metric


def _regrade_evaluation(evaluation: Evaluation, thresholds: Mapping[str, float]) -> Evaluation:
    metric, result = _tighten(evaluation.metric, thresholds), evaluation.result
    if metric is evaluation.metric:
        return evaluation
    if result.score is not None and metric.threshold is not None:
        threshold = {"threshold": metric.threshold} if "threshold" in result.details else {}
        word = "pass" if result.score >= metric.threshold else "fail"
        result = result.model_copy(update={"result": word, "details": result.details | threshold})
    return evaluation.model_copy(update={"metric": metric, "result": result})
