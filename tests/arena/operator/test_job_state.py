"""Only a complete run that passed is a success; every other end has a name, and all of the status agrees on it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbench.arena.conclusion import TERMINATION_BYTES, Conclusion, Counts, build_termination_message, to_failure
from testbench.arena.evaluation.results import build_experiment, reduce_parts
from testbench.arena.evaluation.rows import build_rows, conclude_evaluation
from testbench.arena.manifest.job_status import JobProgress, JobStatus
from testbench.arena.operator.job_state import JobState, build_status
from testbench.gating.decision import reach_verdict
from testbench.results.verdict import Policy
from testbench.schema.models import EvaluationRecord
from tests.support.arena_samples import NOON, line_of, plan_of, result_of, scenario

PLAN = plan_of([scenario("weather", "Berlin?"), scenario("tides")])
RECORD = EvaluationRecord(testbench_version="0", started_at=NOON, wall_seconds=1)


def concluded(*scores: float | None, lost: int = 0, missing_shards: tuple[int, ...] = ()) -> Conclusion:
    padded = [*scores, *[1.0] * (len(PLAN.items) - len(scores))]
    lines = [line_of(result_of(PLAN, item, score=score)) for item, score in zip(PLAN.items, padded, strict=True)]
    reduction = reduce_parts(PLAN, lines[lost:])
    experiment = build_experiment(PLAN, reduction, RECORD)
    verdict = reach_verdict(experiment, Policy())
    return conclude_evaluation(verdict, reduction, missing_shards, list(build_rows(PLAN, experiment)))


def test_a_complete_run_that_passed_succeeds() -> None:
    end = concluded()
    assert (end.phase, end.reason) == ("Succeeded", "Succeeded")
    assert end.counts == Counts(total=4, passed=4)
    assert (end.summary["verdict"], end.summary["score"], end.summary["errors"]) == ("pass", "1.000", "0")
    assert end.summary["totalCostUSD"] == "0.040000"


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (concluded(0.0), "BelowThreshold"),
        (concluded(None), "NotJudged"),
        (concluded(lost=1), "MissingItems"),
        (concluded(missing_shards=(3,)), "MissingShards"),
        (concluded(lost=4, missing_shards=(0, 1)), "MissingShards"),
        (to_failure(concluded(), "OutputFailed", "s3://results is down."), "OutputFailed"),
    ],
)
def test_every_other_end_is_a_failure_with_a_name(end: Conclusion, reason: str) -> None:
    assert (end.phase, end.reason) == ("Failed", reason)
    assert end.summary["verdict"] != "pass"


def test_a_plan_without_items_is_a_failure() -> None:
    empty = plan_of([])
    reduction = reduce_parts(empty, [])
    verdict = reach_verdict(build_experiment(empty, reduction, RECORD), Policy())
    assert conclude_evaluation(verdict, reduction, (), []).reason == "NoItems"


@given(st.text(max_size=9000))
def test_a_termination_message_is_never_cut_by_kubernetes(message: str) -> None:
    end = concluded().model_copy(update={"message": message})
    text = build_termination_message(end)
    assert len(text.encode()) <= TERMINATION_BYTES
    assert Conclusion.model_validate_json(text).reason == "Succeeded"


def conditions(status: JobStatus) -> dict[str, tuple[str, str]]:
    return {condition.type: (condition.status, condition.reason) for condition in status.conditions}


def test_a_job_goes_from_pending_over_running_to_its_end() -> None:
    waiting = JobState(generation=1, waiting=("SourceNotReady", "the source has no artifact yet"))
    pending = build_status(waiting, JobStatus(), NOON)
    assert (pending.phase, conditions(pending)["ConfigValid"]) == ("Pending", ("Unknown", "SourceNotReady"))

    working = JobState(generation=1, created=True, active_workers=2, progress=JobProgress(total=4, pending=4))
    running = build_status(working, pending, NOON + timedelta(seconds=5))
    assert (running.phase, running.active_workers, running.start_time) == ("Running", 2, NOON + timedelta(seconds=5))
    assert conditions(running)["Progressing"] == ("True", "Working")
    assert conditions(running)["Ready"] == ("False", "Working")

    done = build_status(
        JobState(generation=1, created=True, conclusion=concluded()), running, NOON + timedelta(seconds=9)
    )
    assert (done.phase, done.active_workers, done.completion_time) == ("Succeeded", 0, NOON + timedelta(seconds=9))
    assert conditions(done) == {
        "ConfigValid": ("True", "Valid"),
        "JobCreated": ("True", "Created"),
        "Progressing": ("False", "Succeeded"),
        "Ready": ("True", "Succeeded"),
    }
    assert done.progress == JobProgress(total=4, completed=4)


def test_a_failure_is_ready_for_nobody() -> None:
    done = build_status(JobState(created=True, conclusion=concluded(None)), JobStatus(), NOON)
    assert conditions(done)["Ready"] == ("False", "NotJudged")
    assert done.progress == JobProgress(total=4, completed=3, failed=1)


def test_a_configuration_that_cannot_be_used_starts_nothing() -> None:
    done = build_status(JobState(refusal=("NoScenarios", "the filter matches nothing")), JobStatus(), NOON)
    assert (done.phase, conditions(done)["JobCreated"]) == ("Failed", ("False", "NoScenarios"))


def test_the_same_standing_again_changes_nothing() -> None:
    working = JobState(generation=1, created=True, active_workers=2)
    first = build_status(working, JobStatus(), NOON)
    assert build_status(working, first, NOON + timedelta(hours=1)) == first


def test_an_end_is_final() -> None:
    done = build_status(JobState(created=True, conclusion=concluded(0.0)), JobStatus(), NOON)
    assert build_status(JobState(created=True, active_workers=3), done, NOON + timedelta(hours=1)) == done
