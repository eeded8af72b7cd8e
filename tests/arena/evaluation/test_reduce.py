"""However the work was cut up and interrupted, the reducer makes the same of it; what is missing is an error."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from testbench.arena.evaluation.results import LOST, build_experiment, reduce_parts
from testbench.arena.evaluation.rows import build_rows
from testbench.arena.plan.model import Plan
from testbench.schema.models import EvaluatedExperiment, EvaluationRecord
from testbench.schema.shards import all_shards
from tests.support.arena_samples import NOON, line_of, plan_of, result_of, scenario

PLAN = plan_of([scenario("weather", "Berlin?", "Paris?"), scenario("tides"), scenario("tides")], repetitions=2)
RECORD = EvaluationRecord(testbench_version="0", started_at=NOON, wall_seconds=1)


def outcome(parts: list[bytes], plan: Plan = PLAN) -> EvaluatedExperiment:
    return build_experiment(plan, reduce_parts(plan, parts), RECORD)


def whole() -> list[bytes]:
    return [line_of(result_of(PLAN, item)) for item in PLAN.items]


@given(st.integers(1, 20), st.randoms(use_true_random=False))
def test_any_sharding_gives_the_same(shards: int, chance: random.Random) -> None:
    parts = [b"".join(line_of(result_of(PLAN, item)) for item in shard.of(PLAN.items)) for shard in all_shards(shards)]
    chance.shuffle(parts)
    reduction = reduce_parts(PLAN, parts)
    assert reduction.complete
    assert outcome(parts) == outcome(whole())


@given(st.lists(st.sampled_from(PLAN.items), max_size=8), st.randoms(use_true_random=False))
def test_an_item_that_was_done_twice_counts_once(again: list[object], chance: random.Random) -> None:
    lines = [line_of(result_of(PLAN, item, score=1.0, after_s=0)) for item in PLAN.items]
    later = [
        line_of(result_of(PLAN, item, worker=f"w{number}", score=0.0, after_s=number + 1))
        for number, item in enumerate(PLAN.items)
        if item in again
    ]
    lines += later
    chance.shuffle(lines)
    reduction = reduce_parts(PLAN, [b"".join(lines)])
    assert reduction.complete
    assert reduction.doubled == len(later)
    assert {row.status for row in build_rows(PLAN, build_experiment(PLAN, reduction, RECORD))} == {"passed"}


def test_of_two_results_the_answered_one_is_kept_and_never_the_better_one() -> None:
    item = PLAN.items[0]
    down, bad, good = (
        line_of(result_of(PLAN, item, score=score, after_s=after)) for after, score in enumerate((None, 0.0, 1.0))
    )
    for parts in ([down, bad, good], [good, bad, down]):
        kept = reduce_parts(PLAN, parts).results[item.key]
        assert kept.scenario.steps[0].evaluations[0].result.score == 0.0


def test_a_missing_item_is_an_error_in_every_step() -> None:
    reduction = reduce_parts(PLAN, whole()[1:])
    experiment = build_experiment(PLAN, reduction, RECORD)
    assert [item.key for item in reduction.missing] == [PLAN.items[0].key]
    assert not reduction.complete
    assert "1 items have no result" in reduction.faults[0]
    lost = experiment.scenarios[0]
    assert {step.error.kind for step in lost.steps if step.error} == {LOST}
    assert (lost.provider, lost.id) == ("gpt", PLAN.items[0].scenario_id)
    assert [row.status for row in build_rows(PLAN, experiment)][:2] == ["error", "passed"]


def test_no_part_at_all_is_all_lost() -> None:
    assert len(reduce_parts(PLAN, []).missing) == len(PLAN.items)
    assert {row.status for row in build_rows(PLAN, outcome([]))} == {"error"}


def test_results_of_another_plan_are_named_and_not_used() -> None:
    other = plan_of([scenario("other")])
    reduction = reduce_parts(PLAN, [line_of(result_of(other, other.items[0])), *whole()])
    assert (reduction.foreign, reduction.complete) == (1, False)
    assert reduction.faults == ("1 results are not of this plan",)


def test_a_torn_line_is_named() -> None:
    torn = whole()[0][:-20]
    reduction = reduce_parts(PLAN, [torn, *whole()])
    assert (reduction.unreadable, reduction.missing) == (1, ())
    assert not reduction.complete


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reducer(content: bytes) -> None:
    reduction = reduce_parts(PLAN, [content])
    assert reduction.results == {}
