"""A schedule makes one ArenaJob for each tick: once, by its policy, and in the wall time of its zone."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbench.arena.cluster import api
from testbench.arena.operator.metadata import name_scheduled_run, parse_time
from tests.support.operator_fixture import NAMESPACE, START, OperatorFixture, arena_job, conclusion, references, run

HOURLY = {"cron": "0 * * * *"}
ticks = st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
TICK = "omnia.altairalabs.ai/scheduled-for"


def scheduled(start: datetime = START, **schedule: Any) -> OperatorFixture:
    made = OperatorFixture(now=start + timedelta(minutes=1))
    made.cluster.now = made.now
    made.apply(*references(), arena_job("nightly", schedule=schedule or HOURLY))
    made.settle("nightly")
    return made


def pass_to(cluster: OperatorFixture, moment: datetime) -> None:
    cluster.pass_time((moment - cluster.now).total_seconds())
    cluster.settle("nightly")


def runs(cluster: OperatorFixture) -> list[str]:
    return [name for name in cluster.names(api.ARENA_JOB) if name != "nightly"]


def live(cluster: OperatorFixture) -> list[str]:
    """Runs that nobody has told to stop and that have not ended."""
    return [
        name for name in runs(cluster)
        if cluster.status(name).phase not in ("Succeeded", "Failed", "Cancelled")
        and not cluster.get(api.ARENA_JOB, name)["spec"].get("cancelled")
    ]  # fmt: skip


def finish(cluster: OperatorFixture, name: str) -> None:
    cluster.settle(name)
    cluster.end_job(f"{name}-all", conclusion())
    cluster.settle(name)
    cluster.settle("nightly")


def hour(number: float) -> datetime:
    return START + timedelta(hours=number)


def test_a_tick_makes_one_run_with_the_same_work_and_without_the_schedule() -> None:
    cluster = scheduled()
    assert runs(cluster) == []
    pass_to(cluster, hour(1))
    (name,) = runs(cluster)
    child, parent = cluster.get(api.ARENA_JOB, name), cluster.get(api.ARENA_JOB, "nightly")
    assert "schedule" not in child["spec"]
    assert child["spec"]["sourceRef"] == parent["spec"]["sourceRef"]
    assert child["metadata"]["ownerReferences"][0]["uid"] == parent["metadata"]["uid"]
    status = cluster.status("nightly")
    assert (status.last_schedule_time, status.next_schedule_time) == (hour(1), hour(2))
    assert cluster.names(api.JOB) == []


def test_the_schedule_shows_the_result_of_the_last_run() -> None:
    cluster = scheduled()
    pass_to(cluster, hour(1))
    assert cluster.status("nightly").phase == "Running"
    finish(cluster, runs(cluster)[0])
    status = cluster.status("nightly")
    shown = {"score": "1.000", "scheduledFor": "2026-03-01T13:00:00Z"}
    assert (status.phase, status.result and status.result.summary) == ("Pending", shown)


def test_a_run_that_failed_without_a_result_hides_the_pass_of_the_run_before() -> None:
    cluster = scheduled()
    pass_to(cluster, hour(1))
    (first,) = runs(cluster)
    cluster.settle(first)
    cluster.end_job(f"{first}-all", conclusion().replace('"score"', '"verdict":"pass","score"'))
    cluster.settle(first)
    cluster.settle("nightly")
    assert verdict(cluster) == "pass"
    pass_to(cluster, hour(2))
    second = runs(cluster)[1]
    cluster.settle(second)
    cluster.end_job(f"{second}-all", json.dumps({"reason": "InvalidConfiguration", "message": "no key"}), failed=True)
    cluster.settle(second)
    cluster.settle("nightly")
    assert (cluster.status(second).phase, cluster.status(second).result) == ("Failed", None)
    assert verdict(cluster) == "error"


def test_a_run_whose_outputs_were_not_written_shows_no_pass_in_its_schedule() -> None:
    cluster = scheduled()
    pass_to(cluster, hour(1))
    (name,) = runs(cluster)
    cluster.settle(name)
    said = conclusion(10, 4).replace("BelowThreshold", "OutputFailed").replace('"score"', '"verdict":"pass","score"')
    cluster.end_job(f"{name}-all", said, failed=True)
    cluster.settle(name)
    cluster.settle("nightly")
    assert verdict(cluster) == "error"


def verdict(cluster: OperatorFixture) -> str | None:
    result = cluster.status("nightly").result
    return result.summary.get("verdict") if result else None


def test_a_run_is_removed_only_after_the_schedule_has_shown_how_it_ended() -> None:
    cluster = scheduled()
    cluster.get(api.ARENA_JOB, "nightly")["spec"]["ttlSecondsAfterFinished"] = 0
    pass_to(cluster, hour(1))
    (name,) = runs(cluster)
    cluster.settle(name)
    cluster.end_job(f"{name}-all", conclusion())
    cluster.settle(name)
    assert runs(cluster) == [name]
    cluster.settle("nightly")
    cluster.settle(name)
    assert runs(cluster) == []
    result = cluster.status("nightly").result
    assert result is not None
    assert result.summary["score"] == "1.000"
    cluster.settle("nightly")
    assert cluster.status("nightly").result == result


def test_an_earlier_run_that_ends_later_does_not_hide_the_result_of_the_latest() -> None:
    cluster = scheduled(cron="0 * * * *", concurrencyPolicy="Allow")
    pass_to(cluster, hour(1))
    pass_to(cluster, hour(2))
    first, second = runs(cluster)
    finish(cluster, second)
    shown = cluster.status("nightly").result
    run(cluster.cluster.delete(
        api.ARENA_JOB, NAMESPACE, second, cluster.get(api.ARENA_JOB, second)["metadata"]["uid"],
    ))  # fmt: skip
    finish(cluster, first)
    assert shown is not None
    assert cluster.status("nightly").result == shown


def test_the_runs_of_a_schedule_that_was_cancelled_are_removed_when_their_time_is_over() -> None:
    cluster = scheduled()
    cluster.get(api.ARENA_JOB, "nightly")["spec"]["ttlSecondsAfterFinished"] = 0
    pass_to(cluster, hour(1))
    (name,) = runs(cluster)
    cluster.settle(name)
    cluster.get(api.ARENA_JOB, "nightly")["spec"]["cancelled"] = True
    cluster.settle("nightly")
    cluster.settle(name)
    assert runs(cluster) == []


def test_a_run_that_has_begun_does_not_become_a_schedule() -> None:
    cluster = OperatorFixture()
    cluster.apply(*references(), arena_job("nightly"))
    cluster.settle("nightly")
    run(cluster.cluster.patch(api.ARENA_JOB, NAMESPACE, "nightly", {"spec": {"schedule": HOURLY}}))
    pass_to(cluster, hour(2))
    assert (runs(cluster), cluster.status("nightly").phase) == ([], "Running")
    assert "ChangeIgnored" in cluster.events()
    cluster.end_job("nightly-all", conclusion(10, 4), failed=True)
    cluster.settle("nightly")
    pass_to(cluster, hour(4))
    assert (runs(cluster), cluster.status("nightly").phase) == ([], "Failed")


@pytest.mark.parametrize(("policy", "made", "alive"), [("Allow", 3, 3), ("Forbid", 1, 1), ("Replace", 3, 1)])
def test_runs_that_overlap_follow_the_policy(policy: str, made: int, alive: int) -> None:
    cluster = scheduled(cron="0 * * * *", concurrencyPolicy=policy)
    for number in (1, 2, 3):
        pass_to(cluster, hour(number))
        for name in runs(cluster):
            cluster.settle(name)
    assert (len(runs(cluster)), len(live(cluster))) == (made, alive)
    assert cluster.status("nightly").last_schedule_time == hour(3)


def test_a_run_that_is_left_out_is_told_and_does_not_start_late() -> None:
    cluster = scheduled(cron="0 * * * *", concurrencyPolicy="Forbid")
    pass_to(cluster, hour(1))
    (first,) = runs(cluster)
    pass_to(cluster, hour(2))
    assert "RunSkipped" in cluster.events()
    finish(cluster, first)
    assert runs(cluster) == [first]
    pass_to(cluster, hour(3))
    assert len(runs(cluster)) == 2


def test_of_missed_ticks_only_the_latest_runs() -> None:
    cluster = scheduled()
    cluster.restart()
    pass_to(cluster, hour(5.5))
    (name,) = runs(cluster)
    assert parse_time(cluster.get(api.ARENA_JOB, name)["metadata"]["annotations"][TICK]) == hour(5)
    assert "RunsMissed" in cluster.events()


def test_a_run_that_replaces_itself_after_a_crash_is_left_alone() -> None:
    cluster = scheduled(cron="0 * * * *", concurrencyPolicy="Replace")
    pass_to(cluster, hour(1))
    before = run(cluster.cluster.list(api.ARENA_JOB, NAMESPACE))
    status = cluster.get(api.ARENA_JOB, "nightly")["status"]
    status.pop("lastScheduleTime")  # as if the operator had died between the run and the status
    cluster.restart()
    cluster.settle("nightly")
    assert [item["metadata"]["uid"] for item in run(cluster.cluster.list(api.ARENA_JOB, NAMESPACE)).items] == [
        item["metadata"]["uid"] for item in before.items
    ]
    assert live(cluster) == runs(cluster)


def test_a_run_is_not_removed_before_the_schedule_has_noted_its_tick() -> None:
    cluster = scheduled()
    cluster.get(api.ARENA_JOB, "nightly")["spec"]["ttlSecondsAfterFinished"] = 0
    pass_to(cluster, hour(1))
    (name,) = runs(cluster)
    cluster.settle(name)
    cluster.get(api.ARENA_JOB, "nightly")["status"].pop("lastScheduleTime")
    cluster.end_job(f"{name}-all", conclusion())
    cluster.settle(name)
    assert runs(cluster) == [name]
    cluster.settle("nightly")
    cluster.settle(name)
    assert runs(cluster) == []
    cluster.settle("nightly")
    assert runs(cluster) == []


def test_a_cancelled_schedule_ends_its_runs_and_makes_no_more() -> None:
    cluster = scheduled()
    pass_to(cluster, hour(1))
    (name,) = runs(cluster)
    cluster.get(api.ARENA_JOB, "nightly")["spec"]["cancelled"] = True
    pass_to(cluster, hour(2))
    cluster.settle(name)
    assert (cluster.status("nightly").phase, cluster.status(name).phase) == ("Cancelled", "Cancelled")
    pass_to(cluster, hour(5))
    assert runs(cluster) == [name]


@pytest.mark.parametrize(
    "schedule",
    [
        {"cron": "0 0 31 2 *"},
        {"cron": "x x x x x"},
        {"cron": "0 * * * *", "timezone": "Mars/X"},
        {"cron": "0 * * * *", "timezone": "America"},
    ],
)
def test_an_invalid_schedule_is_refused_and_begins_once_it_is_corrected(schedule: dict[str, Any]) -> None:
    cluster = scheduled(**schedule)
    assert (cluster.status("nightly").phase, cluster.reason("nightly", "ConfigValid")[:2]) == (
        "Failed", ("False", "InvalidSchedule"),
    )  # fmt: skip
    change = {"spec": {"schedule": HOURLY | {"timezone": "UTC"}}}
    run(cluster.cluster.patch(api.ARENA_JOB, NAMESPACE, "nightly", change))
    cluster.settle("nightly")
    assert cluster.status("nightly").phase == "Pending"
    pass_to(cluster, hour(1))
    assert len(runs(cluster)) == 1


def test_a_repeated_hour_runs_once_and_a_skipped_one_at_the_first_moment_after() -> None:
    autumn = scheduled(datetime(2026, 10, 31, 12, tzinfo=UTC), cron="30 1 * * *", timezone="America/New_York")
    for step in range(1, 30):
        pass_to(autumn, datetime(2026, 10, 31, 12, tzinfo=UTC) + timedelta(hours=step))
    ticks = [parse_time(autumn.get(api.ARENA_JOB, name)["metadata"]["annotations"][TICK]) for name in runs(autumn)]
    assert ticks == [datetime(2026, 11, 1, 5, 30, tzinfo=UTC)]
    spring = scheduled(datetime(2026, 3, 7, 12, tzinfo=UTC), cron="30 2 * * *", timezone="America/New_York")
    pass_to(spring, datetime(2026, 3, 8, 12, tzinfo=UTC))
    (name,) = runs(spring)
    tick = parse_time(spring.get(api.ARENA_JOB, name)["metadata"]["annotations"][TICK])
    assert tick == datetime(2026, 3, 8, 7, 0, tzinfo=UTC)


STEPS = st.lists(
    st.tuples(st.just("time"), st.integers(1, 200)) | st.tuples(st.sampled_from(["end", "restart"]), st.just(0)),
    max_size=12,
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(policy=st.sampled_from(["Allow", "Forbid", "Replace"]), steps=STEPS)
def test_whatever_happens_a_tick_runs_at_most_once_and_never_two_runs_under_forbid(
    policy: str, steps: list[tuple[str, int]]
) -> None:
    cluster = scheduled(cron="0 * * * *", concurrencyPolicy=policy)
    for what, minutes in steps:
        if what == "time":
            pass_to(cluster, cluster.now + timedelta(minutes=minutes))
        elif what == "restart":
            cluster.restart()
        elif live(cluster):
            finish(cluster, live(cluster)[0])
        assert policy == "Allow" or len(live(cluster)) <= 1
        ticks = [cluster.get(api.ARENA_JOB, name)["metadata"]["annotations"][TICK] for name in runs(cluster)]
        assert len(ticks) == len(set(ticks))


@given(st.from_regex(r"[a-z][-a-z0-9.]{0,200}[a-z0-9]", fullmatch=True), ticks)
def test_a_runs_name_is_stable_and_leaves_room_for_its_pods(job: str, tick: datetime) -> None:
    name = name_scheduled_run(job, tick)
    assert name == name_scheduled_run(job, tick.replace(second=0, microsecond=0))
    assert len(name) <= 52
    assert name != name_scheduled_run(job, tick + timedelta(minutes=1))
    assert name != name_scheduled_run(f"{job}x", tick)
