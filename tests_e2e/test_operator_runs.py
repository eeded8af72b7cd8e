"""The operator with everything that it needs: jobs run to their end through real worker processes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

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
from tests.support.cluster.faults import Break
from tests.support.cluster.objects import moment_of
from tests.support.cluster.waiting import PATIENCE_SECONDS, until
from tests.support.servers.scripted_chat import ScriptedChat

KILLS = int(os.environ.get("CLUSTER_KILLS", "10"))
"""How often something is killed in the storm; `make cluster-test` takes a hundred."""
JOBS = ARENAJOBS.qualified
SCENARIOS = [f"s{number:02}" for number in range(6)]


@pytest.fixture
def arena(tmp_path: Path, chat: ScriptedChat) -> Iterator[InMemoryArena]:
    with arena_cluster(tmp_path) as found:
        found.bundle("bundle", {f"scenarios/{name}.yaml": scenario(name) for name in SCENARIOS})
        found.create(provider("gpt", chat.base_url))
        found.start_operator()
        yield found


def results(arena: InMemoryArena) -> Any:
    (path,) = arena.results.rglob("results.json")
    return json.loads(path.read_text())


def test_a_job_without_an_output_is_one_pod(arena: InMemoryArena) -> None:
    arena.create(arena_job("small"))
    status = arena.ended("small")["status"]
    assert status["phase"] == "Succeeded", arena.story()
    assert status["progress"] == {"total": 6, "completed": 6, "failed": 0, "pending": 0}
    assert [one["metadata"]["name"] for one in arena.kube_jobs()] == ["small-all"]


def test_workers_share_the_items_and_each_is_done_once(arena: InMemoryArena, chat: ScriptedChat) -> None:
    arena.claim()
    arena.create(arena_job("shared", **on_claim(workers={"replicas": 2})))
    status = arena.ended("shared")["status"]
    assert status["phase"] == "Succeeded", arena.story()
    assert sorted(one["name"] for one in results(arena)["scenarios"]) == SCENARIOS
    assert len(chat.chats) == len(SCENARIOS)
    names = [one["metadata"]["name"] for one in arena.kube_jobs()]
    assert names == ["shared-plan", "shared-reduce", "shared-work"]


def storm(arena: InMemoryArena, chat: ScriptedChat, kills: int, seed: int = 7) -> None:
    """Kill the operator, a worker's processes, or evict a worker, each time after a few more requests have come.

    The model answers nobody while it happens: so there is work left until the last kill, however fast the machine is.
    """
    draw = Random(seed)
    for _ in range(kills):
        chat.release()
        chat.wait_requests(len(chat.requests) + draw.randint(0, 3), PATIENCE_SECONDS)
        chat.hang()
        working = [name for name in arena.kubelet.running() if "-work-" in name]
        match draw.choice(("operator", "crash", "evict")) if working else "operator":
            case "operator":
                arena.restart_operator()
            case "crash":
                arena.kubelet.kill(draw.choice(working))
            case "evict":
                name = draw.choice(working)
                arena.kubelet.evict(next(one for one in arena.pods() if one["metadata"]["name"] == name))
    chat.release()


def test_whatever_is_killed_no_item_is_lost_or_doubled(tmp_path: Path, chat: ScriptedChat) -> None:
    names = [f"s{number:03}" for number in range(10 * KILLS)]
    with arena_cluster(tmp_path, replace(QUICK, retries=10 * KILLS)) as arena:
        arena.bundle("bundle", {f"scenarios/{name}.yaml": scenario(name) for name in names})
        one_at_a_time = {"TESTBENCH_ARENA_WORK_CONCURRENCY": "1"}
        arena.create(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "arena-worker"}, "data": one_at_a_time},
            provider("gpt", chat.base_url),
        )
        arena.claim()
        arena.start_operator()
        arena.create(arena_job("stormy", **on_claim(workers={"replicas": 3})))
        storm(arena, chat, KILLS)
        status = arena.ended("stormy", 60.0 + 5 * KILLS)["status"]
        assert status["phase"] == "Succeeded", arena.story()
        assert status["progress"] == {"total": len(names), "completed": len(names), "failed": 0, "pending": 0}
        assert sorted(one["name"] for one in results(arena)["scenarios"]) == names
        assert sorted(arena.made("jobs.batch")) == ["stormy-plan", "stormy-reduce", "stormy-work"]


def test_a_run_survives_every_fault_of_a_watch_and_of_requests(arena: InMemoryArena, chat: ScriptedChat) -> None:
    arena.claim()
    chat.hang()
    arena.create(arena_job("shaken", **on_claim(workers={"replicas": 2})))
    chat.wait_requests(1)
    faults = arena.server.faults
    breaks: list[tuple[Break, int]] = [("error", 500), ("error", 410), ("truncated", 0), ("dropped", 0), ("ended", 0)]
    for how, code in breaks:
        for plural in ("jobs", "arenajobs"):
            watches = len(arena.server.calls_of("watch", plural))
            faults.break_watch(how, plural, status=code)
            until(partial(is_watched, arena, plural, watches), f"a watch of {plural} after {how} {code}")
            touch(arena, plural, f"{how}-{code}")
    for status in (401, 403, 404, 410, 429, 500, 503):
        watches = len(arena.server.calls_of("watch", "jobs"))
        faults.fail(status, verb="watch", resource="jobs")
        faults.fail(status, verb="list", resource="jobs")
        faults.break_watch("ended", "jobs")
        until(lambda: faults.left == 0, f"all faults of {status}")
        until(partial(is_watched, arena, "jobs", watches + 1), f"a watch after {status}")
        touch(arena, "jobs", str(status))
    arena.server.store.history.forget()
    faults.lose_answers(2, "create")
    faults.fail(409, 2, "patch")
    chat.release()
    assert arena.ended("shaken")["status"]["phase"] == "Succeeded", arena.story()
    assert sorted(one["name"] for one in results(arena)["scenarios"]) == SCENARIOS
    assert faults.left == 0


def is_watched(arena: InMemoryArena, plural: str, before: int) -> bool:
    """Whether there were more watches since."""
    return len(arena.server.calls_of("watch", plural)) > before


def touch(arena: InMemoryArena, plural: str, mark: str) -> None:
    """Let something happen that a watch sees: a client may wait the longer the less it has heard."""
    resource, name = ("jobs", "shaken-work") if plural == "jobs" else (ARENAJOBS, "shaken")
    arena.client.patch(resource, name, {"metadata": {"annotations": {"mark": mark}}}, namespace=NAMESPACE)


class Clock:
    """Stands where it is put."""

    def __init__(self, moment: str) -> None:
        self.moment = datetime.fromisoformat(moment)

    def __call__(self) -> datetime:
        return self.moment


def is_past(arena: InMemoryArena, tick: datetime) -> bool:
    """Whether the schedule has seen to a tick and looks at the next one."""
    return moment_of(arena.job("nightly")["status"]["nextScheduleTime"]) > tick


def scheduled(policy: str, cron: str) -> Any:
    schedule = {"cron": cron, "timezone": "America/New_York", "concurrencyPolicy": policy}
    return arena_job("nightly", schedule=schedule)


def test_a_nightly_run_comes_once_in_the_night_of_the_clock_change(tmp_path: Path, chat: ScriptedChat) -> None:
    clock = Clock("2026-10-31T12:00:00-04:00")
    with arena_cluster(tmp_path, now=clock) as arena:
        arena.bundle("bundle", {"scenarios/a.yaml": scenario("a")})
        arena.create(provider("gpt", chat.base_url))
        arena.start_operator()
        arena.create(scheduled("Forbid", "30 1 * * *"))
        until(lambda: arena.job("nightly").get("status", {}).get("nextScheduleTime"), "a schedule")
        seen = []
        for moment in ("2026-11-01T01:30:00-04:00", "2026-11-01T01:30:00-05:00", "2026-11-02T01:30:00-05:00"):
            clock.moment = datetime.fromisoformat(moment)
            arena.restart_operator()
            until(partial(is_past, arena, clock()), "the end of the tick")
            runs = [name for name in arena.made(JOBS) if name != "nightly"]
            for name in runs:
                assert arena.ended(name)["status"]["phase"] == "Succeeded"
            seen.append(len(runs))
        assert seen == [1, 1, 2]


@pytest.mark.parametrize(("policy", "made", "alive"), [("Allow", 2, 2), ("Forbid", 1, 1), ("Replace", 2, 1)])
def test_runs_that_overlap_follow_the_policy(
    tmp_path: Path, chat: ScriptedChat, policy: str, made: int, alive: int
) -> None:
    clock = Clock("2026-05-01T00:30:00+00:00")
    chat.hang()
    with arena_cluster(tmp_path, now=clock) as arena:
        arena.bundle("bundle", {"scenarios/a.yaml": scenario("a")})
        arena.create(provider("gpt", chat.base_url))
        arena.start_operator()
        arena.create(scheduled(policy, "0 * * * *"))
        until(lambda: arena.job("nightly").get("status", {}).get("nextScheduleTime"), "a schedule")
        for hour in (1, 2):
            clock.moment = datetime(2026, 5, 1, hour, tzinfo=UTC)
            arena.restart_operator()
            until(partial(is_past, arena, clock()), "the end of the tick")
            chat.wait_requests(1)
        runs = [name for name in arena.made(JOBS) if name != "nightly"]
        assert len(runs) == made
        until(
            lambda: sum(arena.job(name).get("status", {}).get("phase") == "Running" for name in runs) == alive, "runs"
        )
        chat.release()
        for name in runs:
            arena.ended(name)
