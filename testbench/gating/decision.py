"""From an evaluated experiment and a policy to a verdict; called by `gate.py`, and by `visualize.py` for the headline.

What could not be judged never counts as passed and never as failed: the pass rate is known only between two bounds, one
where all of it would have failed and one where all of it would have passed. Pass needs the lower bound to reach the
policy, fail needs the upper bound to miss it, and whatever lies between is no verdict. So an error that is added, or a
score that goes missing, can never turn a run into a better one. A baseline can only make the verdict worse.
"""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from testbench.errors import ExitCode
from testbench.results.checks import Check, collect_checks, repetitions_of
from testbench.results.comparison import Baseline, part_of_a_run, to_baseline
from testbench.results.intervals import Observation, rate_interval
from testbench.results.selection import apply_policy
from testbench.results.summary import Summary, find_missing_metrics, is_quarantined, summarize, walk_evaluations
from testbench.results.verdict import (
    BaselineComparison,
    CheckCounts,
    Coverage,
    FlakyCheck,
    Policy,
    Repeats,
    TagVerdict,
    Verdict,
    VerdictWord,
)
from testbench.schema.models import EvaluatedExperiment, EvaluatedScenario, EvaluatedStep, Failure

EXIT_CODES: dict[VerdictWord, ExitCode] = {
    "pass": ExitCode.DONE,
    "fail": ExitCode.VERDICT_FAIL,
    "error": ExitCode.NOT_DONE,
    "nothing": ExitCode.NOTHING_TO_DO,
}
CONTRADICTION = " (result and score contradict each other)"
SHARD = re.compile(r"[0-9]{1,6}/[0-9]{1,6}")


@dataclass(frozen=True)
class WeightedCounts:
    """Attempts by weight, exact: with weights of 1 these are their numbers.

    Decimal fractions, as a user writes weights and rates, so that 9 of 10 is a rate of 0.9 and not just below it.
    """

    passed: Fraction
    failed: Fraction
    errors: Fraction

    @property
    def total(self) -> Fraction:
        return self.passed + self.failed + self.errors


def reach_verdict(experiment: EvaluatedExperiment, policy: Policy, baseline: Baseline | None = None) -> Verdict:
    """Return the verdict on a run, or on the part of it that the policy selects, also against a baseline.

    Never raises: an empty or unscored experiment is a verdict of its own. The baseline must have been selected by the
    same policy.
    """
    experiment = apply_policy(experiment, policy)
    found = collect_checks(experiment)
    counted = [check for check in found if not check.quarantine]
    counts, weights = _count_attempts(counted), _count_by_weight(counted)
    comparison = _compare_with(baseline, experiment, policy) if baseline else None
    word = _decide_with_baseline(_decide(counted, policy), comparison)
    sentence = _write_sentence(word, counted, policy, comparison)
    if word != "nothing" and (part := part_of_a_run(experiment)) is not None:
        named = f"shard {part}" if SHARD.fullmatch(part) else "a shard"
        word, sentence = "error", f"NO VERDICT: this is {named} of a run and not the whole; merge them first."
    return Verdict(
        verdict=word,
        exit_code=int(EXIT_CODES[word]),
        sentence=sentence,
        reasons=list_reasons(experiment, found),
        experiment_id=experiment.id,
        policy=policy,
        checks=counts,
        pass_rate=_pass_rate(weights),
        interval=rate_interval(_to_observations(counted)),
        error_rate=counts.errors / counts.total if counts.total else None,
        coverage=_measure_coverage(counted),
        quarantined=_count_attempts(check for check in found if check.quarantine),
        tags=tuple(_decide_tag(tag, counted, policy) for tag in sorted({tag for one in found for tag in one.tags})),
        repeats=summarize_repetitions(counted),
        baseline=comparison,
    )


def _compare_with(baseline: Baseline, experiment: EvaluatedExperiment, policy: Policy) -> BaselineComparison:
    # imported here: SciPy takes a second to load, and only this needs it
    from testbench.gating.regression import compare_runs

    return compare_runs(baseline, to_baseline(experiment), policy)


def _decide_with_baseline(word: VerdictWord, comparison: BaselineComparison | None) -> VerdictWord:
    if word != "pass" or comparison is None:
        return word
    if not comparison.comparable:
        return "error"
    return "fail" if comparison.regressed else "pass"


def _decide(counted: Sequence[Check], policy: Policy) -> VerdictWord:
    counts, weights = _count_attempts(counted), _count_by_weight(counted)
    if counts.total == 0:
        return "nothing"
    if counts.judged == 0 or _too_many_errors(counts, policy) or _too_few_judged(counted, policy):
        return "error"
    at_least, at_most = weights.passed / weights.total, (weights.passed + weights.errors) / weights.total
    required = _to_fraction(policy.min_pass_rate)
    if at_least >= required:
        return "pass"
    return "fail" if at_most < required else "error"


def _too_many_errors(counts: CheckCounts, policy: Policy) -> bool:
    return Fraction(counts.errors, counts.total) > _to_fraction(policy.max_error_rate)


