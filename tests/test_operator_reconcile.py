"""An ArenaJob from its first moment to its last: what the operator makes of it, and what it says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbench.arena.operator import kinds, scaling
from testbench.arena.operator.cluster import ClusterError, MemoryCluster
from testbench.arena.operator.kinds import Json, Kind
from testbench.arena.operator.observed import KubeJob
from testbench.arena.operator.settings import Settings
from testbench.arena.operator.shell import Key
from tests.operator_world import NAMESPACE, S3, START, World, arena_job, conclusion, references, run


def world(**spec: Any) -> World:
    made = World()
    made.apply(*references(), arena_job(**spec))
    return made


def many(**spec: Any) -> World:
    """A job of several workers with an S3 output."""
    return world(**({"workers": {"replicas": 4}, "output": S3} | spec))


# --- one pod ----------------------------------------------------------------------------------------------------------


def test_a_job_without_an_output_is_one_pod_from_beginning_to_end() -> None:
    cluster = world()
    cluster.settle()
    assert cluster.names(kinds.JOB) == ["evals-all"]
    assert cluster.status().phase == "Running"
    cluster.end_job("evals-all", conclusion(10))
    cluster.settle()
    assert (cluster.status().phase, cluster.reason()[:2]) == ("Succeeded", ("True", "Succeeded"))
    assert cluster.status().completion_time is not None


def test_a_verdict_of_fail_is_a_failed_job_with_its_counts() -> None:
    cluster = world()
    cluster.settle()
    cluster.end_job("evals-all", conclusion(10, passed=4), failed=True)
    cluster.settle()
    status = cluster.status()
    assert (status.phase, cluster.reason()[1]) == ("Failed", "BelowThreshold")
    assert status.progress is not None
    assert (status.progress.total, status.progress.completed) == (10, 10)


@pytest.mark.parametrize("said", ["", "{", '{"phase": "Succeeded"}', conclusion()[:-5], None, "\x1b[31m", "[]"])
def test_a_last_pod_that_says_nothing_that_can_be_relied_on_is_a_failure(said: str | None) -> None:
    cluster = world()
    cluster.settle()
    cluster.end_job("evals-all", said)
    cluster.settle()
    assert (cluster.status().phase, cluster.reason()[1]) == ("Failed", "NoConclusion")


def test_a_failed_pod_that_tells_of_success_is_not_believed() -> None:
    cluster = world()
    cluster.settle()
    cluster.end_job("evals-all", conclusion(10), failed=True)
    cluster.settle()
    assert (cluster.status().phase, cluster.reason()[1]) == ("Failed", "NoConclusion")


def test_several_workers_on_a_claim_that_one_node_can_mount_become_one_pod_and_an_event_says_so() -> None:
    made = World()
    claim = {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "kept", "namespace": NAMESPACE},
        "spec": {"accessModes": ["ReadWriteOnce"]},
    }  # fmt: skip
    output = {"type": "pvc", "pvc": {"claimName": "kept", "subPath": "x/"}}
    made.apply(*references(), claim, arena_job(workers={"replicas": 4}, output=output))
    made.settle()
    assert made.names(kinds.JOB) == ["evals-all"]
    assert "OnePod" in made.events()


def test_a_pod_that_has_said_how_the_run_ended_is_not_waited_for_again() -> None:
    cluster = world(output=S3)
    cluster.settle()
    cluster.fail_pod("evals-all", conclusion(10, passed=4))
    cluster.settle()
    assert (cluster.status().phase, cluster.reason()[1]) == ("Failed", "BelowThreshold")
    assert cluster.names(kinds.JOB) == []


def test_outputs_that_were_not_written_are_tried_again() -> None:
    cluster = world(output=S3)
    cluster.settle()
    cluster.fail_pod("evals-all", conclusion(10, passed=4).replace("BelowThreshold", "OutputFailed"))
    cluster.settle()
    assert cluster.status().phase == "Running"
    cluster.pass_time(-60)  # whatever a failed pod's clock says, a Job that is complete was completed by another one
    cluster.end_job("evals-all", conclusion(10))
    cluster.pass_time(60)
    cluster.settle()
    assert cluster.status().phase == "Succeeded"


# --- plan, work, reduce -----------------------------------------------------------------------------------------------


def test_a_job_of_several_workers_is_planned_worked_off_and_reduced() -> None:
    cluster = many()
    cluster.plan(items=10)
    work = cluster.get(kinds.JOB, "evals-work")["spec"]
    assert (work["completions"], work["parallelism"], work["completionMode"]) == (4, 4, "Indexed")
    progress = cluster.status().progress
    assert progress is not None
    assert (progress.total, progress.pending) == (10, 10)
    cluster.set_job("evals-work", active=2, ready=2, completedIndexes="0,3")
    cluster.settle()
    progress = cluster.status().progress
    assert progress is not None
    assert (progress.completed, progress.failed, progress.pending) == (5, 0, 5)
    cluster.end_job("evals-work", "", completedIndexes="0-3")
    cluster.settle()
    cluster.end_job("evals-reduce", conclusion(10))
    cluster.settle()
    status = cluster.status()
    assert (status.phase, status.result and status.result.url) == ("Succeeded", "s3://r/x")
    assert cluster.names(kinds.JOB) == ["evals-plan", "evals-reduce", "evals-work"]


def test_no_more_shards_than_items() -> None:
    cluster = many()
    cluster.plan(items=3)
    assert cluster.get(kinds.JOB, "evals-work")["spec"]["completions"] == 3


def test_failed_shards_are_reduced_too_because_the_reducer_names_what_is_missing() -> None:
    cluster = many()
    cluster.plan()
    message = json.dumps({"reason": "BadCredentials", "message": "no key for gpt"})
    cluster.end_job("evals-work", message, failed=True, completedIndexes="0-2", failedIndexes="3")
    cluster.settle()
    assert "evals-reduce" in cluster.names(kinds.JOB)
    (event,) = (
        body for (kind, _, _), body in cluster.cluster.objects.items()
        if kind == kinds.EVENT and body["reason"] == "WorkersFailed"
    )  # fmt: skip
    assert "no key for gpt" in event["message"]


def test_a_plan_that_refuses_ends_the_job_with_its_reason_before_anything_was_sent() -> None:
    cluster = many()
    cluster.settle()
    cluster.end_job("evals-plan", json.dumps({"reason": "NoScenario", "message": "nothing matches"}), failed=True)
    cluster.settle()
    assert cluster.status().phase == "Failed"
    assert cluster.reason(kind="ConfigValid") == ("False", "NoScenario", "nothing matches")
    assert cluster.names(kinds.JOB) == ["evals-plan"]


@pytest.mark.parametrize("said", ["", '{"digest": "sha256:1", "items": 3}', '{"items": 3}', None])
def test_a_plan_without_a_word_is_no_plan(said: str | None) -> None:
    cluster = many()
    cluster.settle()
    cluster.end_job("evals-plan", said)
    cluster.settle()
    assert (cluster.status().phase, cluster.reason()[1]) == ("Failed", "NoPlan")


def test_what_a_run_was_started_with_stays_whatever_changes_meanwhile() -> None:
    cluster = many()
    cluster.settle()
    del cluster.cluster.objects[kinds.PROVIDER, NAMESPACE, "gpt"]
    cluster.get(kinds.ARENA_JOB, "evals")["spec"]["workers"] = {"replicas": 9}
    cluster.plan()
    assert cluster.get(kinds.JOB, "evals-work")["spec"]["completions"] == 4


# --- scaling ----------------------------------------------------------------------------------------------------------


def test_workers_double_while_all_that_were_asked_for_are_at_work() -> None:
    cluster = many(workers={"minReplicas": 2, "maxReplicas": 7})
    cluster.plan(items=100)
    seen = [cluster.get(kinds.JOB, "evals-work")["spec"]["parallelism"]]
    for _ in range(3):
        cluster.set_job("evals-work", active=seen[-1], ready=seen[-1] - 1)
        cluster.settle()
        assert cluster.get(kinds.JOB, "evals-work")["spec"]["parallelism"] == seen[-1]
        cluster.set_job("evals-work", active=seen[-1], ready=seen[-1])
        cluster.settle()
        seen.append(cluster.get(kinds.JOB, "evals-work")["spec"]["parallelism"])
    assert seen == [2, 4, 7, 7]


numbers = st.integers(0, 40)


@given(completions=st.integers(1, 40), parallelism=st.integers(1, 40), active=numbers, ready=numbers,
       done=st.sets(st.integers(0, 39)), most=st.integers(1, 40))  # fmt: skip
def test_parallelism_never_shrinks_and_keeps_its_bounds(
    completions: int, parallelism: int, active: int, ready: int, done: set[int], most: int
) -> None:
    text = ",".join(str(index) for index in sorted(done) if index < completions)
    job = KubeJob("w", "u", "1", START, completions=completions, parallelism=parallelism, active=active, ready=ready,
                  completed_indexes=text)  # fmt: skip
    wanted = scaling.next_parallelism(job, most)
    assert wanted >= parallelism
    assert wanted in (parallelism, wanted if wanted <= min(most, completions) else None)


@given(items=st.integers(0, 200), shards=st.integers(1, 40), data=st.data())
def test_progress_sums_up_to_the_total(items: int, shards: int, data: st.DataObject) -> None:
    indexes = list(range(shards))
    completed = data.draw(st.sets(st.sampled_from(indexes)))
    failed = data.draw(st.sets(st.sampled_from(indexes))) - completed
    job = KubeJob("w", "u", "1", START, completions=shards, completed_indexes=",".join(map(str, sorted(completed))),
                  failed_indexes=",".join(map(str, sorted(failed))))  # fmt: skip
    found = scaling.progress(items, job)
    assert found.completed == sum(len(range(items)[index::shards]) for index in completed)
    assert found.completed + found.failed + found.pending == found.total == items


# --- load tests and data generation -----------------------------------------------------------------------------------


def load_test() -> World:
    return many(type="loadtest", loadTest={"targetRPS": 750}, workers={"minReplicas": 2, "maxReplicas": 9})


def test_the_workers_of_a_load_test_begin_together_once_all_are_ready() -> None:
    cluster = load_test()
    cluster.plan(items=2)
    spec = cluster.get(kinds.JOB, "evals-work")["spec"]
    assert (spec["completions"], spec["parallelism"], spec["backoffLimitPerIndex"]) == (3, 3, 0)
    cluster.set_job("evals-work", active=3, ready=2)
    cluster.settle()
    assert "evals-start" not in cluster.names(kinds.CONFIG_MAP)
    cluster.set_job("evals-work", active=3, ready=3)
    cluster.look()
    start = json.loads(cluster.get(kinds.CONFIG_MAP, "evals-start")["data"]["start.json"])["t0"]
    cluster.pass_time(600)
    cluster.settle()
    assert json.loads(cluster.get(kinds.CONFIG_MAP, "evals-start")["data"]["start.json"])["t0"] == start
    assert cluster.status().phase == "Running"


def test_a_load_test_whose_workers_are_not_ready_in_time_has_failed_and_ends_its_pods() -> None:
    cluster = load_test()
    cluster.plan(items=2)
    cluster.set_job("evals-work", active=3, ready=2)
    cluster.pass_time(Settings().gang_timeout_s)
    cluster.settle()
    assert (cluster.status().phase, cluster.reason()[1]) == ("Failed", "NotGanged")
    assert cluster.names(kinds.JOB) == ["evals-plan"]


def test_a_worker_that_misses_the_common_start_ends_the_load_test_as_not_ganged() -> None:
    cluster = load_test()
    cluster.plan(items=2)
    cluster.set_job("evals-work", active=3, ready=3)
    cluster.settle()
    cluster.end_job("evals-work", "", failed=True, reason="PodFailurePolicy")
    cluster.settle()
    assert (cluster.status().phase, cluster.reason()[1]) == ("Failed", "NotGanged")


def test_data_generation_goes_on_in_rounds_until_there_is_enough() -> None:
    cluster = many(type="datagen", dataGen={"count": 50})
    cluster.plan(items=0)
    for work, reduce, said in (
        ("evals-work", "evals-reduce", '{"next": "again", "message": "31 of 50"}'),
        ("evals-work-2", "evals-reduce-2", conclusion(50)),
    ):
        cluster.end_job(work, "", completedIndexes="0-3")
        cluster.settle()
        assert cluster.status().phase == "Running"
        cluster.end_job(reduce, said)
        cluster.settle()
    assert cluster.status().phase == "Succeeded"


def test_data_generation_ends_after_ten_rounds() -> None:
    cluster = many(type="datagen", dataGen={"count": 50})
    cluster.plan(items=0)
    for number in range(1, 11):
        suffix = "" if number == 1 else f"-{number}"
        cluster.end_job(f"evals-work{suffix}", "", completedIndexes="0-3")
        cluster.settle()
        cluster.end_job(f"evals-reduce{suffix}", '{"next": "again"}')
        cluster.settle()
    assert (cluster.status().phase, cluster.reason()[1]) == ("Failed", "RoundsExhausted")


# --- cancelled, ended, removed ----------------------------------------------------------------------------------------


def test_a_cancelled_job_ends_its_pods_and_keeps_what_is_known() -> None:
    cluster = many()
    cluster.plan(items=10)
    cluster.set_job("evals-work", active=2, ready=2, completedIndexes="0,1")
    cluster.settle()
    cluster.get(kinds.ARENA_JOB, "evals")["spec"]["cancelled"] = True
    cluster.settle()
    status = cluster.status()
    assert (status.phase, status.active_workers) == ("Cancelled", 0)
    assert status.progress is not None
    assert (status.progress.total, status.progress.completed) == (10, 6)
    assert cluster.names(kinds.JOB) == ["evals-plan"]


def test_a_job_that_is_cancelled_before_it_began_starts_nothing() -> None:
    cluster = many(cancelled=True)
    cluster.settle()
    assert (cluster.status().phase, cluster.names(kinds.JOB)) == ("Cancelled", [])


def test_an_ended_job_is_removed_with_everything_when_its_time_is_over() -> None:
    cluster = world(ttlSecondsAfterFinished=60)
    cluster.settle()
    cluster.end_job("evals-all", conclusion())
    cluster.settle()
    cluster.pass_time(30)
    cluster.settle()
    assert cluster.names(kinds.ARENA_JOB) == ["evals"]
    cluster.pass_time(30)
    cluster.settle()
    assert (cluster.names(kinds.ARENA_JOB), cluster.names(kinds.JOB), cluster.names(kinds.CONFIG_MAP)) == (
        [], [], ["bundle"],
    )  # fmt: skip


def test_an_ended_job_stays_as_it_ended_whatever_happens_to_its_jobs() -> None:
    cluster = world()
    cluster.settle()
    cluster.end_job("evals-all", conclusion())
    cluster.settle()
    before = cluster.status()
    del cluster.cluster.objects[kinds.JOB, NAMESPACE, "evals-all"]
    cluster.restart()
    cluster.settle()
    assert (cluster.status(), cluster.names(kinds.JOB)) == (before, [])


def test_a_manifest_that_cannot_be_read_is_refused_with_its_fault_and_runs_once_it_is_mended() -> None:
    cluster = world(workers={"replicas": 0})
    cluster.settle()
    assert (cluster.status().phase, cluster.reason()[1]) == ("Failed", "InvalidManifest")
    change = {"spec": {"workers": {"replicas": 1}}}
    run(cluster.cluster.patch(kinds.ARENA_JOB, NAMESPACE, "evals", change))
    cluster.settle()
    assert cluster.status().phase == "Running"


def test_a_status_in_which_only_numbers_changed_is_written_at_most_every_five_seconds() -> None:
    cluster = many()
    cluster.plan(items=100)
    writes = []
    for done in range(3):
        cluster.set_job("evals-work", active=4, ready=4, completedIndexes=f"0-{done}")
        before = cluster.cluster.calls.count("patch arenajobs evals status")
        cluster.pass_time(1)
        run(cluster.shell.look(Key(NAMESPACE, "evals")))
        writes.append(cluster.cluster.calls.count("patch arenajobs evals status") - before)
    assert writes == [1, 0, 0]
    cluster.look()
    assert cluster.status().progress is not None
    assert cluster.status().progress.completed == 75  # type: ignore[union-attr] # seen in the line above


# --- crashes ----------------------------------------------------------------------------------------------------------


class Killed(Exception):
    """The operator's process is gone."""


