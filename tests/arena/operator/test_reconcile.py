"""An ArenaJob from its first moment to its last: what the operator makes of it, and what it says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from testbench.arena.cluster import api
from testbench.arena.operator.loop import JobKey
from testbench.arena.operator.settings import OperatorSettings
from tests.support.operator_fixture import NAMESPACE, S3, OperatorFixture, arena_job, conclusion, references, run


def world(**spec: Any) -> OperatorFixture:
    made = OperatorFixture()
    made.apply(*references(), arena_job(**spec))
    return made


def many(**spec: Any) -> OperatorFixture:
    """A job of several workers with an S3 output."""
    return world(**({"workers": {"replicas": 4}, "output": S3} | spec))


# --- one pod ----------------------------------------------------------------------------------------------------------


def test_a_job_without_an_output_is_one_pod_from_beginning_to_end() -> None:
    cluster = world()
    cluster.settle()
    assert cluster.names(api.JOB) == ["evals-all"]
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
    made = OperatorFixture()
    claim = {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "kept", "namespace": NAMESPACE},
        "spec": {"accessModes": ["ReadWriteOnce"]},
    }  # fmt: skip
    output = {"type": "pvc", "pvc": {"claimName": "kept", "subPath": "x/"}}
    made.apply(*references(), claim, arena_job(workers={"replicas": 4}, output=output))
    made.settle()
    assert made.names(api.JOB) == ["evals-all"]
    assert "OnePod" in made.events()


def test_a_pod_that_has_said_how_the_run_ended_is_not_waited_for_again() -> None:
    cluster = world(output=S3)
    cluster.settle()
    cluster.fail_pod("evals-all", conclusion(10, passed=4))
    cluster.settle()
    assert (cluster.status().phase, cluster.reason()[1]) == ("Failed", "BelowThreshold")
    assert cluster.names(api.JOB) == []


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
    work = cluster.get(api.JOB, "evals-work")["spec"]
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
    assert cluster.names(api.JOB) == ["evals-plan", "evals-reduce", "evals-work"]


def test_no_more_shards_than_items() -> None:
    cluster = many()
    cluster.plan(items=3)
    assert cluster.get(api.JOB, "evals-work")["spec"]["completions"] == 3


def test_failed_shards_are_reduced_too_because_the_reducer_names_what_is_missing() -> None:
    cluster = many()
    cluster.plan()
    message = json.dumps({"reason": "BadCredentials", "message": "no key for gpt"})
    cluster.end_job("evals-work", message, failed=True, completedIndexes="0-2", failedIndexes="3")
    cluster.settle()
    assert "evals-reduce" in cluster.names(api.JOB)
    (event,) = (
        body for (kind, _, _), body in cluster.cluster.objects.items()
        if kind == api.EVENT and body["reason"] == "WorkersFailed"
    )  # fmt: skip
    assert "no key for gpt" in event["message"]


@pytest.mark.parametrize("sign", ["FailureTarget", "SuccessCriteriaMet"])
def test_workers_that_are_about_to_end_are_still_at_work(sign: str) -> None:
    cluster = many()
    cluster.plan()
    cluster.set_job("evals-work", active=1, conditions=[{"type": sign, "status": "True"}])
    cluster.settle()
    assert "evals-reduce" not in cluster.names(api.JOB)


def test_a_plan_that_refuses_ends_the_job_with_its_reason_before_anything_was_sent() -> None:
    cluster = many()
    cluster.settle()
    cluster.end_job("evals-plan", json.dumps({"reason": "NoScenario", "message": "nothing matches"}), failed=True)
    cluster.settle()
    assert cluster.status().phase == "Failed"
    assert cluster.reason(kind="ConfigValid") == ("False", "NoScenario", "nothing matches")
    assert cluster.names(api.JOB) == ["evals-plan"]


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
    del cluster.cluster.objects[api.PROVIDER, NAMESPACE, "gpt"]
    cluster.get(api.ARENA_JOB, "evals")["spec"]["workers"] = {"replicas": 9}
    cluster.plan()
    assert cluster.get(api.JOB, "evals-work")["spec"]["completions"] == 4


# --- scaling ----------------------------------------------------------------------------------------------------------


def test_workers_double_while_all_that_were_asked_for_are_at_work() -> None:
    cluster = many(workers={"minReplicas": 2, "maxReplicas": 7})
    cluster.plan(items=100)
    seen = [cluster.get(api.JOB, "evals-work")["spec"]["parallelism"]]
    for _ in range(3):
        cluster.set_job("evals-work", active=seen[-1], ready=seen[-1] - 1)
        cluster.settle()
        assert cluster.get(api.JOB, "evals-work")["spec"]["parallelism"] == seen[-1]
        cluster.set_job("evals-work", active=seen[-1], ready=seen[-1])
        cluster.settle()
        seen.append(cluster.get(api.JOB, "evals-work")["spec"]["parallelism"])
    assert seen == [2, 4, 7, 7]


# --- load tests and data generation -----------------------------------------------------------------------------------


def load_test() -> OperatorFixture:
    return many(type="loadtest", loadTest={"targetRPS": 750}, workers={"minReplicas": 2, "maxReplicas": 9})


def test_the_workers_of_a_load_test_begin_together_once_all_are_ready() -> None:
    cluster = load_test()
    cluster.plan(items=2)
    spec = cluster.get(api.JOB, "evals-work")["spec"]
    assert (spec["completions"], spec["parallelism"], spec["backoffLimitPerIndex"]) == (3, 3, 0)
    cluster.set_job("evals-work", active=3, ready=2)
    cluster.settle()
    assert "evals-start" not in cluster.names(api.CONFIG_MAP)
    cluster.set_job("evals-work", active=3, ready=3)
    cluster.look()
    start = json.loads(cluster.get(api.CONFIG_MAP, "evals-start")["data"]["start.json"])["t0"]
    cluster.pass_time(600)
    cluster.settle()
    assert json.loads(cluster.get(api.CONFIG_MAP, "evals-start")["data"]["start.json"])["t0"] == start
    assert cluster.status().phase == "Running"


def test_a_load_test_whose_workers_are_not_ready_in_time_has_failed_and_ends_its_pods() -> None:
    cluster = load_test()
    cluster.plan(items=2)
    cluster.set_job("evals-work", active=3, ready=2)
    cluster.pass_time(OperatorSettings().start_timeout_s)
    cluster.settle()
    assert (cluster.status().phase, cluster.reason()[1]) == ("Failed", "NoCommonStart")
    assert cluster.names(api.JOB) == ["evals-plan"]


def test_a_load_test_whose_workers_ended_before_there_was_a_start_is_not_reduced() -> None:
    cluster = load_test()
    cluster.plan(items=2)
    cluster.end_job("evals-work", "", failed=True, reason="FailedIndexes", failedIndexes="0-2")
    cluster.settle()
    assert (cluster.status().phase, cluster.reason()[1]) == ("Failed", "NoCommonStart")
    assert "evals-reduce" not in cluster.names(api.JOB)


def test_a_worker_that_misses_the_common_start_ends_the_load_test() -> None:
    cluster = load_test()
    cluster.plan(items=2)
    cluster.set_job("evals-work", active=3, ready=3)
    cluster.settle()
    cluster.end_job("evals-work", "", failed=True, reason="PodFailurePolicy")
    cluster.settle()
    said = ("NoCommonStart", "A worker missed the common start. PodFailurePolicy")
    assert (cluster.status().phase, cluster.reason()[1:]) == ("Failed", said)


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
    cluster.get(api.ARENA_JOB, "evals")["spec"]["cancelled"] = True
    cluster.settle()
    status = cluster.status()
    assert (status.phase, status.active_workers) == ("Cancelled", 0)
    assert status.progress is not None
    assert (status.progress.total, status.progress.completed) == (10, 6)
    assert cluster.names(api.JOB) == ["evals-plan"]


def test_a_job_that_is_cancelled_before_it_began_starts_nothing() -> None:
    cluster = many(cancelled=True)
    cluster.settle()
    assert (cluster.status().phase, cluster.names(api.JOB)) == ("Cancelled", [])


def test_an_ended_job_is_removed_with_everything_when_its_time_is_over() -> None:
    cluster = world(ttlSecondsAfterFinished=60)
    cluster.settle()
    cluster.end_job("evals-all", conclusion())
    cluster.settle()
    cluster.pass_time(30)
    cluster.settle()
    assert cluster.names(api.ARENA_JOB) == ["evals"]
    cluster.pass_time(30)
    cluster.settle()
    assert (cluster.names(api.ARENA_JOB), cluster.names(api.JOB), cluster.names(api.CONFIG_MAP)) == (
        [], [], ["bundle"],
    )  # fmt: skip


def test_an_ended_job_stays_as_it_ended_whatever_happens_to_its_jobs() -> None:
    cluster = world()
    cluster.settle()
    cluster.end_job("evals-all", conclusion())
    cluster.settle()
    before = cluster.status()
    del cluster.cluster.objects[api.JOB, NAMESPACE, "evals-all"]
    cluster.restart()
    cluster.settle()
    assert (cluster.status(), cluster.names(api.JOB)) == (before, [])


def test_an_ended_job_stays_as_it_ended_though_its_manifest_is_changed() -> None:
    cluster = world()
    cluster.settle()
    cluster.end_job("evals-all", conclusion(10, passed=4), failed=True)
    cluster.settle()
    before = cluster.status()
    run(cluster.cluster.patch(api.ARENA_JOB, NAMESPACE, "evals", {"spec": {"trials": 2}}))
    cluster.settle()
    assert cluster.status() == before


def test_a_job_that_is_being_deleted_gets_nothing_more() -> None:
    cluster = world()
    cluster.get(api.ARENA_JOB, "evals")["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"
    cluster.settle()
    assert (cluster.names(api.JOB), cluster.names(api.CONFIG_MAP)) == ([], ["bundle"])
    assert cluster.status().phase is None


def test_a_manifest_that_cannot_be_read_is_refused_with_its_fault_and_runs_once_it_is_mended() -> None:
    cluster = world(workers={"replicas": 0})
    cluster.settle()
    assert (cluster.status().phase, cluster.reason()[1]) == ("Failed", "InvalidManifest")
    change = {"spec": {"workers": {"replicas": 1}}}
    run(cluster.cluster.patch(api.ARENA_JOB, NAMESPACE, "evals", change))
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
        run(cluster.loop.run_round(JobKey(NAMESPACE, "evals")))
        writes.append(cluster.cluster.calls.count("patch arenajobs evals status") - before)
    assert writes == [1, 0, 0]
    cluster.look()
    assert cluster.status().progress is not None
    assert cluster.status().progress.completed == 75  # type: ignore[union-attr] # seen in the line above
    cluster.pass_time(-3600)  # the clock is set back, which is no reason to say nothing for an hour
    cluster.set_job("evals-work", active=4, ready=4, completedIndexes="0-3")
    run(cluster.loop.run_round(JobKey(NAMESPACE, "evals")))
    assert cluster.status().progress.completed == 100  # type: ignore[union-attr]
