"""Which conversations of a load test are judged, and what else is decided of it before anything is sent."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbench.arena.conclusion import Conclusion, Counts
from testbench.arena.load.limits import LimitResult
from testbench.arena.load.measures import TurnSample, encode_samples, measure, read_samples
from testbench.arena.load.outputs import encode_limits
from testbench.arena.load.quality import choose_kept, compute_pass_rate, divide_levels, measure_quality
from testbench.arena.load.recording import LoadEnd
from testbench.arena.load.reducer import find_stop, have_begun_together
from testbench.arena.load.traffic import PER_WORKER_RPS, RateProfile, count_workers, list_draws, make_profile
from testbench.errors import NothingToDo
from tests.support.load_jobs import GREETING, TWO_TURNS, agent_runtime, load_job, manifest, provider

NOBODY = "http://127.0.0.1:9/v1"
profiles = st.builds(
    RateProfile,
    rate=st.floats(0.5, 300, allow_subnormal=False),
    ramp_s=st.one_of(st.just(0.0), st.floats(0.01, 30)),
    duration_s=st.floats(30, 60),
)


@given(profiles)
def test_every_arrival_is_in_exactly_one_level(profile: RateProfile) -> None:
    levels = divide_levels(profile)
    borders = [(level.first, level.end) for level in levels]
    assert borders[0][0] == 0
    assert [end for _, end in borders] == [first for first, _ in borders[1:]] + [profile.count]


@given(profiles, st.integers(1, 50))
def test_about_as_many_are_kept_of_each_level_as_are_wanted(profile: RateProfile, most: int) -> None:
    kept = choose_kept(divide_levels(profile), most)
    for level in divide_levels(profile):
        assert level.end is not None
        found = sum(kept(number) for number in range(level.first, level.end))
        if level.end - level.first <= most:
            assert found == level.end - level.first
        else:
            assert abs(found - most) <= 6 * most**0.5 + 6


def test_of_every_draw_some_conversations_are_kept() -> None:
    kept = choose_kept(divide_levels(RateProfile(500, 0, 100)), 100)
    found = [number for number in range(50_000) if kept(number)]
    assert {number % 4 for number in found} == {0, 1, 2, 3}


def test_without_a_rate_there_is_one_level_and_its_first_are_kept() -> None:
    (level,) = divide_levels(None)
    kept = choose_kept([level], 10)
    assert [kept(9), kept(10)] == [True, False]
    (found,) = measure_quality([level], [(0, True), (3, False)])
    assert (found.judged, found.passed, compute_pass_rate([found])) == (2, 1, 0.5)
    assert compute_pass_rate(measure_quality([level], [])) is None


def test_every_scenario_meets_everybody_and_repetitions_count_once(tmp_path: Path) -> None:
    path = manifest(tmp_path, {}, provider(NOBODY), agent_runtime("http://127.0.0.1:9/"), trials=3)
    context = load_job(path, {"a.yaml": GREETING, "b.yaml": TWO_TURNS})
    draws = list_draws(context.plan)
    assert sorted((draw.scenario, draw.system, len(draw.inputs)) for draw in draws) == [
        ("greeting", "assistant", 1),
        ("greeting", "gpt", 1),
        ("two turns", "assistant", 2),
        ("two turns", "gpt", 2),
    ]
    with pytest.raises(NothingToDo):
        list_draws(context.plan.model_copy(update={"items": ()}))


@pytest.mark.parametrize(
    ("rate", "workers", "wanted"),
    [
        (PER_WORKER_RPS * 3, {"replicas": 1, "maxReplicas": 8}, 3),
        (PER_WORKER_RPS * 9, {"replicas": 1, "maxReplicas": 8}, 8),
        (1, {"replicas": 1, "minReplicas": 2, "maxReplicas": 8}, 2),
        (None, {"replicas": 4}, 4),
        (None, {"replicas": 1, "minReplicas": 2, "maxReplicas": 8}, 2),
    ],
)
def test_the_rate_says_how_many_workers_there_are(
    tmp_path: Path, rate: int | None, workers: dict[str, int], wanted: int
) -> None:
    settings: dict[str, Any] = {} if rate is None else {"targetRPS": rate}
    context = load_job(manifest(tmp_path, settings, provider(NOBODY), workers=workers))
    assert count_workers(context.job) == wanted


def test_the_profile_is_of_conversations(tmp_path: Path) -> None:
    context = load_job(
        manifest(tmp_path, {"targetRPS": 20, "duration": "30s"}, provider(NOBODY)), {"b.yaml": TWO_TURNS}
    )
    found = make_profile(context.job, list_draws(context.plan))
    assert found == RateProfile(10, 0, 30)


# --- what is written ------------------------------------------------------------------------------------------------


def sample(arrival: int, sent_s: float, error: str | None = None) -> TurnSample:
    return TurnSample(arrival, 0, "s", "c", 0, sent_s, sent_s, None, sent_s + 0.1, error, None, None, None)


def test_the_achieved_rate_is_that_of_the_plateau() -> None:
    ramp = [sample(number, number / 2) for number in range(10)]
    plateau = [sample(10 + number, 5 + number / 10) for number in range(50)]
    dropped = [sample(60, 7.0, "dropped")]
    table = read_samples([encode_samples([*ramp, *plateau, *dropped])])
    assert measure(table, 10, (5.0, 10.0)).rps_achieved == 10
    whole = measure(table, None).rps_achieved
    assert whole is not None
    assert whole < 7


def end(stopped: Any, later_s: float = 0.0) -> LoadEnd:
    start = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=later_s)
    return LoadEnd(started_at=start, stopped_by=stopped, samples=1)


def test_the_gravest_end_counts_and_starts_are_held_against_each_other() -> None:
    assert find_stop([end("duration"), end("budget"), end("unpriced")]) == "unpriced"
    assert find_stop([end("duration")]) == find_stop([]) == "duration"
    assert have_begun_together([end("duration"), end("duration", 0.5)])
    assert not have_begun_together([end("duration"), end("duration", 2)])


def test_a_void_test_is_an_error_in_junit_whatever_its_limits_say() -> None:
    limits = (
        LimitResult(metric="latency_p95", operator="<", limit=100, measured=200, kept=False),
        LimitResult(metric="pass_rate", operator=">", limit=0.5, measured=None, kept=False),
        LimitResult(metric="error_rate", operator="<=", limit=0.01, measured=0, kept=True),
    )
    conclusion = Conclusion(
        phase="Failed", reason="GeneratorSaturated", message="late \x1b[31m", counts=Counts(total=1)
    )
    root = ET.fromstring(encode_limits("storm", conclusion, limits))
    assert [root.get(name) for name in ("tests", "failures", "errors")] == ["4", "1", "2"]
    found = {case.get("name"): [child.tag for child in case] for case in root.iter("testcase")}
    assert found == {
        "the load was as planned": ["error"],
        "latency_p95 < 100": ["failure"],
        "pass_rate > 0.5": ["error"],
        "error_rate <= 0.01": [],
    }
    assert json.dumps(ET.tostring(root, encoding="unicode")).count("\\u001b") == 0