def _too_few_judged(counted: Sequence[Check], policy: Policy) -> bool:
    coverage = _measure_coverage(counted)
    return Fraction(coverage.judged, coverage.of) < _to_fraction(policy.min_coverage)


def _to_fraction(number: float) -> Fraction:
    return Fraction(repr(number))


def _count_attempts(found: Iterable[Check]) -> CheckCounts:
    verdicts = [attempt.verdict for check in found for attempt in check.attempts]
    return CheckCounts(passed=verdicts.count("pass"), failed=verdicts.count("fail"), errors=verdicts.count("error"))


def _count_by_weight(found: Sequence[Check]) -> WeightedCounts:
    passed, failed, errors = Fraction(), Fraction(), Fraction()
    for weight in {check.weight for check in found}:
        counts = _count_attempts(check for check in found if check.weight == weight)
        passed += _to_fraction(weight) * counts.passed
        failed += _to_fraction(weight) * counts.failed
        errors += _to_fraction(weight) * counts.errors
    return WeightedCounts(passed, failed, errors)


def _pass_rate(weights: WeightedCounts) -> float | None:
    judged = weights.passed + weights.failed
    return float(weights.passed / judged) if judged else None


def _measure_coverage(counted: Sequence[Check]) -> Coverage:
    verdicts = [attempt.verdict for check in counted for attempt in check.attempts]
    return Coverage(judged=verdicts.count("pass") + verdicts.count("fail"), of=len(verdicts))


def _to_observations(counted: Sequence[Check]) -> list[Observation]:
    return [
        Observation(check.cluster, float(attempt.verdict == "pass"), check.weight)
        for check in counted
        for attempt in check.attempts
        if attempt.verdict in ("pass", "fail")
    ]


def _decide_tag(tag: str, counted: Sequence[Check], policy: Policy) -> TagVerdict:
    tagged = [check for check in counted if tag in check.tags]
    return TagVerdict(
        tag=tag,
        verdict=_decide(tagged, policy),
        checks=_count_attempts(tagged),
        pass_rate=_pass_rate(_count_by_weight(tagged)),
    )


# --- repetitions -----------------------------------------------------------------------------------------------------


def pass_at_k(attempts: int, passed: int, k: int) -> float:
    """Return the chance that at least one of `k` attempts passes, estimated without bias from `passed` of `attempts`.

    1 - C(n-c, k) / C(n, k): Chen et al., arXiv:2107.03374, equation 1.
    """
    return 1 - math.comb(attempts - passed, k) / math.comb(attempts, k)


def pass_all_k(attempts: int, passed: int, k: int) -> float:
    """Return the chance that all of `k` attempts pass (pass^k), estimated without bias from `passed` of `attempts`.

    C(c, k) / C(n, k): Yao et al., arXiv:2406.12045.
    """
    return math.comb(passed, k) / math.comb(attempts, k)


def summarize_repetitions(checks: Sequence[Check]) -> Repeats | None:
    """Return what the repetitions of counted checks say; None where everything ran once."""
    number = max((len(check.attempts) for check in checks), default=1)
    if number < 2:
        return None
    counts = [(len(check.attempts), check.passed) for check in checks if check.verdict != "unjudged"]
    if not counts:
        return None
    fewest = min(attempts for attempts, _ in counts)
    return Repeats(
        repetitions=number,
        pass_at={k: statistics.fmean(pass_at_k(n, c, k) for n, c in counts) for k in range(1, fewest + 1)},
        pass_all={k: statistics.fmean(pass_all_k(n, c, k) for n, c in counts) for k in range(1, fewest + 1)},
        flaky=tuple(
            FlakyCheck(id=check.id, scenario=check.scenario, title=check.title, label=check.label)
            for check in sorted(checks, key=lambda check: (check.scenario, check.title, check.key))
            if check.flaky
        ),
    )


# --- in words --------------------------------------------------------------------------------------------------------


def _write_sentence(
    word: VerdictWord, counted: Sequence[Check], policy: Policy, comparison: BaselineComparison | None
) -> str:
    counts, noun = _count_attempts(counted), _name_checks(counted)
    required = f"{show_percent(policy.min_pass_rate)} required"
    unjudged = f"{counts.errors} of {counts.total} {noun} could not be judged"
    if word == "nothing":
        return "NO VERDICT: there is nothing to judge: no step has a metric that gates."
    if word == "error":
        return f"NO VERDICT: {_say_why_none(counted, policy, unjudged)}."
    rest = f", {unjudged}" if counts.errors else ""
    against = f". {comparison.sentence}" if comparison else "."
    return f"{word.upper()}: {_say_passed(counted, noun)} passed ({required}){rest}{against}"


def _say_why_none(counted: Sequence[Check], policy: Policy, unjudged: str) -> str:
    counts, coverage = _count_attempts(counted), _measure_coverage(counted)
    if counts.judged == 0:
        return unjudged
    if _decide(counted, policy) == "pass":
        return f"{_say_passed(counted, _name_checks(counted))} passed, but the baseline is not comparable"
    if _too_few_judged(counted, policy) and not _too_many_errors(counts, policy):
        return f"{coverage.judged} of {coverage.of} were judged ({show_percent(policy.min_coverage)} required)"
    required = show_percent(policy.min_pass_rate)
    return f"{unjudged}; {counts.passed} of the other {counts.judged} passed ({required} required)"


