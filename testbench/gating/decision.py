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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from testbench.errors import ExitCode
from testbench.gating.reasons import reasons
from testbench.results.checks import Check, checks
from testbench.results.comparison import Baseline, part_of_a_run, to_baseline
from testbench.results.intervals import Outcome, rate_interval
from testbench.results.selection import selected
from testbench.results.verdict import (
    BaselineComparison,
    Coverage,
    FlakyCheck,
    Policy,
    Repeats,
    TagVerdict,
    Tally,
    Verdict,
    VerdictWord,
)
from testbench.schema.models import EvaluatedExperiment


def pass_at_k(attempts: int, passed: int, k: int) -> float:
    """Chance that at least one of `k` attempts passes, estimated without bias from `passed` of `attempts`.

    1 - C(n-c, k) / C(n, k): Chen et al., arXiv:2107.03374, equation 1.
    """
    return 1 - math.comb(attempts - passed, k) / math.comb(attempts, k)


def pass_all_k(attempts: int, passed: int, k: int) -> float:
    """Chance that all of `k` attempts pass (pass^k), estimated without bias from `passed` of `attempts`.

    C(c, k) / C(n, k): Yao et al., arXiv:2406.12045.
    """
    return math.comb(passed, k) / math.comb(attempts, k)


def repeats(checks: Sequence[Check]) -> Repeats | None:
    """The repetitions of counted checks; None where everything ran once."""
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


EXIT_CODES: dict[VerdictWord, ExitCode] = {
    "pass": ExitCode.DONE,
    "fail": ExitCode.VERDICT_FAIL,
    "error": ExitCode.NOT_DONE,
    "nothing": ExitCode.NOTHING_TO_DO,
}
SHARD = re.compile(r"[0-9]{1,6}/[0-9]{1,6}")


@dataclass(frozen=True)
class Masses:
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
    """The verdict on a run, or on the part of it that the policy selects, also against a baseline.

    Never raises: an empty or unscored experiment is a verdict of its own. The baseline must have been selected by the
    same policy.
    """
    experiment = selected(experiment, policy)
    found = checks(experiment)
    counted = [check for check in found if not check.quarantine]
    tally, masses = _tally(counted), _masses(counted)
    comparison = _against(baseline, experiment, policy) if baseline else None
    word = _with_baseline(_decide(counted, policy), comparison)
    sentence = _sentence(word, counted, policy, comparison)
    if word != "nothing" and (part := part_of_a_run(experiment)) is not None:
        named = f"shard {part}" if SHARD.fullmatch(part) else "a shard"
        word, sentence = "error", f"NO VERDICT: this is {named} of a run and not the whole; merge them first."
    return Verdict(
        verdict=word,
        exit_code=int(EXIT_CODES[word]),
        sentence=sentence,
        reasons=reasons(experiment, found),
        experiment_id=experiment.id,
        policy=policy,
        checks=tally,
        pass_rate=_rate(masses),
        interval=rate_interval(_outcomes(counted)),
        error_rate=tally.errors / tally.total if tally.total else None,
        coverage=_coverage(counted),
        quarantined=_tally(check for check in found if check.quarantine),
        tags=tuple(_tag_verdict(tag, counted, policy) for tag in sorted({tag for one in found for tag in one.tags})),
        repeats=repeats(counted),
        baseline=comparison,
    )


def _against(baseline: Baseline, experiment: EvaluatedExperiment, policy: Policy) -> BaselineComparison:
    # imported here: SciPy takes a second to load, and only this needs it
    from testbench.gating.regression import compare_runs

    return compare_runs(baseline, to_baseline(experiment), policy)


def _with_baseline(word: VerdictWord, comparison: BaselineComparison | None) -> VerdictWord:
    if word != "pass" or comparison is None:
        return word
    if not comparison.comparable:
        return "error"
    return "fail" if comparison.regressed else "pass"


def _decide(counted: Sequence[Check], policy: Policy) -> VerdictWord:
    tally, masses = _tally(counted), _masses(counted)
    if tally.total == 0:
        return "nothing"
    if tally.judged == 0 or _too_many_errors(tally, policy) or _too_few_judged(counted, policy):
        return "error"
    at_least, at_most = masses.passed / masses.total, (masses.passed + masses.errors) / masses.total
    required = _exact(policy.min_pass_rate)
    if at_least >= required:
        return "pass"
    return "fail" if at_most < required else "error"


def _too_many_errors(tally: Tally, policy: Policy) -> bool:
    return Fraction(tally.errors, tally.total) > _exact(policy.max_error_rate)


