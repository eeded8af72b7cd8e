"""The operator with worker processes, in small: `tests_e2e` has the whole runs, storms and faults."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testbench.arena.manifest.fields import API_VERSION
from tests.support.cluster.arena import InMemoryArena, arena_cluster, arena_job, on_claim, provider, scenario
from tests.support.cluster.objects import Json
from tests.support.servers.scripted_chat import ScriptedChat

SCENARIOS = [f"s{number:02}" for number in range(8)]


@pytest.fixture
def arena(tmp_path: Path, chat: ScriptedChat) -> Iterator[InMemoryArena]:
    with arena_cluster(tmp_path) as found:
        found.bundle("bundle", {f"scenarios/{name}.yaml": scenario(name) for name in SCENARIOS})
        found.create(provider("gpt", chat.base_url))
        found.claim()
        found.start_operator()
        yield found


def test_a_worker_and_the_operator_are_killed_and_no_item_is_lost_or_doubled(
    arena: InMemoryArena, chat: ScriptedChat
) -> None:
    chat.hang()
    arena.create(arena_job("shared", **on_claim(workers={"replicas": 2})))
    chat.wait_in_flight(2)
    arena.kubelet.kill(next(name for name in arena.kubelet.running() if "-work-" in name))
    arena.restart_operator()
    chat.release()
    status = arena.ended("shared")["status"]
    assert status["phase"] == "Succeeded", arena.story()
    assert status["progress"] == {"total": 8, "completed": 8, "failed": 0, "pending": 0}
    (path,) = arena.results.rglob("results.json")
    assert sorted(one["name"] for one in json.loads(path.read_text())["scenarios"]) == SCENARIOS
    assert sorted(arena.made("jobs.batch")) == ["shared-plan", "shared-reduce", "shared-work"]


def test_a_missing_secret_ends_the_job_before_anything_was_sent(arena: InMemoryArena, chat: ScriptedChat) -> None:
    spec: dict[str, Any] = {"type": "openai", "model": "m", "baseURL": chat.base_url}
    spec["credential"] = {"secretRef": {"name": "keys", "key": "api-key"}}
    private: Json = {"apiVersion": API_VERSION, "kind": "Provider", "metadata": {"name": "private"}, "spec": spec}
    groups = {"default": [{"providerRef": {"name": "private"}}]}
    arena.create(private, arena_job("closed", providers=groups))
    status = arena.ended("closed")["status"]
    (ready,) = (each for each in status["conditions"] if each["type"] == "Ready")
    assert (status["phase"], ready["reason"]) == ("Failed", "InvalidConfiguration")
    assert "private" in ready["message"]
    assert chat.requests == []
