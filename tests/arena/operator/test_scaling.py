"""How many workers run and how far they have come, whatever the numbers: laws."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from testbench.arena.operator import jobs
from testbench.arena.operator.observed import KubeJob
from tests.support.operator_fixture import START

numbers = st.integers(0, 40)


@given(completions=st.integers(1, 40), parallelism=st.integers(1, 40), active=numbers, ready=numbers,
       done=st.sets(st.integers(0, 39)), most=st.integers(1, 40))  # fmt: skip
def test_parallelism_never_shrinks_and_keeps_its_bounds(
    completions: int, parallelism: int, active: int, ready: int, done: set[int], most: int
) -> None:
    text = ",".join(str(index) for index in sorted(done) if index < completions)
    job = KubeJob("w", "u", "1", START, completions=completions, parallelism=parallelism, active=active, ready=ready,
                  completed_indexes=text)  # fmt: skip
    wanted = jobs.choose_parallelism(job, most)
    assert wanted >= parallelism
    assert wanted in (parallelism, wanted if wanted <= min(most, completions) else None)


@given(items=st.integers(0, 200), shards=st.integers(1, 40), data=st.data())
def test_progress_sums_up_to_the_total(items: int, shards: int, data: st.DataObject) -> None:
    indexes = list(range(shards))
    completed = data.draw(st.sets(st.sampled_from(indexes)))
    failed = data.draw(st.sets(st.sampled_from(indexes))) - completed
    job = KubeJob("w", "u", "1", START, completions=shards, completed_indexes=",".join(map(str, sorted(completed))),
                  failed_indexes=",".join(map(str, sorted(failed))))  # fmt: skip
    found = jobs.compute_progress(items, job)
    assert found.completed == sum(len(range(items)[index::shards]) for index in completed)
    assert found.completed + found.failed + found.pending == found.total == items
