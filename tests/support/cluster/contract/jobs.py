"""Jobs: what the server takes, and how the Job controller and a kubelet bring one to its end.

A real controller waits ten seconds before it makes a failed index's next pod; only one test here needs such a pod.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from tests.support.cluster.client import ApiClient, RequestRefusedError
from tests.support.cluster.contract.objects import refusal
from tests.support.cluster.contract.samples import config_map, indexed_job, pod, pod_template
from tests.support.cluster.kubelet import Kubelet
from tests.support.cluster.objects import Json
from tests.support.cluster.waiting import until

INDEX = "batch.kubernetes.io/job-completion-index"
POLICY: Json = {
    "rules": [
        {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [78]}},
        {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [75, 143]}},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
    ]
}


def ended(api: ApiClient, name: str, namespace: str) -> Json:
    """The Job as soon as it is Complete or Failed."""

    def look() -> Json | None:
        job = api.get("jobs", name, namespace)
        return job if {"Complete", "Failed"} & set(conditions(job)) else None

    return until(look, f"the end of {name}")


def conditions(job: Json) -> list[str]:
    return [one["type"] for one in job["status"].get("conditions", ()) if one["status"] == "True"]


def pods_of(api: ApiClient, job: str, namespace: str) -> Sequence[Json]:
    return api.items("pods", namespace, labelSelector=f"batch.kubernetes.io/job-name={job}")


def index_of(one: Json) -> int:
    return int(one["metadata"]["annotations"][INDEX])


# --- what is taken ----------------------------------------------------------------------------------------------------

BAD: dict[str, tuple[Json, str]] = {
    "no index, but retries per index": ({"completionMode": "NonIndexed"}, "spec.backoffLimitPerIndex"),
    "no number of indexes": ({"completions": None, "parallelism": 2}, "spec.completions"),
    "a container that starts again beside a policy": ({"template": pod_template("x", restartPolicy="OnFailure"),
                                                       "podFailurePolicy": POLICY}, "spec.template.spec.restartPolicy"),
    "always": ({"template": pod_template("x", restartPolicy="Always")}, "spec.template.spec.restartPolicy"),
    "failed indexes without retries per index": ({"backoffLimitPerIndex": None, "maxFailedIndexes": 1},
                                                 "spec.backoffLimitPerIndex"),
    "too much at once": ({"parallelism": 100_001}, "spec.parallelism"),
    "less than nothing": ({"parallelism": -1}, "spec.parallelism"),
    "FailIndex without retries per index": ({"backoffLimitPerIndex": None, "podFailurePolicy": POLICY},
                                            "spec.podFailurePolicy.rules[0].action"),
    "a rule for success": ({"podFailurePolicy": {"rules": [{"action": "Ignore", "onExitCodes": {"operator": "In",
                            "values": [0]}}]}}, "spec.podFailurePolicy.rules[0].onExitCodes.values[0]"),
    "codes out of order": ({"podFailurePolicy": {"rules": [{"action": "Ignore", "onExitCodes": {"operator": "In",
                            "values": [3, 2]}}]}}, "spec.podFailurePolicy.rules[0].onExitCodes.values"),
    "an unknown container": ({"podFailurePolicy": {"rules": [{"action": "Ignore", "onExitCodes": {
                              "containerName": "no", "operator": "In", "values": [1]}}]}},
                             "spec.podFailurePolicy.rules[0].onExitCodes.containerName"),
    "another replacement beside a policy": ({"podReplacementPolicy": "TerminatingOrFailed",
                                             "podFailurePolicy": POLICY}, "spec.podReplacementPolicy"),
    "no container": ({"template": {"spec": {"restartPolicy": "Never", "containers": []}}},
                     "spec.template.spec.containers"),
    "a volume that nobody defines": ({"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "m",
                                      "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]}}},
                                     "spec.template.spec.containers[0].volumeMounts[0].name"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_job_that_cannot_run_is_refused(api: ApiClient, namespace: str, case: str) -> None:
    spec, field = BAD[case]
    with pytest.raises(RequestRefusedError) as caught:
        api.create("jobs", indexed_job("a", "exit 0", **spec), namespace)
    assert (caught.value.code, field in caught.value.fields) == (422, True), caught.value


def test_a_name_must_leave_room_for_the_index(api: ApiClient, namespace: str) -> None:
    job = indexed_job("a" * 61, "exit 0", completions=11)
    with pytest.raises(RequestRefusedError) as caught:
        api.create("jobs", job, namespace)
    assert "metadata.name" in caught.value.fields
    api.create("jobs", indexed_job("a" * 60, "exit 0", completions=11, suspend=True), namespace)


def test_only_a_few_fields_of_a_job_may_change(api: ApiClient, namespace: str) -> None:
    api.create("jobs", indexed_job("a", "exit 0", suspend=True), namespace)
    for spec in (
        {"completions": 4},
        {"completionMode": "NonIndexed"},
        {"backoffLimitPerIndex": 3},
        {"podFailurePolicy": POLICY},
        {"template": {"spec": {"terminationGracePeriodSeconds": 1}}},
    ):
        change = partial(api.patch, "jobs", "a", {"spec": spec}, namespace=namespace)
        assert refusal(change) == (422, "Invalid"), spec
    changed = api.patch("jobs", "a", {"spec": {"parallelism": 1, "activeDeadlineSeconds": 9}}, namespace=namespace)
    assert (changed["spec"]["parallelism"], changed["metadata"]["generation"]) == (1, 2)


def test_a_job_is_completed_as_the_server_does(api: ApiClient, namespace: str) -> None:
    made = api.create("jobs", indexed_job("a", "exit 0", podFailurePolicy=POLICY, suspend=True), namespace)
    spec, uid = made["spec"], made["metadata"]["uid"]
    assert spec["backoffLimit"] == 2**31 - 1
    assert spec["podReplacementPolicy"] == "Failed"
    assert spec["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
    assert spec["template"]["metadata"]["labels"]["batch.kubernetes.io/job-name"] == "a"
    assert spec["podFailurePolicy"]["rules"][2]["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] == 30


# --- how it runs ------------------------------------------------------------------------------------------------------


def test_every_index_runs_once_and_the_job_is_complete(api: ApiClient, namespace: str, kubelet: Kubelet) -> None:
    script = 'echo -n "$JOB_COMPLETION_INDEX of $TOTAL" > /dev/termination-log'
    job = indexed_job("a", script, completions=5, parallelism=2)
    job["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "TOTAL", "value": "5"}]
    api.create("jobs", job, namespace)
    done = ended(api, "a", namespace)
    assert conditions(done) == ["SuccessCriteriaMet", "Complete"]
    status = done["status"]
    assert (status["succeeded"], status["completedIndexes"], status["failedIndexes"]) == (5, "0-4", "")
    assert (status["ready"], status["terminating"], status.get("active")) == (0, 0, None)
    assert status.keys() >= {"startTime", "completionTime"}
    pods = pods_of(api, "a", namespace)
    said = {index_of(one): one["status"]["containerStatuses"][0]["state"]["terminated"]["message"] for one in pods}
    assert said == {index: f"{index} of 5" for index in range(5)}
    assert all(not one["metadata"].get("finalizers") for one in pods)


def test_a_failed_index_leaves_the_others_running(api: ApiClient, namespace: str, kubelet: Kubelet) -> None:
    script = 'case "$JOB_COMPLETION_INDEX" in 1) exit 78;; 2) exit 1;; esac'
    job = indexed_job("a", script, completions=6, backoffLimitPerIndex=0, podFailurePolicy=POLICY)
    api.create("jobs", job, namespace)
    done = ended(api, "a", namespace)
    assert conditions(done) == ["FailureTarget", "Failed"]
    reasons = {one["reason"] for one in done["status"]["conditions"]}
    assert reasons == {"FailedIndexes"}
    status = done["status"]
    assert (status["completedIndexes"], status["failedIndexes"]) == ("0,3-5", "1,2")
    assert (status["succeeded"], status["failed"], "completionTime" in status) == (4, 2, False)


def test_fail_job_ends_everything(api: ApiClient, namespace: str, kubelet: Kubelet) -> None:
    policy = {"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]}
    script = 'test "$JOB_COMPLETION_INDEX" = 1 && exit 42; exec sleep 600'
    api.create("jobs", indexed_job("a", script, podFailurePolicy=policy), namespace)
    done = ended(api, "a", namespace)
    assert {one["reason"] for one in done["status"]["conditions"]} == {"PodFailurePolicy"}
    (message,) = {one["message"] for one in done["status"]["conditions"]}
    assert message.startswith("Container main for pod ")
    assert message.endswith("failed with exit code 42 matching FailJob rule at index 0")


def test_too_many_failed_indexes_end_the_job(api: ApiClient, namespace: str, kubelet: Kubelet) -> None:
    script = 'test "$JOB_COMPLETION_INDEX" -lt 2 && exit 1; exec sleep 600'
    api.create("jobs", indexed_job("a", script, maxFailedIndexes=1), namespace)
    done = ended(api, "a", namespace)
    assert {one["reason"] for one in done["status"]["conditions"]} == {"MaxFailedIndexesExceeded"}


def test_a_failed_index_is_tried_again_and_counted(api: ApiClient, namespace: str, kubelet: Kubelet) -> None:
    job = indexed_job("a", "exit 1", completions=1, backoffLimitPerIndex=1)
    api.create("jobs", job, namespace)
    done = ended(api, "a", namespace)
    assert (done["status"]["failedIndexes"], done["status"]["failed"]) == ("0", 2)
    counts = sorted(
        one["metadata"]["annotations"]["batch.kubernetes.io/job-index-failure-count"]
        for one in pods_of(api, "a", namespace)
    )
    assert counts == ["0", "1"]


def test_an_evicted_pod_is_replaced_and_costs_no_retry(api: ApiClient, namespace: str, kubelet: Kubelet) -> None:
    script = 'test -e /shared/second && exit 0; trap "exit 75" TERM; touch /shared/first; while :; do sleep 0.05; done'
    template = with_claim(api, namespace, script)
    api.create("jobs", indexed_job("a", "", 1, template=template, podFailurePolicy=POLICY), namespace)
    folder = kubelet.node.claim_folder(namespace, "shared")
    until(lambda: (folder / "first").exists(), "a first pod at work")
    (first,) = pods_of(api, "a", namespace)
    (folder / "second").touch()
    kubelet.evict(first)
    done = ended(api, "a", namespace)
    assert conditions(done) == ["SuccessCriteriaMet", "Complete"]
    assert "failed" not in done["status"]


def test_a_deleted_pod_is_replaced_after_its_end(api: ApiClient, namespace: str, kubelet: Kubelet) -> None:
    script = (
        "trap 'until test -e /shared/go; do sleep 0.02; done; exit 143' TERM; touch /shared/first; "
        "while :; do sleep 0.02; done"
    )
    policy = {"rules": [{"action": "Ignore", "onExitCodes": {"operator": "In", "values": [143]}}]}
    template = with_claim(api, namespace, script)
    api.create("jobs", indexed_job("a", "", 1, template=template, podFailurePolicy=policy), namespace)
    folder = kubelet.node.claim_folder(namespace, "shared")
    until(lambda: (folder / "first").exists(), "a first pod at work")
    (first,) = pods_of(api, "a", namespace)
    api.delete("pods", first["metadata"]["name"], namespace)
    until(lambda: api.get("jobs", "a", namespace)["status"].get("terminating") == 1, "a pod that ends")
    assert "active" not in api.get("jobs", "a", namespace)["status"]
    assert len(pods_of(api, "a", namespace)) == 1
    (folder / "go").touch()
    known = first["metadata"]["uid"]
    until(lambda: any(one["metadata"]["uid"] != known for one in pods_of(api, "a", namespace)), "the second pod")
    api.delete("jobs", "a", namespace, {"propagationPolicy": "Background"})
    until(lambda: not pods_of(api, "a", namespace), "the end of the pods")


def with_claim(api: ApiClient, namespace: str, script: str) -> Json:
    """A pod template with the claim `shared`, which is made here, at `/shared`."""
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Mi"}}}
    api.create("persistentvolumeclaims", {"metadata": {"name": "shared"}, "spec": spec}, namespace)
    template = pod_template(script, volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "shared"}}])
    template["spec"]["containers"][0]["volumeMounts"] = [{"name": "v", "mountPath": "/shared"}]
    return template


def test_parallelism_grows_while_the_job_runs(api: ApiClient, namespace: str, kubelet: Kubelet) -> None:
    api.create("jobs", indexed_job("a", "exec sleep 600", 4, parallelism=1), namespace)
    until(lambda: api.get("jobs", "a", namespace)["status"].get("active") == 1, "one worker")
    api.patch("jobs", "a", {"spec": {"parallelism": 3}}, namespace=namespace)
    until(lambda: api.get("jobs", "a", namespace)["status"].get("ready") == 3, "three workers")
    assert sorted(index_of(one) for one in pods_of(api, "a", namespace)) == [0, 1, 2]
    api.delete("jobs", "a", namespace, {"propagationPolicy": "Background"})


def test_a_suspended_job_has_no_pods(api: ApiClient, namespace: str, kubelet: Kubelet) -> None:
    api.create("jobs", indexed_job("a", "exec sleep 600", 1), namespace)
    until(lambda: api.get("jobs", "a", namespace)["status"].get("ready") == 1, "a worker")
    api.patch("jobs", "a", {"spec": {"suspend": True}}, namespace=namespace)
    until(lambda: "Suspended" in conditions(api.get("jobs", "a", namespace)), "suspension")
    until(lambda: not api.get("jobs", "a", namespace)["status"].get("terminating"), "the end of the pod")
    status = api.get("jobs", "a", namespace)["status"]
    assert ("active" in status, "startTime" in status) == (False, False)


def test_a_deadline_ends_the_job(api: ApiClient, namespace: str, kubelet: Kubelet) -> None:
    api.create("jobs", indexed_job("a", "exec sleep 600", 1, activeDeadlineSeconds=1), namespace)
    done = ended(api, "a", namespace)
    assert {one["reason"] for one in done["status"]["conditions"]} == {"DeadlineExceeded"}


def test_a_finished_job_goes_when_its_time_is_over(api: ApiClient, namespace: str, kubelet: Kubelet) -> None:
    api.create("jobs", indexed_job("a", "exit 0", 1, ttlSecondsAfterFinished=0), namespace)
    until(lambda: not api.items("jobs", namespace), "the end of the Job")
    until(lambda: not pods_of(api, "a", namespace), "the end of the pods")


# --- pods -------------------------------------------------------------------------------------------------------------


def run(api: ApiClient, body: Json, namespace: str) -> Json:
    """The pod's status when it has ended."""
    api.create("pods", body, namespace)

    def look() -> Json | None:
        found: Json = api.get("pods", body["metadata"]["name"], namespace)["status"]
        return found if found["phase"] in ("Succeeded", "Failed") else None

    return until(look, "the end of the pod")


