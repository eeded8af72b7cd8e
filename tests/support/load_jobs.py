"""Load tests as contexts: a job, its scenarios and who is under test, with results in memory unless told otherwise."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from testbench.arena.bundle.bundle import BundleFiles
from testbench.arena.manifest.documents import load_documents
from testbench.arena.manifest.fields import API_VERSION
from testbench.arena.plan.build import prepare_plan
from testbench.arena.runs.context import JobContext, RunFolder
from testbench.arena.runs.target_clients import CredentialSource, TargetClients
from testbench.arena.stores import MemoryStore, ResultStore
from testbench.schema.shards import WHOLE, Shard

GREETING = (
    "name: greeting\nsteps: [{input: hello, metrics: [{metric_name: builtin.contains, parameters: {text: hello}}]}]\n"
)
TWO_TURNS = "name: two turns\nsteps: [{input: one}, {input: two}]\n"


class Leisurely:
    """A clock of which a second takes `slower` real ones.

    A machine that is busy is late by so much less: what is promised of a generator in time is not what a test tests.
    """

    def __init__(self, slower: float = 20.0) -> None:
        self._slower = slower
        self._begun = datetime.now(UTC)
        self._start = time.monotonic()

    def now(self) -> datetime:
        return self._begun + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return (time.monotonic() - self._start) / self._slower

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds * self._slower)


def provider(url: str, name: str = "gpt", **spec: Any) -> dict[str, Any]:
    whole = {"type": "openai", "model": f"{name}-model", "baseURL": url} | spec
    return {"apiVersion": API_VERSION, "kind": "Provider", "metadata": {"name": name}, "spec": whole}


def agent_runtime(url: str, name: str = "assistant") -> dict[str, Any]:
    status = {"a2a": {"endpoint": url}}
    return {"apiVersion": API_VERSION, "kind": "AgentRuntime", "metadata": {"name": name}, "status": status}


def manifest(folder: Path, settings: Mapping[str, Any], *tested: Mapping[str, Any], **spec: Any) -> Path:
    """The manifest of a load test of everybody in `tested`."""
    refs = {"Provider": "providerRef", "AgentRuntime": "agentRef"}
    entries = [{refs[one["kind"]]: {"name": one["metadata"]["name"]}} for one in tested]
    whole = {
        "sourceRef": {"name": "s"},
        "type": "loadtest",
        "loadTest": {"rampUp": "0s"} | dict(settings),
        "providers": {"default": entries},
        **spec,
    }
    job = {"apiVersion": API_VERSION, "kind": "ArenaJob", "metadata": {"name": "storm"}, "spec": whole}
    path = folder / "manifest.yaml"
    path.write_text(yaml.safe_dump_all([job, *tested]))
    return path


def load_job(
    path: Path,
    scenarios: Mapping[str, str] | None = None,
    shard: Shard = WHOLE,
    worker: str = "local",
    store: ResultStore | None = None,
) -> JobContext:
    """The context of a worker or the reducer of the job in a manifest."""
    documents = load_documents(path)
    files = BundleFiles("bundle")
    for name, text in (scenarios or {"scenarios/greeting.yaml": GREETING}).items():
        files.add(name, text.encode())
    bundle, job = files.bundle(), documents.job()
    plan, known = prepare_plan(job, documents, bundle)
    return JobContext(
        job=job,
        documents=known,
        plan=plan,
        store=RunFolder(store or MemoryStore(), "default/storm/run-1"),
        run_id="run-1",
        clients=TargetClients(job, known, CredentialSource(known, environment={})),
        source=bundle,
        shard=shard,
        worker=worker,
        clock=Leisurely(),
    )


def files_of(context: JobContext) -> dict[str, bytes]:
    """What the run has written, by its name in the run's folder."""
    store = context.store.whole
    assert isinstance(store, MemoryStore)
    return {name.removeprefix("default/storm/run-1/"): content for name, content in store.files.items()}