def _too_few_judged(counted: Sequence[Check], policy: Policy) -> bool:
    coverage = _coverage(counted)
    return Fraction(coverage.judged, coverage.of) < _exact(policy.min_coverage)


def _exact(number: float) -> Fraction:
    return Fraction(repr(number))


def _tally(found: Iterable[Check]) -> Tally:
    verdicts = [attempt.verdict for check in found for attempt in check.attempts]
    return Tally(passed=verdicts.count("pass"), failed=verdicts.count("fail"), errors=verdicts.count("error"))


def _masses(found: Sequence[Check]) -> Masses:
    passed, failed, errors = Fraction(), Fraction(), Fraction()
    for weight in {check.weight for check in found}:
        tally = _tally(check for check in found if check.weight == weight)
        passed += _exact(weight) * tally.passed
        failed += _exact(weight) * tally.failed
        errors += _exact(weight) * tally.errors
    return Masses(passed, failed, errors)


def _rate(masses: Masses) -> float | None:
    judged = masses.passed + masses.failed
    return float(masses.passed / judged) if judged else None


def _coverage(counted: Sequence[Check]) -> Coverage:
    verdicts = [attempt.verdict for check in counted for attempt in check.attempts]
    return Coverage(judged=verdicts.count("pass") + verdicts.count("fail"), of=len(verdicts))


def _outcomes(counted: Sequence[Check]) -> list[Outcome]:
    return [
        Outcome(check.cluster, float(attempt.verdict == "pass"), check.weight)
        for check in counted
        for attempt in check.attempts
        if attempt.verdict in ("pass", "fail")
    ]


def _tag_verdict(tag: str, counted: Sequence[Check], policy: Policy) -> TagVerdict:
    tagged = [check for check in counted if tag in check.tags]
    return TagVerdict(tag=tag, verdict=_decide(tagged, policy), checks=_tally(tagged), pass_rate=_rate(_masses(tagged)))


# --- in words --------------------------------------------------------------------------------------------------------


def _sentence(
    word: VerdictWord, counted: Sequence[Check], policy: Policy, comparison: BaselineComparison | None
) -> str:
    tally, noun = _tally(counted), _noun(counted)
    required = f"{percent(policy.min_pass_rate)} required"
    unjudged = f"{tally.errors} of {tally.total} {noun} could not be judged"
    if word == "nothing":
        return "NO VERDICT: there is nothing to judge: no step has a metric that gates."
    if word == "error":
        return f"NO VERDICT: {_why_none(counted, policy, unjudged)}."
    rest = f", {unjudged}" if tally.errors else ""
    against = f". {comparison.sentence}" if comparison else "."
    return f"{word.upper()}: {_passed(counted, noun)} passed ({required}){rest}{against}"


def _why_none(counted: Sequence[Check], policy: Policy, unjudged: str) -> str:
    tally, coverage = _tally(counted), _coverage(counted)
    if tally.judged == 0:
        return unjudged
    if _decide(counted, policy) == "pass":
        return f"{_passed(counted, _noun(counted))} passed, but the baseline is not comparable"
    if _too_few_judged(counted, policy) and not _too_many_errors(tally, policy):
        return f"{coverage.judged} of {coverage.of} were judged ({percent(policy.min_coverage)} required)"
    return f"{unjudged}; {tally.passed} of the other {tally.judged} passed ({percent(policy.min_pass_rate)} required)"


def _passed(counted: Sequence[Check], noun: str) -> str:
    tally, masses = _tally(counted), _masses(counted)
    weighted = len({check.weight for check in counted}) > 1
    by_weight = f", {percent(masses.passed / masses.total)} by weight," if weighted else ""
    return f"{tally.passed} of {tally.total} {noun}{by_weight}"


def _noun(counted: Sequence[Check]) -> str:
    gated = [check for check in counted if check.verdict != "unjudged"]
    conversations = any(check.whole for check in gated)
    noun = "steps and conversations" if conversations else "steps"
    repeated = any(len(check.attempts) > 1 for check in gated)
    return f"attempts at {len(gated)} {noun}" if repeated else noun


def percent(proportion: float | Fraction) -> str:
    """A proportion as a percentage, e.g. `97.5%`; what is not quite all never reads as 100%, nor what is as 0%."""
    shown = f"{float(proportion):.1%}"
    if (shown == "100.0%" and proportion < 1) or (shown == "0.0%" and proportion > 0):
        shown = f"{'>99.9%' if proportion > 0.5 else '<0.1%'}"
    return shown.replace(".0%", "%")
