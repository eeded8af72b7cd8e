"""Manifests of `deploy/base/arena/samples` and a data generation, run to their end in the in-memory cluster.

A load test is run by `make cluster-test`: its workers need half a minute to be ready for a common start.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support.cluster.arena import (
    BY_KIND,
    NAMESPACE,
    InMemoryArena,
    arena_cluster,
    arena_job,
    on_claim,
    provider,
    scenario,
)
from tests.support.cluster.contract.samples import SAMPLES
from tests.support.cluster.objects import Json
from tests.support.cluster.waiting import until
from tests.support.datagen_job import inventive
from tests.support.servers.scripted_chat import ScriptedChat

if TYPE_CHECKING:
    from tests.support.servers.s3_store import S3Store
    from tests.support.servers.scripted_judge import ScriptedJudge

READY = "weather agent ready at "
GPT = {"default": [{"providerRef": {"name": "gpt"}}]}


@pytest.fixture
def arena(tmp_path: Path) -> Iterator[InMemoryArena]:
    with arena_cluster(tmp_path) as found:
        found.start_operator()
        yield found


def sample(name: str) -> Sequence[Json]:
    return [one for one in yaml.safe_load_all((SAMPLES / f"{name}.yaml").read_text()) if one]


def environment(arena: InMemoryArena, values: dict[str, str]) -> None:
    """Variables of all workers."""
    arena.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "arena-worker"}, "data": values})


def test_the_sample_with_its_own_agent_runs_as_it_is_applied(arena: InMemoryArena) -> None:
    documents = sample("sample-agent")
    (deployment,) = [one for one in documents if one["kind"] == "Deployment"]
    arena.create(*(one for one in documents if one["kind"] != "Deployment"))
    # there is no Deployment controller and no network here: its pod, on a port that is free
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "weather"}} | deployment["spec"]["template"]
    pod["metadata"] = {"name": "weather"}
    pod["spec"]["containers"][0]["args"] = ["--host", "127.0.0.1", "--port", "0"]
    del pod["spec"]["containers"][0]["workingDir"]
    arena.create(pod)
    until(lambda: READY in arena.kubelet.logs("weather"), "the sample agent")
    endpoint = arena.kubelet.logs("weather").partition(READY)[2].split()[0]
    # what the file's first lines tell a person to do
    status = {"status": {"a2a": {"endpoint": endpoint}}}
    runtime = BY_KIND["AgentRuntime"]
    arena.client.patch(runtime, "weather-agent", status, sub="status", namespace=NAMESPACE)
    ended = arena.ended("sample-agent")["status"]
    assert ended["phase"] == "Succeeded", arena.story()
    assert ended["result"]["summary"]["verdict"] == "pass"


def test_the_parallel_sample_leaves_its_results_in_the_bucket(
    arena: InMemoryArena, chat: ScriptedChat, s3: S3Store
) -> None:
    (job,) = sample("parallel-evaluation")
    s3.make_bucket("arena-results")
    environment(arena, s3.environment())
    arena.bundle("provider-comparison", {f"scenarios/s{number}.yaml": scenario(f"s{number}") for number in range(4)})
    arena.create(provider("gpt", chat.base_url))
    job["spec"]["providers"] = GPT  # the sample leaves them to its bundle
    job["spec"]["workers"] = {"replicas": 2}
    arena.create(job)
    ended = arena.ended("parallel-eval")["status"]
    assert ended["phase"] == "Succeeded", arena.story()
    keys = s3.keys("arena-results", "evals/parallel/")
    assert {key.rpartition("/")[2] for key in keys} >= {"results.json", "junit.xml", "report.html", "summary.json"}
    assert ended["result"]["url"].startswith("s3://arena-results/evals/parallel/")


def test_data_is_made_until_there_is_enough(arena: InMemoryArena, judge: ScriptedJudge) -> None:
    judge.answer("Batch", inventive())
    documents: dict[str, Any] = {"documents/tides.md": "The tide comes twice a day."}
    arena.bundle("bundle", documents)
    arena.create(provider("gpt", judge.base_url))
    arena.claim()
    wanted = {"count": 8, "format": "jsonl"}
    arena.create(arena_job("made", type="datagen", dataGen=wanted, **on_claim(workers={"replicas": 2})))
    ended = arena.ended("made")["status"]
    assert ended["phase"] == "Succeeded", arena.story()
    (path,) = arena.results.rglob("dataset.jsonl")
    assert len(path.read_text().splitlines()) == 8