def terminated(status: Json) -> Any:
    return status["containerStatuses"][0]["state"]["terminated"]


def test_a_pod_ends_with_its_exit_code_and_message(api: ApiClient, namespace: str, kubelet: Kubelet) -> None:
    status = run(api, pod("a", "echo -n said > /dev/termination-log; exit 3"), namespace)
    assert (status["phase"], terminated(status)["exitCode"], terminated(status)["message"]) == ("Failed", 3, "said")


def test_volumes_and_fields_reach_the_process(api: ApiClient, namespace: str, kubelet: Kubelet) -> None:
    api.create("configmaps", config_map("settings", {"a.txt": "from the map"}), namespace)
    api.create("secrets", {"metadata": {"name": "keys"}, "stringData": {"token": "hush"}}, namespace)
    script = 'printf "%s|%s|%s|%s" "$(cat /etc/all/a.txt)" "$(cat /etc/all/key)" "$WHO" "$TOKEN" > /dev/termination-log'
    projected = {"sources": [
        {"configMap": {"name": "settings"}},
        {"secret": {"name": "keys", "items": [{"key": "token", "path": "key"}]}},
        {"configMap": {"name": "absent", "optional": True}},
    ]}  # fmt: skip
    body = pod("a", script, volumes=[{"name": "all", "projected": projected}])
    container = body["spec"]["containers"][0]
    container["volumeMounts"] = [{"name": "all", "mountPath": "/etc/all"}]
    container["env"] = [
        {"name": "WHO", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}},
    ]
    status = run(api, body, namespace)
    assert terminated(status)["message"] == "from the map|hush|a|hush"


