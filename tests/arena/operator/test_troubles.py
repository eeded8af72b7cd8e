"""A job that does not get on says why, and no job, pod or person can bring down the operator for all the others."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbench.arena.cluster import api
from testbench.arena.cluster.api import DeniedError, Json, Kind, MemoryCluster
from testbench.arena.conclusion import TERMINATION_BYTES
from testbench.arena.operator.loop import OperatorLoop
from testbench.arena.operator.pod_messages import parse_message
from testbench.arena.operator.settings import OperatorSettings
from tests.support.operator_fixture import (
    DIGEST,
    NAMESPACE,
    S3,
    START,
    OperatorFixture,
    arena_job,
    conclusion,
    references,
    run,
)

QUOTA = 'Error creating: pods "evals-work-0-x" is forbidden: exceeded quota: few'


def world(cluster: MemoryCluster | None = None, **spec: Any) -> OperatorFixture:
    made = OperatorFixture(cluster=cluster or MemoryCluster(now=START))
    settled: dict[str, Any] = {"workers": {"replicas": 4}, "output": S3} | spec
    made.apply(*references(), arena_job(**settled))
    return made


def pod(cluster: OperatorFixture, job: str, **status: Any) -> None:
    """A pod of a Job, as a kubelet or a scheduler describes it."""
    uid = cluster.get(api.JOB, job)["metadata"]["uid"]
    metadata = {
        "name": f"{job}-{len(cluster.names(api.POD))}",
        "namespace": NAMESPACE,
        "labels": {"batch.kubernetes.io/job-name": job},
        "ownerReferences": [{"kind": "Job", "name": job, "uid": uid}],
    }
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": {"phase": "Pending", **status}})


def waiting(reason: str, message: str) -> Json:
    return {"containerStatuses": [{"state": {"waiting": {"reason": reason, "message": message}}}]}


def event(cluster: OperatorFixture, job: str, message: str) -> None:
    uid = cluster.get(api.JOB, job)["metadata"]["uid"]
    cluster.apply({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": f"{job}.1", "namespace": NAMESPACE},
        "involvedObject": {"uid": uid}, "reason": "FailedCreate", "message": message,
        "lastTimestamp": "2026-03-01T12:00:00Z",
    })  # fmt: skip


# --- pods that do not start -------------------------------------------------------------------------------------------


def test_an_image_that_cannot_be_pulled_is_said_in_the_status_until_it_can() -> None:
    cluster = world()
    cluster.settle()
    pod(cluster, "evals-plan", **waiting("ContainerCreating", ""))
    cluster.settle()
    assert cluster.reason()[1] == "Working"
    pod(cluster, "evals-plan", **waiting("ImagePullBackOff", 'Back-off pulling image "none:1"'))
    cluster.settle()
    assert cluster.status().phase == "Running"
    said = ("ImagePullBackOff", 'Pod evals-plan-1: Back-off pulling image "none:1"')
    assert cluster.reason()[1:] == cluster.reason(kind="Progressing")[1:] == said
    assert "ImagePullBackOff" in cluster.events()
    cluster.set_job("evals-plan", active=1, ready=1)
    cluster.settle()
    assert cluster.reason()[1] == "Working"


def test_a_pod_that_no_node_takes_is_said_in_the_status() -> None:
    cluster = world()
    cluster.settle()
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
    pod(cluster, "evals-plan", conditions=[condition])
    cluster.settle()
    assert cluster.reason()[1:] == ("Unschedulable", "Pod evals-plan-0: 0/3 nodes")


def test_pods_that_a_quota_refuses_are_said_in_the_status_though_others_run() -> None:
    cluster = world()
    cluster.plan()
    cluster.set_job("evals-work", active=3, ready=3)
    event(cluster, "evals-work", QUOTA)
    cluster.settle()
    assert cluster.reason()[1:] == ("FailedCreate", QUOTA)
    assert cluster.status().active_workers == 3
    cluster.set_job("evals-work", active=4, ready=3)
    cluster.settle()
    assert cluster.reason()[1] == "Working"
    cluster.set_job("evals-work", active=3, ready=3, completedIndexes="3")
    cluster.settle()
    assert cluster.reason()[1] == "Working"


def test_a_load_test_without_a_common_start_says_what_kept_the_others() -> None:
    cluster = world(type="loadtest", loadTest={"targetRPS": 200}, workers={"replicas": 2})
    cluster.plan(items=1)
    cluster.set_job("evals-work", active=2, ready=1)
    pod(cluster, "evals-work", **waiting("ErrImagePull", "not found"))
    cluster.pass_time(OperatorSettings().start_timeout_s)
    cluster.settle()
    _, reason, message = cluster.reason()
    assert reason == "NoCommonStart"
    assert "ErrImagePull Pod evals-work-1: not found" in message
    assert cluster.reason(kind="JobCreated")[0] == "True"


# --- requests that are refused ----------------------------------------------------------------------------------------


class Refusing(MemoryCluster):
    """Refuses to create or read some api."""

    kinds: tuple[Kind, ...] = ()

    async def create(self, kind: Kind, body: Json) -> bool:
        if kind in self.kinds:
            raise DeniedError('jobs.batch "x" is forbidden: a policy says no', 403)
        return await super().create(kind, body)

    async def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        if kind in self.kinds:
            raise DeniedError(f"{kind.plural} is forbidden", 403)
        return await super().get(kind, namespace, name)


def test_a_step_that_is_refused_is_said_in_the_status_and_goes_on_once_it_is_allowed() -> None:
    refusing = Refusing(now=START)
    cluster = world(refusing)
    cluster.look()
    refusing.kinds = (api.JOB,)
    for _ in range(3):
        with pytest.raises(DeniedError):
            cluster.look()
    assert cluster.status().phase == "Pending"
    assert cluster.reason()[1:] == ("Denied", 'jobs.batch "x" is forbidden: a policy says no')
    assert cluster.events().count("Denied") == 1
    refusing.kinds = ()
    cluster.settle()
    assert (cluster.status().phase, cluster.reason()[1]) == ("Running", "Working")


def test_a_reference_that_the_operator_may_not_read_is_said_in_the_status() -> None:
    refusing = Refusing(now=START)
    cluster = world(refusing)
    refusing.kinds = (api.PROVIDER,)
    cluster.settle()
    assert cluster.reason(kind="ConfigValid") == ("Unknown", "ProviderDenied", "providers is forbidden")


def test_a_job_that_no_config_map_can_hold_is_refused_before_anything_is_started() -> None:
    several = {"default": [{"providerRef": {"name": f"gpt-{number}"}} for number in range(20)]}
    cluster = OperatorFixture()
    source, bundle, one = references()
    others = [one | {"metadata": one["metadata"] | {"name": f"gpt-{number}"}} for number in range(20)]
    for other in others:
        other["spec"] = other["spec"] | {"baseURL": "http://gateway/" + "x" * 50_000}
    cluster.apply(source, bundle, *others, arena_job(providers=several))
    cluster.settle()
    assert (cluster.status().phase, cluster.reason()[1]) == ("Failed", "TooLarge")
    assert cluster.names(api.JOB) == []


def test_a_name_that_is_taken_is_said_in_the_status() -> None:
    cluster = world()
    stranger = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "evals-run", "namespace": NAMESPACE}}
    cluster.apply(stranger)
    with pytest.raises(DeniedError, match="somebody else"):
        cluster.look()
    assert cluster.reason()[1] == "NameTaken"


# --- what was there and is gone ---------------------------------------------------------------------------------------


def test_a_run_goes_on_though_the_pod_and_the_job_that_planned_it_are_gone() -> None:
    for gone in ((api.POD,), (api.POD, api.JOB)):
        cluster = world()
        cluster.plan(items=10)
        for key in [key for key in cluster.cluster.objects if key[0] in gone and key[2].startswith("evals-plan")]:
            del cluster.cluster.objects[key]
        cluster.restart()
        cluster.set_job("evals-work", active=4, ready=4, completedIndexes="0")
        cluster.settle()
        progress = cluster.status().progress
        assert progress is not None
        assert (cluster.status().phase, progress.total, progress.completed) == ("Running", 10, 3)
        assert ("evals-plan" in cluster.names(api.JOB)) is (len(gone) == 1)


def test_data_generation_goes_on_though_the_pods_of_its_earlier_rounds_are_gone() -> None:
    cluster = world(type="datagen", dataGen={"count": 50})
    cluster.plan(items=0)
    cluster.end_job("evals-work", "", completedIndexes="0-3")
    cluster.settle()
    cluster.end_job("evals-reduce", '{"next": "again"}')
    cluster.settle()
    for key in [key for key in cluster.cluster.objects if key[0] == api.POD]:
        del cluster.cluster.objects[key]
    cluster.restart()
    cluster.end_job("evals-work-2", "", completedIndexes="0-3")
    cluster.settle()
    cluster.end_job("evals-reduce-2", conclusion(50))
    cluster.settle()
    assert cluster.status().phase == "Succeeded"


def test_a_job_that_was_deleted_and_created_again_at_once_is_another_one() -> None:
    cluster = world()
    cluster.plan(items=10)
    uid = cluster.get(api.ARENA_JOB, "evals")["metadata"]["uid"]
    run(cluster.cluster.delete(api.ARENA_JOB, NAMESPACE, "evals", uid))
    for key in [key for key in cluster.cluster.objects if key[0] == api.POD]:  # which went with their Jobs
        del cluster.cluster.objects[key]
    cluster.apply(arena_job(workers={"replicas": 2}, output=S3))
    cluster.plan(items=10)
    assert cluster.get(api.JOB, "evals-work")["spec"]["completions"] == 2


def test_a_pod_that_was_evicted_often_is_believed_in_the_end() -> None:
    cluster = world(workers={"replicas": 1})
    cluster.settle()
    for _ in range(60):
        cluster.fail_pod("evals-all", "")
    cluster.end_job("evals-all", conclusion(10))
    cluster.settle()
    assert cluster.status().phase == "Succeeded"


def test_a_kubernetes_job_of_somebody_else_is_not_believed_whatever_its_labels_say() -> None:
    cluster = world(output=None, workers={"replicas": 1})
    uid = cluster.get(api.ARENA_JOB, "evals")["metadata"]["uid"]
    metadata = {"name": "evals-all", "namespace": NAMESPACE, "labels": {"omnia.altairalabs.ai/job-uid": uid}}
    cluster.apply({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {}})
    cluster.look()
    cluster.end_job("evals-all", conclusion(10))
    with pytest.raises(DeniedError):
        cluster.look()
    assert (cluster.status().phase, cluster.reason()[1]) == ("Pending", "NameTaken")


def test_a_job_of_workers_that_is_deleted_by_hand_is_made_again() -> None:
    cluster = world()
    cluster.plan(items=10)
    del cluster.cluster.objects[api.JOB, NAMESPACE, "evals-work"]
    cluster.settle()
    assert "evals-work" in cluster.names(api.JOB)
    assert cluster.status().phase == "Running"


def test_a_cancelled_run_still_says_that_it_had_workers() -> None:
    cluster = world()
    cluster.plan(items=10)
    cluster.get(api.ARENA_JOB, "evals")["spec"]["cancelled"] = True
    cluster.settle()
    assert (cluster.status().phase, cluster.reason(kind="JobCreated")[0]) == ("Cancelled", "True")


def test_a_change_that_comes_too_late_is_answered_once() -> None:
    cluster = world()
    cluster.plan(items=10)
    for change in ({"ttlSecondsAfterFinished": 60}, {"workers": {"replicas": 9}}):
        before = cluster.events().count("ChangeIgnored")
        run(cluster.cluster.patch(api.ARENA_JOB, NAMESPACE, "evals", {"spec": change}))
        cluster.settle()
        assert cluster.events().count("ChangeIgnored") - before == ("workers" in change)


def test_an_ended_job_is_looked_at_again_only_when_its_time_is_over() -> None:
    cluster = world(ttlSecondsAfterFinished=7200)
    cluster.get(api.ARENA_JOB, "evals")["spec"]["cancelled"] = True
    cluster.settle()
    cluster.restart()
    cluster.look()
    (due,) = cluster.loop._queue._due.values()  # how often it looks is seen nowhere else
    assert (due - cluster.now).total_seconds() > 7000


# --- words that are no words ------------------------------------------------------------------------------------------

GOOD = {"phase": "Failed", "reason": "BelowThreshold", "message": "m", "counts": {"total": 3, "failed": 3}}


@pytest.mark.parametrize(
    "change",
    [
        {"summary": {"a": "b" * 1100}},
        {"summary": {str(number): "" for number in range(65)}},
        {"reason": ""},
        {"reason": "Below\u001b[31m"},
        {"url": "s3://" + "x" * 2048},
        {"counts": {"total": 10**12}},
        {"phase": "Succeeded"},
        {"phase": "Succeeded", "reason": "Succeeded", "counts": {"total": 0}},
        {"reason": "Succeeded"},
    ],
    ids=str,
)
def test_a_word_that_no_status_could_hold_or_that_contradicts_itself_is_no_conclusion(change: Json) -> None:
    assert parse_message(json.dumps(GOOD)) is not None
    cluster = world()
    cluster.plan(items=10)
    cluster.end_job("evals-work", "", completedIndexes="0-3")
    cluster.settle()
    cluster.end_job("evals-reduce", json.dumps(GOOD | change))
    cluster.settle()
    assert (cluster.status().phase, cluster.reason()[1]) == ("Failed", "NoConclusion")


def test_an_evaluation_has_no_second_round() -> None:
    cluster = world()
    cluster.plan(items=10)
    cluster.end_job("evals-work", "", completedIndexes="0-3")
    cluster.settle()
    cluster.end_job("evals-reduce", '{"next": "again"}')
    cluster.settle()
    assert (cluster.status().phase, cluster.reason()[1]) == ("Failed", "NoConclusion")


def test_what_a_pod_says_reaches_no_terminal_as_it_is() -> None:
    word = parse_message(
        json.dumps(GOOD | {"summary": {"verdict": "\u001b[31m"}, "url": "s3://a/\u0007", "message": "\u202e"})
    )
    assert word is not None
    assert word.model_dump_json().isprintable()
    assert "\\x1b" in word.model_dump_json()


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 10**13) | st.text(max_size=20) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
WORDS = st.fixed_dictionaries(
    {},
    optional={
        "phase": st.sampled_from(["Succeeded", "Failed", "Cancelled", "Pending", ""]),
        "reason": st.sampled_from(["Succeeded", "BelowThreshold"]) | st.text(max_size=8),
        "message": ANYTHING,
        "counts": st.fixed_dictionaries({"total": st.integers(-1, 10**13)}) | ANYTHING,
        "summary": st.dictionaries(st.text(max_size=8), st.text(max_size=1500), max_size=3) | ANYTHING,
        "url": ANYTHING,
        "items": st.integers(-1, 10**13),
        "digest": st.just(DIGEST) | ANYTHING,
        "next": st.sampled_from(["again", ""]),
    },
)


@settings(max_examples=80, deadline=None)
@given(planned=WORDS | ANYTHING, reduced=WORDS | ANYTHING, honest=st.booleans())
def test_whatever_pods_say_the_operator_comes_to_an_end_and_never_to_a_success(
    planned: Any, reduced: Any, honest: bool
) -> None:
    cluster = world()
    cluster.settle()
    cluster.end_job("evals-plan", json.dumps({"digest": DIGEST, "items": 10} if honest else planned))
    cluster.settle()
    if "evals-work" in cluster.names(api.JOB):
        cluster.end_job("evals-work", "", completedIndexes="0-3")
        cluster.settle()
        cluster.end_job("evals-reduce", json.dumps(reduced))
        cluster.settle()
    status, text = cluster.status(), json.dumps(reduced)
    assert status.phase in ("Failed", "Cancelled", "Succeeded")
    told = reduced if isinstance(reduced, dict) else {}
    if status.phase == "Succeeded":
        assert (told["phase"], told["reason"]) == ("Succeeded", "Succeeded")
        assert told["counts"]["total"] > 0
        assert len(text.encode()) <= TERMINATION_BYTES


# --- one job for itself -----------------------------------------------------------------------------------------------


class Poisoned(MemoryCluster):
    """One of its jobs is such as nobody has thought of."""

    def __init__(self) -> None:
        super().__init__(now=START)
        self.worked = asyncio.Event()

    async def create(self, kind: Kind, body: Json) -> bool:
        if kind == api.JOB:
            self.worked.set()
        return await super().create(kind, body)

    async def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        if (kind, name) == (api.ARENA_JOB, "poison"):
            raise KeyError("metadata")
        return await super().get(kind, namespace, name)


async def test_a_job_that_hits_a_defect_leaves_the_others_alone(caplog: pytest.LogCaptureFixture) -> None:
    cluster = Poisoned()
    for body in (*references(), arena_job("poison"), arena_job("healthy")):
        await cluster.create(kind_of(body), body)
    loop, stop = OperatorLoop(cluster, OperatorSettings(round_interval_s=0, backoff_s=0.01)), asyncio.Event()
    working = asyncio.create_task(loop.run(stop))
    await asyncio.wait_for(cluster.worked.wait(), 20)
    stop.set()
    await working
    assert "arena/poison: a defect of the operator" in caplog.text


def kind_of(body: Json) -> Kind:
    return next(kind for kind in vars(api).values() if isinstance(kind, Kind) and kind.name == body["kind"])


def test_a_source_whose_address_is_none_is_refused() -> None:
    cluster = OperatorFixture()
    source, *others = references()
    artifact = {"artifact": {"url": "http://[bad/bundle.zip", "checksum": "sha256:" + "0" * 64}}
    cluster.apply(source | {"spec": {}, "status": artifact}, *others, arena_job())
    cluster.settle()
    assert (cluster.status().phase, cluster.reason()[1]) == ("Failed", "SourceNotSupported")
