"""How jobs end in a cluster with real pods: bad answers, missing credentials, archives, load and data generation."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbench.arena.manifest.fields import API_VERSION
from tests.support.cluster.arena import (
    NAMESPACE,
    QUICK,
    InMemoryArena,
    arena_cluster,
    arena_job,
    on_claim,
    provider,
    scenario,
)
from tests.support.cluster.contract.samples import ARENAJOBS
from tests.support.cluster.objects import Json
from tests.support.cluster.waiting import until
from tests.support.servers.scripted_chat import ScriptedChat
from tests.support.servers.static_files import StaticFiles

SURELY_READY_S = 20
"""Until the workers of a load test have loaded what they need, on a busy machine."""


@pytest.fixture
def arena(tmp_path: Path, chat: ScriptedChat) -> Iterator[InMemoryArena]:
    with arena_cluster(tmp_path, replace(QUICK, start_lead_s=SURELY_READY_S)) as found:
        found.bundle("bundle", {"scenarios/a.yaml": scenario("a"), "scenarios/b.yaml": scenario("b")})
        found.create(provider("gpt", chat.base_url))
        found.claim()
        found.start_operator()
        yield found


def ready(found: Json) -> tuple[str, str]:
    """Reason and message of the condition Ready."""
    (condition,) = (each for each in found["status"]["conditions"] if each["type"] == "Ready")
    return condition["reason"], condition["message"]


def with_secret(chat: ScriptedChat) -> Json:
    spec: dict[str, Any] = {"type": "openai", "model": "m", "baseURL": chat.base_url}
    spec["credential"] = {"secretRef": {"name": "keys", "key": "api-key"}}
    return {"apiVersion": API_VERSION, "kind": "Provider", "metadata": {"name": "private"}, "spec": spec}


PRIVATE = {"default": [{"providerRef": {"name": "private"}}]}


def test_wrong_answers_fail_the_job_with_its_verdict(arena: InMemoryArena, chat: ScriptedChat) -> None:
    chat.says("something else")
    arena.create(arena_job("wrong"))
    found = arena.ended("wrong")
    assert (found["status"]["phase"], ready(found)[0]) == ("Failed", "BelowThreshold")
    assert found["status"]["result"]["summary"]["verdict"] == "fail"


def test_a_missing_secret_ends_the_job_before_anything_was_sent(arena: InMemoryArena, chat: ScriptedChat) -> None:
    arena.create(with_secret(chat), arena_job("closed", **on_claim(workers={"replicas": 2}, providers=PRIVATE)))
    found = arena.ended("closed")
    reason, message = ready(found)
    assert (found["status"]["phase"], reason) == ("Failed", "InvalidConfiguration")
    assert "private" in message
    assert chat.requests == []
    assert [job["metadata"]["name"] for job in arena.kube_jobs()] == ["closed-plan"]


def test_a_key_reaches_the_model_and_nothing_else(arena: InMemoryArena, chat: ScriptedChat, tmp_path: Path) -> None:
    key = "hunter2-and-more"
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"api-key": key}}
    arena.create(secret, with_secret(chat), arena_job("open", **on_claim(workers={"replicas": 2}, providers=PRIVATE)))
    assert arena.ended("open")["status"]["phase"] == "Succeeded", arena.story()
    assert {request.headers["authorization"] for request in chat.requests} == {f"Bearer {key}"}
    assert key not in arena.story()
    assert [path for path in arena.results.rglob("*") if path.is_file() and key.encode() in path.read_bytes()] == []
    config = arena.client.get("configmaps", "open-run", NAMESPACE)
    assert key not in json.dumps(config)


def test_a_bundle_comes_from_an_archive_that_has_its_checksum(arena: InMemoryArena) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as zipped:
        zipped.writestr("scenarios/c.yaml", yaml.safe_dump(scenario("c")))
    with StaticFiles() as files:
        url = files.add("bundle.zip", content.getvalue())
        for name, checksum in (("good", hashlib.sha256(content.getvalue()).hexdigest()), ("bad", "0" * 64)):
            artifact = {"artifact": {"url": url, "checksum": f"sha256:{checksum}"}}
            source = {"apiVersion": API_VERSION, "kind": "ArenaSource", "metadata": {"name": name}}
            arena.create(
                source | {"spec": {"type": "git"}, "status": artifact}, arena_job(name, sourceRef={"name": name})
            )
        good, bad = arena.ended("good"), arena.ended("bad")
    assert (good["status"]["phase"], good["status"]["progress"]["total"]) == ("Succeeded", 1)
    assert (bad["status"]["phase"], ready(bad)[0]) == ("Failed", "SourceInvalid")


def test_the_workers_of_a_load_test_get_one_start(arena: InMemoryArena, chat: ScriptedChat) -> None:
    load = {"rampUp": "1s", "duration": "2s", "targetRPS": 10}
    arena.create(arena_job("load", **on_claim(type="loadtest", loadTest=load, workers={"replicas": 2})))
    found = arena.ended("load")
    # a machine with other work may be late itself, which is no verdict about the model
    assert ready(found)[0] in ("Succeeded", "GeneratorSaturated"), arena.story()
    assert found["status"]["result"]["summary"]["requests"] == "15"
    assert "t0" in arena.client.get("configmaps", "load-start", NAMESPACE)["data"]["start.json"]
    assert len(chat.chats) == 15


def test_a_cancelled_job_ends_its_pods(arena: InMemoryArena, chat: ScriptedChat) -> None:
    chat.hang()
    arena.create(arena_job("slow", **on_claim(workers={"replicas": 2})))
    chat.wait_in_flight(2)
    arena.client.patch(ARENAJOBS, "slow", {"spec": {"cancelled": True}}, namespace=NAMESPACE)
    assert arena.ended("slow")["status"]["phase"] == "Cancelled"
    until(lambda: not arena.kubelet.running(), "the end of all pods")
