"""The operator on a real control plane, with the rights and in the namespaces of `deploy/base/arena`.

So it has the token of its own service account, and its namespace takes only pods of the `restricted` kind. Its Jobs are
served by the real Job controller, and their pods run as local processes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import yaml

from tests.support.cluster.arena import (
    BY_KIND,
    NAMESPACE,
    QUICK,
    ArenaCluster,
    arena_job,
    arena_kubelet,
    ended_operators,
    on_claim,
    provider,
    scenario,
)
from tests.support.cluster.client import ApiClient, path
from tests.support.cluster.contract.deletion import gone
from tests.support.cluster.contract.samples import CRDS
from tests.support.cluster.objects import Json
from tests.support.cluster.waiting import until
from tests.support.servers.scripted_chat import ScriptedChat

SCENARIOS = [f"s{number:02}" for number in range(12)]
DEPLOYED = CRDS.parent
SYSTEM = "arena-system"
SETTINGS = replace(QUICK, start_lead_s=30)
"""Until all workers of a load test have loaded what they need, on a machine with two busy cores."""


@pytest.fixture
def chat() -> Iterator[ScriptedChat]:
    with ScriptedChat() as part:
        yield part


@pytest.fixture
def arena(api: ApiClient, tmp_path: Path, chat: ScriptedChat) -> Iterator[ArenaCluster]:
    for file in ("namespaces.yaml", "rbac.yaml"):
        for document in yaml.safe_load_all((DEPLOYED / file).read_text()):
            resource = BY_KIND[document["kind"]]
            api.create(resource, document, document["metadata"].get("namespace", ""))
    until(lambda: api.items("serviceaccounts", NAMESPACE), "an account")
    asked = api.call("POST", f"{path('serviceaccounts', SYSTEM, 'arena-operator')}/token", {"spec": {}})
    arena = partial(ArenaCluster, settings=SETTINGS, token=asked["status"]["token"])
    with arena_kubelet(api.access, tmp_path) as kubelet, ended_operators(arena(api, kubelet)) as found:
        found.bundle("bundle", {f"scenarios/{name}.yaml": scenario(name) for name in SCENARIOS})
        found.create(provider("gpt", chat.base_url))
        found.claim()
        found.start_operator()
        yield found
    for name in (NAMESPACE, SYSTEM):
        api.delete("namespaces", name)
        until(partial(gone, api, "namespaces", name, ""), "the end of the namespace")


def test_a_job_runs_to_its_end_and_goes_with_all_that_it_made(arena: ArenaCluster, chat: ScriptedChat) -> None:
    arena.create(arena_job("real", **on_claim(workers={"minReplicas": 1, "maxReplicas": 3})))
    chat.wait_requests(1, 60)
    arena.restart_operator()
    status = arena.ended("real", 120)["status"]
    assert status["phase"] == "Succeeded", arena.story()
    assert status["progress"] == {"total": 12, "completed": 12, "failed": 0, "pending": 0}
    (file,) = arena.results.rglob("results.json")
    assert sorted(one["name"] for one in json.loads(file.read_text())["scenarios"]) == SCENARIOS
    assert [one["metadata"]["name"] for one in arena.kube_jobs()] == ["real-plan", "real-reduce", "real-work"]
    arena.remove("real")
    until(lambda: not arena.kube_jobs() and not arena.pods(), "the end of everything that the job owned")


def test_a_load_test_begins_together_and_ends_with_its_numbers(arena: ArenaCluster) -> None:
    load = {"targetRPS": 20, "rampUp": "0s", "duration": "1s"}
    arena.create(arena_job("rush", type="loadtest", loadTest=load, **on_claim(workers={"replicas": 2})))
    status = arena.ended("rush", 180)["status"]
    assert status["phase"] == "Succeeded", arena.story()
    start = arena.client.get("configmaps", "rush-start", NAMESPACE)
    assert json.loads(start["data"]["start.json"])["t0"]
    work = arena.client.get("jobs", "rush-work", NAMESPACE)
    assert (work["spec"]["parallelism"], work["status"]["succeeded"]) == (2, 2)


def test_pods_that_the_cluster_refuses_are_said_in_the_status_and_run_once_they_may(arena: ArenaCluster) -> None:
    limits = f"/api/v1/namespaces/{NAMESPACE}/limitranges"
    spec = {"limits": [{"type": "Container", "max": {"memory": "64Mi"}}]}
    arena.client.call("POST", limits, {"metadata": {"name": "small"}, "spec": spec})
    arena.create(arena_job("big"))
    message = until(lambda: refusal(arena.job("big")), "the refusal in the status", 60)
    assert "maximum memory usage per Container is 64Mi" in message
    arena.client.call("DELETE", f"{limits}/small")
    assert arena.ended("big", 180)["status"]["phase"] == "Succeeded", arena.story()


def refusal(job: Json) -> str | None:
    """What the condition Ready says while no pod can be created."""
    conditions = job.get("status", {}).get("conditions", ())
    found = (one for one in conditions if (one["type"], one["reason"]) == ("Ready", "FailedCreate"))
    return next((one["message"] for one in found), None)
