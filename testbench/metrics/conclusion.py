"""How an evaluation ended: the last line, the exit code, and what was wrong. Pure; for `testbench/evaluate.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from testbench.errors import ExitCode
from testbench.metrics.evaluation import count_left_out_for_cost
from testbench.results.summary import Summary, summarize, walk_evaluations
from testbench.schema.models import EvaluatedExperiment

OUTAGES = frozenset({"unreachable", "auth", "timeout", "rate_limited", "http_error"})
"""Kinds of a judge's failure that say nothing about the question."""
AGAIN = "The same command with --retry-errors judges what failed once more."


@dataclass(frozen=True)
class Conclusion:
    """How an evaluation ended: counts for the last line and, unless it is done, what was wrong and what to do."""

    summary: Summary
    sentence: str
    exit_code: ExitCode = ExitCode.DONE
    fault: str | None = None
    hint: str | None = None


def conclude(experiment: EvaluatedExperiment, allowed_errors: Callable[[int, int], bool]) -> Conclusion:
    """What came of it; `allowed_errors(errors, of)` is the error budget.

    Could not be done: nothing was scored because of errors, the judge answered none of those who needed it, or there
    are more errors than allowed. Nothing to do: nothing was scored because everything was skipped.
    """
    summary = summarize(experiment)
    counts = summary.evaluations
    parts = [f"{counts.judged} of {counts.total} evaluations scored"]
    parts += [f"{counts.errors} {_plural('error', counts.errors)}"] if counts.errors else []
    parts += [f"{counts.skipped} skipped"] if counts.skipped else []
    left_out = sum(map(count_left_out_for_cost, experiment.scenarios))
    parts += [f"{left_out} of these by --max-cost"] if left_out else []
    end = partial(Conclusion, summary, ", ".join(parts))
    if outage := judge_outage(experiment):
        hint = f"Check OPENAI_API_BASE (or OPENAI_BASE_URL), OPENAI_API_KEY and the model's name. {AGAIN}"
        return end(ExitCode.NOT_DONE, f"the judge answered nothing: {outage}", hint)
    if not counts.judged:
        code = ExitCode.NOT_DONE if counts.errors else ExitCode.NOTHING_TO_DO
        hint = "The file says why, evaluation by evaluation."
        return end(code, f"not one evaluation has a score, e.g.: {_first_reason(experiment)}", hint)
    if not allowed_errors(counts.errors, counts.total):
        fault = f"{counts.errors} of {counts.total} evaluations are errors, more than --fail-on-error allows"
        return end(ExitCode.NOT_DONE, fault, f"The file says why, evaluation by evaluation. {AGAIN}")
    return end()


def judge_outage(experiment: EvaluatedExperiment) -> str | None:
    """Why the judge was of no use at all, or None if it was asked nothing or gave an answer."""
    asked = [item.evaluation.result for item in walk_evaluations(experiment) if item.evaluation.result.judge_model]
    failed = [result.error for result in asked if result.error is not None and result.error.kind in OUTAGES]
    return failed[0].message if failed and len(failed) == len(asked) else None


def _first_reason(experiment: EvaluatedExperiment) -> str:
    reasons = (item.evaluation.result.reason for item in walk_evaluations(experiment))
    return next((reason for reason in reasons if reason), "no reason is given")


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"
