"""What a verdict counts: a check is a step, or a whole conversation, with all attempts at it.

    EvaluatedExperiment -> Check, each with one Attempt per repetition

Read by `testbench.gating` and by `testbench.results.comparison`. A repetition that other scenarios have and this one
has not is an attempt in error, and so is one that the file holds twice, or that nothing gates while something gates
the others: none of them may look like a pass.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from testbench.results.summary import (
    JUDGED,
    CheckVerdict,
    cluster_of,
    decide_scenario,
    decide_step,
    is_quarantined,
    status_of,
)
from testbench.schema.models import EvaluatedExperiment, EvaluatedScenario, EvaluatedStep, Metric

WHOLE = "whole conversation"
VERDICT_SEVERITY: tuple[CheckVerdict, ...] = ("error", "fail", "pass", "unjudged")
"""The verdict on several attempts is the first of these that one of them has."""


@dataclass(frozen=True)
class Attempt:
    """One repetition of a check: its verdict, and its scores by gating metric."""

    repetition: int
    verdict: CheckVerdict
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Check:
    """A step, or (`whole`) a conversation. `key` pairs it with the same one of another run, `cluster` is its scenario.

    `metrics` holds the definition of each gating metric, by name: what must be equal for results to be comparable.
    """

    key: str
    id: str
    cluster: str
    scenario: str
    title: str
    weight: float
    tags: tuple[str, ...]
    quarantine: bool
    metrics: Mapping[str, str]
    attempts: tuple[Attempt, ...]
    whole: bool = False

    @property
    def verdict(self) -> CheckVerdict:
        """The worst attempt's: with repetitions a check has passed only if all of them did."""
        found = {attempt.verdict for attempt in self.attempts}
        return next(word for word in VERDICT_SEVERITY if word in found)

    @property
    def passed(self) -> int:
        return sum(attempt.verdict == "pass" for attempt in self.attempts)

    @property
    def judged(self) -> int:
        return sum(attempt.verdict in JUDGED for attempt in self.attempts)

    @property
    def label(self) -> str:
        """How often it passed, e.g. `3/5`."""
        return f"{self.passed}/{len(self.attempts)}"

    @property
    def flaky(self) -> bool:
        """Whether it passed and failed without any change."""
        return 0 < self.passed < self.judged

    @property
    def scores(self) -> dict[str, float]:
        """The mean of each gating metric over the attempts that have one."""
        names = dict.fromkeys(name for attempt in self.attempts for name in attempt.scores)
        return {
            name: statistics.fmean(attempt.scores[name] for attempt in self.attempts if name in attempt.scores)
            for name in names
        }


@dataclass(frozen=True)
class _CheckAttempt:
    scenario: EvaluatedScenario
    owner: EvaluatedStep | EvaluatedScenario
    title: str
    attempt: Attempt


def collect_checks(experiment: EvaluatedExperiment) -> tuple[Check, ...]:
    """Return all checks in the order of their first appearance; those that nothing gates are `unjudged`."""
    groups: dict[str, list[_CheckAttempt]] = {}
    twice: Counter[tuple[str, int]] = Counter()
    for scenario in experiment.scenarios:
        for position, seen in _attempts_in(scenario):
            key = key_of_check(scenario, position)
            twice[key, scenario.repetition] += 1
            if not seen.owner.id and twice[key, scenario.repetition] > 1:
                key = f"{key}\0{twice[key, scenario.repetition]}"  # without ids nothing says that it is the same one
            groups.setdefault(key, []).append(seen)
    repetitions = repetitions_of(experiment)
    held: dict[str, set[int]] = {}
    for scenario in experiment.scenarios:
        held.setdefault(cluster_of(scenario), set()).add(scenario.repetition)
    return tuple(
        _build_check(key, seen, _due_repetitions(seen[0].scenario, repetitions, held), experiment.default_threshold)
        for key, seen in groups.items()
    )


def _due_repetitions(scenario: EvaluatedScenario, repetitions: int, held: Mapping[str, set[int]]) -> Collection[int]:
    """Return the repetitions in which a check has to be found.

    With named systems each scenario has its own number of them, and a conversation whose user is played may have fewer
    steps than another: there only conversations that are missing are missed.
    """
    if scenario.provider is None:
        return range(1, repetitions + 1)
    own = held[cluster_of(scenario)]
    return set(range(1, max(own) + 1)) - own


