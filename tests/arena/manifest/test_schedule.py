"""A schedule fires when its words say, over changes of the clocks too, and a tick is neither lost nor run twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbench.arena.manifest.job import Schedule
from testbench.arena.manifest.schedule import (
    MISSED_AT_MOST,
    check_schedule,
    compute_removal_time,
    decide_start,
    find_due,
)
from testbench.errors import InputError

NEW_YORK = "America/New_York"
moments = st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
crons = st.sampled_from(["0 2 * * *", "30 1 * * *", "30 2 * * 1-5", "*/15 * * * *", "0 0 1 * *", "0 12 29 2 *"])
zones = st.sampled_from(["UTC", NEW_YORK, "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kolkata"])


def utc(month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(2026, month, day, hour, minute, tzinfo=UTC)


def test_a_tick_is_at_the_wall_time_of_its_zone() -> None:
    schedule = Schedule(cron="0 2 * * *", timezone=NEW_YORK)
    found = find_due(schedule, utc(7, 1), utc(7, 1, 12))
    assert (found.tick, found.missed, found.next) == (utc(7, 1, 6), 0, utc(7, 2, 6))


def test_a_time_that_autumn_repeats_fires_once() -> None:
    found = find_due(Schedule(cron="30 1 * * *", timezone=NEW_YORK), utc(11, 1, 4), utc(11, 2, 4))
    assert (found.tick, found.missed) == (utc(11, 1, 5, 30), 0)


def test_a_time_that_spring_skips_fires_after_the_gap() -> None:
    found = find_due(Schedule(cron="30 2 * * *", timezone=NEW_YORK), utc(3, 8), utc(3, 8, 12))
    assert (found.tick, found.missed, found.next) == (utc(3, 8, 7), 0, utc(3, 9, 6, 30))


def test_a_rhythm_goes_through_the_hour_that_autumn_repeats() -> None:
    found = find_due(Schedule(cron="*/30 * * * *", timezone=NEW_YORK), utc(11, 1, 4), utc(11, 1, 8))
    assert (found.tick, found.missed + 1) == (utc(11, 1, 8), 8)


def test_clocks_that_change_by_half_an_hour_neither_lose_a_run_nor_double_one() -> None:
    skipped, repeated = (Schedule(cron=cron, timezone="Australia/Lord_Howe") for cron in ("15 2 * * *", "45 1 * * *"))
    assert find_due(skipped, utc(10, 3, 13), utc(10, 4, 13)).tick == utc(10, 3, 15, 30)
    found = find_due(repeated, utc(4, 4, 13), utc(4, 5, 13))
    assert (found.tick, found.missed, found.next) == (utc(4, 4, 14, 45), 0, utc(4, 5, 15, 15))


def test_of_missed_ticks_the_latest_runs() -> None:
    found = find_due(Schedule(cron="0 * * * *"), utc(5, 1, 0, 30), utc(5, 1, 4, 10))
    assert (found.tick, found.missed) == (utc(5, 1, 4), 3)


def test_after_a_stop_of_years_the_latest_tick_is_still_found() -> None:
    now = utc(5, 1, 4, 10)
    found = find_due(Schedule(cron="*/5 * * * *"), now - timedelta(days=2000), now)
    assert (found.tick, found.missed, found.next) == (now, MISSED_AT_MOST, utc(5, 1, 4, 15))


def test_before_the_first_tick_nothing_is_due() -> None:
    found = find_due(Schedule(cron="0 2 * * *"), utc(5, 1), utc(5, 1, 1))
    assert (found.tick, found.next) == (None, utc(5, 1, 2))


@given(crons, zones, moments, st.integers(0, 3000))
def test_one_look_or_many_looks_see_the_same_ticks(cron: str, zone: str, since: datetime, minutes: int) -> None:
    schedule = Schedule(cron=cron, timezone=zone)
    now = since + timedelta(minutes=minutes)
    halfway = since + timedelta(minutes=minutes // 2)
    first, second, whole = (
        find_due(schedule, since, halfway),
        find_due(schedule, halfway, now),
        find_due(schedule, since, now),
    )
    assert whole.tick == (second.tick or first.tick)
    assert whole.next == second.next
    seen = sum(look.missed + (look.tick is not None) for look in (first, second))
    if whole.missed < MISSED_AT_MOST:
        assert whole.missed + (whole.tick is not None) == seen


@given(crons, zones, moments)
def test_ticks_go_forward(cron: str, zone: str, since: datetime) -> None:
    schedule, seen = Schedule(cron=cron, timezone=zone), [since]
    for _ in range(5):
        following = find_due(schedule, seen[-1], seen[-1]).next
        assert following is not None
        seen.append(following)
    assert all(before < after for before, after in pairwise(seen))


def test_names_of_days_and_months_are_plain() -> None:
    check_schedule(Schedule(cron="0 2 * JUL WED"))


@pytest.mark.parametrize(
    "cron",
    [
        "0 3 31 2 *",
        "@daily   ",
        "0 0 2 * * *",
        "61 * * * *",
        "0 2 L * *",
        "a b c d e",
        "0 2 LW * *",
        "0 2 * * 5L",
        "0 2 * * 5#3",
    ],
)
def test_an_expression_that_cannot_fire_is_refused(cron: str) -> None:
    with pytest.raises(InputError, match=r"schedule\.cron"):
        check_schedule(Schedule(cron=cron))


@pytest.mark.parametrize("zone", ["Mars/Base", "../etc/passwd", "/etc/localtime", "America", "UTC\0"])
def test_an_unknown_zone_is_refused(zone: str) -> None:
    with pytest.raises(InputError, match=r"schedule\.timezone"):
        check_schedule(Schedule(cron="0 2 * * *", timezone=zone))


@pytest.mark.parametrize(
    ("policy", "running", "start"),
    [
        ("Allow", 2, "start"),
        ("Forbid", 0, "start"),
        ("Forbid", 1, "wait"),
        ("Replace", 0, "start"),
        ("Replace", 1, "replace"),
    ],
)
def test_the_policy_decides_over_runs_that_overlap(policy: str, running: int, start: str) -> None:
    schedule = Schedule.model_validate({"cron": "0 2 * * *", "concurrencyPolicy": policy})
    assert decide_start(schedule.concurrency_policy, running) == start


def test_a_finished_job_is_removed_after_its_time() -> None:
    assert compute_removal_time(utc(1, 1), 86_400) == utc(1, 2)
    assert compute_removal_time(utc(1, 1), None) is None
