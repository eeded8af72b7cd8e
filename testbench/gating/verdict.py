"""From an evaluated experiment and a policy to a verdict; called by `gate.py`, and by `visualize.py` for the headline.

What could not be judged never counts as passed and never as failed: the pass rate is known only between two bounds, one
where all of it would have failed and one where all of it would have passed. Pass needs the lower bound to reach the
policy, fail needs the upper bound to miss it, and whatever lies between is no verdict. So an error that is added, or a
score that goes missing, can never turn a run into a better one.
"""

from __future__ import annotations

from collections import Counter

from testbench.errors import ExitCode
from testbench.schema.models import EvaluatedExperiment
from testbench.schema.summary import Summary, evaluations, summarize
from testbench.schema.verdict import Policy, Tally, Verdict, VerdictWord

EXIT_CODES: dict[VerdictWord, ExitCode] = {
    "pass": ExitCode.DONE,
    "fail": ExitCode.VERDICT_FAIL,
    "error": ExitCode.NOT_DONE,
    "nothing": ExitCode.NOTHING_TO_DO,
}


def reach_verdict(experiment: EvaluatedExperiment, policy: Policy) -> Verdict:
    """The verdict on a run. Never raises: an empty or unscored experiment is a verdict of its own."""
    summary = summarize(experiment)
    checks = _tally(summary)
    word = _decide(checks, policy)
    judged = checks.passed + checks.failed
    return Verdict(
        verdict=word,
        exit_code=int(EXIT_CODES[word]),
        sentence=_sentence(word, checks, policy, _noun(summary)),
        reasons=tuple(_reasons(experiment, summary)),
        experiment_id=experiment.id,
        policy=policy,
        checks=checks,
        pass_rate=checks.passed / judged if judged else None,
        error_rate=checks.errors / checks.total if checks.total else None,
    )


def _tally(summary: Summary) -> Tally:
    return Tally(
        passed=summary.steps.passed + summary.conversations.passed,
        failed=summary.steps.failed + summary.conversations.failed,
        errors=summary.steps.errors + summary.conversations.errors,
    )


def _decide(checks: Tally, policy: Policy) -> VerdictWord:
    if checks.total == 0:
        return "nothing"
    if checks.passed + checks.failed == 0 or checks.errors / checks.total > policy.max_error_rate:
        return "error"
    at_least, at_most = checks.passed / checks.total, (checks.passed + checks.errors) / checks.total
    if at_least >= policy.min_pass_rate:
        return "pass"
    return "fail" if at_most < policy.min_pass_rate else "error"


def _noun(summary: Summary) -> str:
    conversations = summary.conversations.judged + summary.conversations.errors
    return "steps and conversations" if conversations else "steps"


def _sentence(word: VerdictWord, checks: Tally, policy: Policy, noun: str) -> str:
    required = f"{_percent(policy.min_pass_rate)} required"
    unjudged = f"{checks.errors} of {checks.total} {noun} could not be judged"
    if word == "nothing":
        return "NO VERDICT: there is nothing to judge: no step has a metric that gates."
    if word == "error":
        judged = checks.passed + checks.failed
        if judged == 0:
            return f"NO VERDICT: {unjudged}."
        return f"NO VERDICT: {unjudged}; {checks.passed} of the other {judged} passed ({required})."
    rest = f", {unjudged}" if checks.errors else ""
    return f"{word.upper()}: {checks.passed} of {checks.total} {noun} passed ({required}){rest}."


def _reasons(experiment: EvaluatedExperiment, summary: Summary) -> list[str]:
    missed = [
        f"{metric.name}: {metric.counts.failed} of {metric.counts.total} below the threshold"
        for metric in summary.metrics
        if metric.gating and metric.counts.failed
    ]
    steps = [step for scenario in experiment.scenarios for step in scenario.steps]
    agent = Counter(step.error.kind for step in steps if step.error is not None)
    skipped = sum(step.status == "skipped" for step in steps)
    judge = Counter(
        (item.evaluation.metric.metric_name, item.status, _kind(item.evaluation.result.error))
        for item in evaluations(experiment)
        if item.evaluation.metric.gating and (item.step is None or item.step.status == "ok")
        if item.status in ("error", "skipped")
    )
    return [
        *missed,
        *(f"agent: {count} of {len(steps)} steps: {kind}" for kind, count in sorted(agent.items())),
        *([f"agent: {skipped} of {len(steps)} steps skipped after an earlier one failed"] if skipped else []),
        *(f"{name}: {count} {status}{kind}" for (name, status, kind), count in sorted(judge.items())),
    ]


def _kind(failure: object) -> str:
    kind = getattr(failure, "kind", None)
    return f" ({kind})" if kind else ""


def _percent(proportion: float) -> str:
    return f"{proportion:.1%}".replace(".0%", "%")