def repetitions_of(experiment: EvaluatedExperiment) -> int:
    """Return how often each scenario was to be run: as the run's record says, or as the file shows if that is more."""
    asked = experiment.run.repeats if experiment.run else 1
    return max([asked, *(scenario.repetition for scenario in experiment.scenarios)])


def key_of_check(scenario: EvaluatedScenario, position: int | None) -> str:
    """Return what pairs a step (or, without position, the whole conversation) with the same one of another run."""
    identity = (scenario.id if position is None else scenario.steps[position].id) or ""
    if not identity:
        title = "" if position is None else scenario.steps[position].input
        identity = f"{scenario.name}\0{position}\0{title}"
    return f"{scenario.provider}\0{identity}" if scenario.provider else identity


def find_gating_scores(owner: EvaluatedStep | EvaluatedScenario) -> dict[str, float]:
    """Return the scores that decide over a step or conversation, by metric. A step that failed has none.

    Where a metric judges it more than once, the lowest counts.
    """
    if isinstance(owner, EvaluatedStep) and owner.status != "ok":
        return {}
    found: dict[str, float] = {}
    for evaluation in owner.evaluations:
        score, name = evaluation.result.score, evaluation.metric.shown_name
        if score is not None and evaluation.metric.gating and status_of(evaluation) in JUDGED:
            found[name] = min(score, found.get(name, score))
    return found


def _attempts_in(scenario: EvaluatedScenario) -> Iterator[tuple[int | None, _CheckAttempt]]:
    for position, step in enumerate(scenario.steps):
        attempt = Attempt(scenario.repetition, decide_step(step), find_gating_scores(step))
        yield position, _CheckAttempt(scenario, step, step.input, attempt)
    if scenario.evaluations or scenario.metrics:
        attempt = Attempt(scenario.repetition, decide_scenario(scenario), find_gating_scores(scenario))
        yield None, _CheckAttempt(scenario, scenario, WHOLE, attempt)


def _build_check(key: str, seen: list[_CheckAttempt], due: Collection[int], default_threshold: float) -> Check:
    first = seen[0]
    found = Counter(one.attempt.repetition for one in seen)
    wanted = any(one.attempt.verdict != "unjudged" for one in seen)
    attempts = [
        Attempt(one.attempt.repetition, "error", {})
        if wanted and (found[one.attempt.repetition] > 1 or one.attempt.verdict == "unjudged")
        else one.attempt
        for one in seen
    ]
    lost: CheckVerdict = "error" if wanted else "unjudged"
    attempts += [Attempt(number, lost, {}) for number in due if number not in found]
    return Check(
        key=key,
        id=first.owner.id,
        cluster=cluster_of(first.scenario),
        scenario=first.scenario.name,
        title=first.title,
        weight=first.scenario.weight,
        tags=tuple(sorted(set(first.scenario.tags))),
        quarantine=is_quarantined(first.owner),
        metrics=_describe_metrics(first.owner, default_threshold),
        attempts=tuple(sorted(attempts, key=lambda attempt: attempt.repetition)),
        whole=isinstance(first.owner, EvaluatedScenario),
    )


def _describe_metrics(owner: EvaluatedStep | EvaluatedScenario, default_threshold: float) -> dict[str, str]:
    """Return the thresholds and parameters of each gating metric, by its name, as canonical text."""
    metrics = owner.metrics or tuple(evaluation.metric for evaluation in owner.evaluations)
    found: dict[str, list[str]] = {}
    for metric in metrics:
        if metric.gating:
            found.setdefault(metric.shown_name, []).append(_describe_metric(metric, default_threshold))
    return {name: "; ".join(sorted(texts)) for name, texts in found.items()}


def _describe_metric(metric: Metric, default_threshold: float) -> str:
    threshold = default_threshold if metric.threshold is None else metric.threshold
    parameters = json.dumps(metric.parameters, sort_keys=True, ensure_ascii=False, default=str)
    kind = f"{metric.metric_name}, " if metric.label else ""
    return f"{kind}threshold {threshold:g}" + (f", parameters {parameters}" if metric.parameters else "")