class MortalCluster(MemoryCluster):
    """The n-th write is the last thing that the operator does; with `before`, it does not come to it."""

    left = -1
    before = False
    operating = False

    def _count(self) -> bool:
        if not self.operating:
            return False
        self.left -= 1
        if self.left == 0 and self.before:
            raise Killed
        return self.left == 0

    async def create(self, kind: Kind, body: Json) -> bool:
        last = self._count()
        done = await super().create(kind, body)
        if last:
            raise Killed
        return done

    async def patch(self, kind: Kind, namespace: str, name: str, change: Json, *, status: bool = False) -> Json:
        last = self._count()
        done = await super().patch(kind, namespace, name, change, status=status)
        if last:
            raise Killed
        return done


def play(cluster: World) -> list[str]:
    """A whole run, whoever dies meanwhile; the writes that were made."""

    def settle() -> None:
        assert isinstance(cluster.cluster, MortalCluster)
        for _ in range(20):
            cluster.cluster.operating = True
            try:
                cluster.settle()
            except Killed:
                cluster.restart()
            else:
                return
            finally:
                cluster.cluster.operating = False
        raise AssertionError("it does not come to rest")

    settle()
    cluster.end_job("evals-plan", json.dumps({"digest": f"sha256:{'0' * 64}", "items": 10}))
    settle()
    cluster.set_job("evals-work", active=2, ready=2)
    settle()
    cluster.end_job("evals-work", "", completedIndexes="0-3")
    settle()
    cluster.end_job("evals-reduce", conclusion(10))
    settle()
    return cluster.cluster.calls


