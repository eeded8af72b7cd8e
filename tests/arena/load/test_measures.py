"""A load test's arithmetic: arrivals as planned, exact percentiles over all workers, and limits that fail closed."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbench.arena.load.limits import check_limits, conclude_load
from testbench.arena.load.measures import Measures, TurnSample, encode_samples, measure, read_samples
from testbench.arena.load.traffic import RateProfile, count_workers_needed, make_rate_profile
from testbench.arena.manifest.job import LoadTestSettings
from testbench.errors import StoreError
from testbench.schema.shards import all_shards

profiles = st.builds(RateProfile, rate=st.floats(0.5, 500), ramp_s=st.floats(0, 30), duration_s=st.floats(31, 60))


def test_a_minute_of_ramp_and_nine_of_plateau() -> None:
    profile = RateProfile(rate=100, ramp_s=60, duration_s=600)
    assert profile.count == 57_000
    assert profile.time_of(56_999) == pytest.approx(599.99)
    assert [len(list(profile.dealt(shard))) for shard in all_shards(8)] == [7125] * 8
    times = [profile.time_of(number) for number in range(profile.count)]
    in_second = [sum(second <= at < second + 1 for at in times) for second in (15, 30, 45, 59, 61)]
    assert in_second == pytest.approx([26, 51, 76, 99, 100], abs=1)


@given(profiles)
def test_arrivals_go_forward_and_stay_inside_the_test(profile: RateProfile) -> None:
    times = [profile.time_of(number) for number in range(min(profile.count, 500))]
    assert times == sorted(times)
    assert profile.time_of(profile.count - 1) < profile.duration_s + 1e-6
    assert profile.time_of(profile.count) >= profile.duration_s - 1e-6


@given(profiles, st.integers(0, 10_000))
def test_an_arrival_is_where_the_integral_reaches_it(profile: RateProfile, number: int) -> None:
    assert profile.expected(profile.time_of(number)) == pytest.approx(number, abs=1e-6)


@given(profiles, st.integers(1, 9))
def test_workers_share_the_schedule_without_gap_or_overlap(profile: RateProfile, workers: int) -> None:
    dealt = [number for shard in all_shards(workers) for number, _ in profile.dealt(shard)]
    assert sorted(dealt) == list(range(profile.count))


def test_the_target_counts_turns_not_conversations() -> None:
    settings = LoadTestSettings.model_validate({"targetRPS": 30, "rampUp": "0s", "duration": "10s"})
    profile = make_rate_profile(settings, mean_turns=3)
    assert profile is not None
    assert profile.count == 100
    assert make_rate_profile(LoadTestSettings(), 1) is None


@pytest.mark.parametrize(("rps", "workers"), [(500, 5), (50, 2), (5000, 8)])
def test_enough_workers_within_what_is_allowed(rps: int, workers: int) -> None:
    assert count_workers_needed(rps, per_worker=100, fewest=2, most=8) == workers


def sample(
    arrival: int, latency: float = 0.1, *, slip: float = 0.0, error: str | None = None, cost: float | None = 0.01
) -> TurnSample:
    due = arrival / 10
    return TurnSample(
        arrival=arrival,
        worker=0,
        scenario="s",
        system="gpt",
        turn=0,
        intended_s=due,
        sent_s=due + slip,
        first_token_s=None if error else due + slip + latency / 2,
        ended_s=due + slip + latency,
        error=error,
        input_tokens=10,
        output_tokens=5,
        cost_usd=None if error else cost,
    )


def measured(samples: list[TurnSample], rps: float | None = 10) -> Measures:
    return measure(read_samples([encode_samples(samples)]), rps)


def test_percentiles_are_values_that_were_measured() -> None:
    found = measured([sample(number, latency=(number + 1) / 100) for number in range(100)])
    assert found.latency_ms is not None
    assert found.ttft_ms is not None
    assert (found.latency_ms.p50, found.latency_ms.p95, found.latency_ms.p99) == (500, 950, 990)
    assert found.ttft_ms.p50 == 250
    assert (found.turns, found.answered, found.error_rate, found.total_cost) == (100, 100, 0, 1.0)
    assert found.rps_achieved == pytest.approx(100 / 9.9, abs=0.01)
    assert [second.due for second in found.series] == [10] * 10


@given(st.integers(1, 400), st.randoms(use_true_random=False))
def test_percentiles_are_the_nearest_rank_of_the_raw_samples(amount: int, chance: random.Random) -> None:
    samples = [sample(number, latency=chance.randrange(1, 5000) / 1000) for number in range(amount)]
    found = measured(samples).latency_ms
    ranked = sorted(round((one.ended_s - one.intended_s) * 1000, 3) for one in samples)
    assert found is not None
    shown = {percent: ranked[-(-percent * amount // 100) - 1] for percent in (50, 90, 95, 99)}
    assert (found.p50, found.p90, found.p95, found.p99) == tuple(shown.values())
    assert (found.count, found.max) == (amount, ranked[-1])


@given(st.integers(1, 6), st.randoms(use_true_random=False))
def test_however_it_was_dealt_the_measures_are_the_same(workers: int, chance: random.Random) -> None:
    samples = [sample(number, latency=0.05 + number % 7 / 10) for number in range(60)]
    parts = [encode_samples(samples[worker::workers]) for worker in range(workers)]
    again = [encode_samples(samples[:5])]
    shuffled = parts + again
    chance.shuffle(shuffled)
    assert measure(read_samples(shuffled), 10) == measured(samples)


def test_a_latency_counts_from_when_the_turn_was_due() -> None:
    found = measured([sample(number, latency=0.1, slip=0.4) for number in range(20)])
    assert found.latency_ms is not None
    assert found.latency_ms.p50 == 500
    assert found.slip_ms is not None
    assert found.slip_ms.p99 == 400


def test_the_slip_is_that_of_conversations_and_not_of_their_later_turns() -> None:
    later = replace(sample(0, slip=0.4), turn=1)
    found = measured([sample(0, slip=0.01), later])
    assert found.slip_ms is not None
    assert (found.slip_ms.count, found.slip_ms.max) == (1, 10)


def test_an_outage_is_no_fast_answer() -> None:
    found = measured([sample(number, latency=0.001, error="unreachable") for number in range(20)])
    assert (found.latency_ms, found.error_rate, found.errors) == (None, 1.0, {"unreachable": 20})
    limits = check_limits(LoadTestSettings(), found)
    assert [limit.kept for limit in limits] == [False]
    assert conclude_load(found, limits).reason == "LimitMissed"


def limits_of(*thresholds: tuple[str, str, str]) -> LoadTestSettings:
    entries = [{"metric": metric, "operator": operator, "value": value} for metric, operator, value in thresholds]
    return LoadTestSettings.model_validate({"thresholds": entries, "targetRPS": 10})


@pytest.mark.parametrize("metric", ["ttft_p95", "latency_p50", "total_cost", "pass_rate"])
def test_what_was_not_measured_is_a_limit_missed(metric: str) -> None:
    found = measured([sample(0, error="timeout")])
    (limit, _) = check_limits(limits_of((metric, "<", "1000000")), found)
    assert (limit.measured, limit.kept) == (None, False)
    assert "not measured" in limit.sentence


def test_a_cost_that_is_known_of_some_answers_only_is_unknown() -> None:
    assert measured([sample(0), sample(1, cost=None)]).total_cost is None


def test_a_time_to_first_token_that_is_known_of_some_answers_only_limits_nothing() -> None:
    whole = replace(sample(1), first_token_s=None)
    (limit, _) = check_limits(limits_of(("ttft_p95", "<", "10s")), measured([sample(0), whole]))
    assert (limit.measured, limit.kept) == (None, False)
    (limit, _) = check_limits(limits_of(("ttft_p95", "<", "10s")), measured([sample(0), sample(1, error="timeout")]))
    assert limit.kept


def test_limits_are_kept_or_missed_in_their_own_units() -> None:
    found = measured([sample(number, latency=0.8) for number in range(20)])
    settings = limits_of(("latency_p95", "<", "900ms"), ("latency_p99", "<=", "0.5s"), ("error_rate", "<", "0.05"))
    limits = check_limits(settings, found)
    assert [limit.kept for limit in limits] == [True, False, True]
    end = conclude_load(found, limits)
    assert (end.phase, end.reason, end.summary["score"]) == ("Failed", "LimitMissed", "2/3")
    assert end.summary["latency_p95"] == "800"


def test_a_test_that_kept_every_limit_succeeds() -> None:
    found = measured([sample(number) for number in range(20)])
    end = conclude_load(found, check_limits(limits_of(("latency_p95", "<", "1s")), found))
    assert (end.phase, end.summary["verdict"]) == ("Succeeded", "pass")


def test_a_generator_that_was_late_makes_the_test_void() -> None:
    found = measured([sample(number, latency=0.1, slip=0.2) for number in range(20)])
    assert found.generator_slipped
    assert conclude_load(found, check_limits(LoadTestSettings(), found)).reason == "GeneratorSaturated"


def test_a_small_slip_beside_slow_answers_is_none() -> None:
    assert not measured([sample(number, latency=4.0, slip=0.2) for number in range(20)]).generator_slipped


def test_no_request_at_all_is_no_success() -> None:
    found = measured([])
    assert conclude_load(found, ()).reason == "NoRequests"


@pytest.mark.parametrize(("stopped_by", "phase"), [("budget", "Failed"), ("cancelled", "Cancelled")])
def test_a_test_that_was_stopped_is_no_success(stopped_by: str, phase: str) -> None:
    found = measured([sample(number) for number in range(20)])
    assert conclude_load(found, (), stopped_by=stopped_by).phase == phase  # type: ignore[arg-type]  # parametrised


def test_a_worker_without_samples_is_named() -> None:
    found = measured([sample(0)])
    assert (
        conclude_load(found, check_limits(LoadTestSettings(), found), missing_workers=(1,)).reason == "MissingWorkers"
    )


def test_a_part_that_was_cut_or_changed_is_an_error_with_a_name() -> None:
    whole = encode_samples([sample(0)])
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for broken in (whole[:-9], whole[:footer] + b"\xff" * 40 + whole[footer + 40 :], b"", b"{}"):
        with pytest.raises(StoreError, match="cannot be read"):
            read_samples([broken])