def _say_passed(counted: Sequence[Check], noun: str) -> str:
    counts, weights = _count_attempts(counted), _count_by_weight(counted)
    weighted = len({check.weight for check in counted}) > 1
    by_weight = f", {show_percent(weights.passed / weights.total)} by weight," if weighted else ""
    return f"{counts.passed} of {counts.total} {noun}{by_weight}"


def _name_checks(counted: Sequence[Check]) -> str:
    gated = [check for check in counted if check.verdict != "unjudged"]
    conversations = any(check.whole for check in gated)
    noun = "steps and conversations" if conversations else "steps"
    repeated = any(len(check.attempts) > 1 for check in gated)
    return f"attempts at {len(gated)} {noun}" if repeated else noun


def show_percent(proportion: float | Fraction) -> str:
    """Return a proportion as a percentage, e.g.

    `97.5%`; what is not quite all never reads as 100%, nor what is as 0%.
    """
    shown = f"{float(proportion):.1%}"
    if (shown == "100.0%" and proportion < 1) or (shown == "0.0%" and proportion > 0):
        shown = f"{'>99.9%' if proportion > 0.5 else '<0.1%'}"
    return shown.replace(".0%", "%")


# --- reasons ---------------------------------------------------------------------------------------------------------


def list_reasons(experiment: EvaluatedExperiment, found: Sequence[Check]) -> tuple[str, ...]:
    """Return what failed and what could not be judged, by metric and kind.

    The same lines in whatever order the steps are.
    """
    return (
        *sorted(_list_missed_thresholds(summarize(experiment))),
        *_list_agent_failures(experiment),
        *sorted(_list_judging_failures(experiment)),
        *_list_lost_repetitions(experiment, found),
        *_list_uncounted_checks(found),
    )


def _list_missed_thresholds(summary: Summary) -> Iterator[str]:
    for metric in summary.metrics:
        if metric.gating and metric.counts.failed:
            yield f"{metric.name}: {metric.counts.failed} of {metric.counts.total} below the threshold"


def _list_agent_failures(experiment: EvaluatedExperiment) -> Iterator[str]:
    steps = [step for scenario in experiment.scenarios for step in scenario.steps if not step.quarantine]
    kinds = Counter(step.error.kind for step in steps if step.error is not None)
    for kind, count in sorted(kinds.items()):
        yield f"agent: {count} of {len(steps)} steps: {kind}"
    if skipped := sum(step.status == "skipped" for step in steps):
        yield f"agent: {skipped} of {len(steps)} steps skipped after an earlier one failed"


def _list_judging_failures(experiment: EvaluatedExperiment) -> Iterator[str]:
    kinds = Counter(
        (
            item.evaluation.metric.shown_name,
            item.status,
            _describe_kind(item.evaluation.result.error, item.evaluation.result.score),
        )
        for item in walk_evaluations(experiment)
        if item.evaluation.metric.gating and (item.step is None or item.step.status == "ok") and not item.quarantined
        if item.status in ("error", "skipped")
    )
    for (name, status, kind), count in kinds.items():
        yield f"{name}: {count} {status}{kind}"
    absent = Counter(
        metric.shown_name
        for scenario in experiment.scenarios
        for owner in _walk_answered(scenario)
        for metric in find_missing_metrics(owner)
        if metric.gating
    )
    for name, count in absent.items():
        yield f"{name}: {count} without any result in the file"


def _walk_answered(scenario: EvaluatedScenario) -> Iterator[EvaluatedStep | EvaluatedScenario]:
    yield from (step for step in scenario.steps if step.status == "ok" and not step.quarantine)
    if not is_quarantined(scenario):
        yield scenario


def _describe_kind(failure: Failure | None, score: float | None) -> str:
    if score is not None:
        return CONTRADICTION
    return f" ({failure.kind})" if failure else ""


def _list_lost_repetitions(experiment: EvaluatedExperiment, found: Sequence[Check]) -> Iterator[str]:
    """Repetitions that are missing, or in the file more than once."""
    expected = repetitions_of(experiment)
    keys = Counter((scenario.provider, scenario.id, scenario.repetition) for scenario in experiment.scenarios)
    twice = sum(count > 1 for (_, identity, _), count in keys.items() if identity)
    if twice:
        yield f"file: {twice} scenarios occur more than once"
    ran = Counter((scenario.provider, scenario.id or scenario.name) for scenario in experiment.scenarios)
    if short := sum(count < expected for count in ran.values()):
        yield f"file: {short} of {len(ran)} scenarios have fewer than {expected} repetitions"


def _list_uncounted_checks(found: Sequence[Check]) -> Iterator[str]:
    if apart := sum(check.quarantine for check in found):
        passed = sum(check.verdict == "pass" for check in found if check.quarantine)
        yield f"quarantine: {apart} not counted, of which {passed} passed"
    if ungated := sum(check.verdict == "unjudged" and not check.quarantine for check in found):
        yield f"not gated: {ungated} of {len(found)} have no metric that gates"