def normal(cluster: World) -> list[tuple[str, str, Any]]:
    """Everything that is there, without what differs from run to run."""
    return sorted(
        (kind.name, name, body.get("spec"))
        for (kind, _, name), body in cluster.cluster.objects.items()
        if kind != kinds.EVENT
    )


def mortal(dies_at: int, before: bool) -> World:
    cluster = MortalCluster(now=START)
    made = World(cluster=cluster)
    made.apply(*references(), arena_job(workers={"minReplicas": 2, "maxReplicas": 4}, output=S3))
    cluster.left, cluster.before = dies_at, before
    return made


@settings(max_examples=40, deadline=None)
@given(dies_at=st.integers(1, 30), before=st.booleans())
def test_an_operator_that_dies_between_any_two_writes_comes_to_the_same_end(dies_at: int, before: bool) -> None:
    whole = mortal(-1, False)
    play(whole)
    hurt = mortal(dies_at, before)
    calls = play(hurt)
    assert [kind for kind, _, _ in normal(hurt)] == [kind for kind, _, _ in normal(whole)]
    assert hurt.status().phase == whole.status().phase == "Succeeded"
    assert hurt.get(kinds.JOB, "evals-work")["spec"]["parallelism"] == 4
    said = [event["message"] for (kind, _, _), event in hurt.cluster.objects.items() if kind == kinds.EVENT]
    assert len(said) == len(set(said))
    assert {"Running", "Succeeded"} <= set(hurt.events())
    for name in ("evals-plan", "evals-work", "evals-reduce"):
        assert calls.count(f"create jobs {name}") <= 2


def test_a_job_of_the_same_name_that_belongs_to_an_earlier_one_is_waited_for_and_not_taken() -> None:
    cluster = world()
    stranger = {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "evals-all", "namespace": NAMESPACE}, "spec": {},
    }  # fmt: skip
    cluster.apply(stranger)
    cluster.look()
    with pytest.raises(ClusterError, match="somebody else"):
        cluster.look()
    del cluster.cluster.objects[kinds.JOB, NAMESPACE, "evals-all"]
    cluster.settle()
    assert cluster.status().phase == "Running"