def test_a_pod_waits_for_its_config_map(api: ApiClient, namespace: str, kubelet: Kubelet) -> None:
    body = pod("a", "cat /in/k", volumes=[{"name": "v", "configMap": {"name": "later"}}])
    body["spec"]["containers"][0]["volumeMounts"] = [{"name": "v", "mountPath": "/in"}]
    api.create("pods", body, namespace)

    def waits() -> bool:
        found = api.get("pods", "a", namespace)["status"].get("containerStatuses", ())
        return any("waiting" in one["state"] for one in found)

    until(waits, "a pod that waits")
    api.create("configmaps", config_map("later"), namespace)
    until(lambda: api.get("pods", "a", namespace)["status"]["phase"] == "Succeeded", "its end")


def test_init_containers_come_first_and_must_succeed(api: ApiClient, namespace: str, kubelet: Kubelet) -> None:
    body = pod("a", "cat /work/x > /dev/termination-log", volumes=[{"name": "w", "emptyDir": {}}])
    mount = [{"name": "w", "mountPath": "/work"}]
    body["spec"]["containers"][0]["volumeMounts"] = mount
    first = {"name": "first", "image": "none", "command": ["/bin/sh", "-c", "printf ready > /work/x"]}
    body["spec"]["initContainers"] = [first | {"volumeMounts": mount}]
    assert terminated(run(api, body, namespace))["message"] == "ready"
    body = json.loads(json.dumps(body))
    body["metadata"]["name"] = "b"
    body["spec"]["initContainers"][0]["command"] = ["/bin/sh", "-c", "exit 4"]
    status = run(api, body, namespace)
    assert status["phase"] == "Failed"
    assert status["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 4


def test_a_killed_container_ends_with_137(api: ApiClient, namespace: str, kubelet: Kubelet) -> None:
    api.create("pods", pod("kill-me", "exec sleep 600"), namespace)
    until(lambda: api.get("pods", "kill-me", namespace)["status"]["phase"] == "Running", "a running pod")
    assert kubelet.kill("kill-me")
    until(lambda: api.get("pods", "kill-me", namespace)["status"]["phase"] == "Failed", "its end")
    assert terminated(api.get("pods", "kill-me", namespace)["status"])["exitCode"] == 137


def test_a_deleted_pod_is_told_and_then_gone(api: ApiClient, namespace: str, kubelet: Kubelet) -> None:
    body = pod("a", "trap 'exit 0' TERM; while :; do sleep 0.05; done")
    api.create("pods", body, namespace)
    until(lambda: api.get("pods", "a", namespace)["status"]["phase"] == "Running", "a running pod")
    left = api.delete("pods", "a", namespace)
    assert left["metadata"]["deletionGracePeriodSeconds"] == 30
    until(lambda: not api.items("pods", namespace), "its end")


def test_what_does_not_hear_is_killed_after_its_grace(api: ApiClient, namespace: str, kubelet: Kubelet) -> None:
    api.create("pods", pod("deaf", "trap '' TERM; while :; do sleep 0.05; done"), namespace)
    until(lambda: api.get("pods", "deaf", namespace)["status"]["phase"] == "Running", "a running pod")
    api.delete("pods", "deaf", namespace, {"gracePeriodSeconds": 1})
    until(lambda: not api.items("pods", namespace), "its end")
