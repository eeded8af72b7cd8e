"""A cluster in memory with an operator, and the Job controller played by hand: for tests of the operator alone.

`tests/support/cluster` has the strict API server and pods that really run.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from testbench.arena.cluster import api
from testbench.arena.cluster.api import Json, Kind, MemoryCluster
from testbench.arena.conclusion import Conclusion, Counts, build_termination_message
from testbench.arena.manifest.documents import validate_manifest
from testbench.arena.manifest.job import ArenaJob
from testbench.arena.manifest.job_status import JobStatus
from testbench.arena.operator.loop import JobKey, OperatorLoop
from testbench.arena.operator.observed import read_status
from testbench.arena.operator.references import FoundObjects, ObjectReference
from testbench.arena.operator.settings import OperatorSettings

NAMESPACE = "arena"
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
DIGEST = f"sha256:{'0' * 64}"
S3 = {"type": "s3", "s3": {"bucket": "results", "prefix": "evals/", "secretRef": {"name": "s3-keys"}}}


def arena_job(name: str = "evals", **spec: Any) -> Json:
    content = {"sourceRef": {"name": "scenarios"}, "providers": {"default": [{"providerRef": {"name": "gpt"}}]}}
    return _object(api.ARENA_JOB, name, spec=content | spec)


def references() -> list[Json]:
    """Return a source in a ConfigMap, and a Provider with a key."""
    return [
        _object(api.ARENA_SOURCE, "scenarios", spec={"type": "configmap", "configMap": {"name": "bundle"}}),
        _object(api.CONFIG_MAP, "bundle", data={"config.arena.yaml": "{}", "scenarios__a.yaml": "{}"}),
        _object(
            api.PROVIDER, "gpt",
            spec={
                "type": "openai", "model": "m", "baseURL": "http://gateway/v1",
                "credential": {"secretRef": {"name": "keys"}},
            },
        ),
    ]  # fmt: skip


def conclusion(items: int = 10, passed: int | None = None) -> str:
    """Return the message of a run's reducer."""
    good = items if passed is None else passed
    phase, reason = ("Succeeded", "Succeeded") if good == items else ("Failed", "BelowThreshold")
    counts = Counts(total=items, passed=good, failed=items - good)
    return build_termination_message(
        Conclusion(phase=phase, reason=reason, message="", counts=counts, summary={"score": "1.000"}, url="s3://r/x")
    )


@dataclass
class OperatorFixture:
    """The objects, the time and the operator. `look` runs one round of the operator for one job."""

    cluster: MemoryCluster = field(default_factory=lambda: MemoryCluster(now=START))
    settings: OperatorSettings = field(default_factory=OperatorSettings)
    now: datetime = START

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Replace the operator by a new one, as after a crash."""
        self.loop = OperatorLoop(self.cluster, self.settings, (NAMESPACE,), lambda: self.now)

    def apply(self, *objects: Json) -> None:
        for content in objects:
            assert run(self.cluster.create(_KINDS[content["kind"]], content))

    def look(self, name: str = "evals") -> None:
        """Run one round, after the interval in which a status is not written again."""
        self.pass_time(self.settings.status_interval_s)
        run(self.loop.run_round(JobKey(NAMESPACE, name)))

    def settle(self, name: str = "evals", rounds: int = 10) -> None:
        """Run rounds until nothing changes any more."""
        for _ in range(rounds):
            before = self.cluster.version
            self.look(name)
            if self.cluster.version == before:
                return
        raise AssertionError(f"{name} does not come to rest")

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.cluster.now = self.now

    def get(self, kind: Kind, name: str) -> Json:
        found = self.cluster.objects.get((kind, NAMESPACE, name))
        assert found is not None, f"no {kind.name} {name}: {self.names(kind)}"
        return found

    def names(self, kind: Kind) -> list[str]:
        return sorted(name for its_kind, _, name in self.cluster.objects if its_kind == kind)

    def status(self, name: str = "evals") -> JobStatus:
        return read_status(self.get(api.ARENA_JOB, name))

    def reason(self, name: str = "evals", kind: str = "Ready") -> tuple[str, str, str]:
        (found,) = (each for each in self.status(name).conditions if each.type == kind)
        return found.status, found.reason, found.message

    def events(self) -> list[str]:
        return [event["reason"] for (kind, _, _), event in self.cluster.objects.items() if kind == api.EVENT]

    # --- the Job controller -----------------------------------------------------------------------------------------

    def set_job(self, name: str, **status: Any) -> None:
        """Write what the Job controller would write."""
        job = self.get(api.JOB, name)
        run(self.cluster.patch(api.JOB, NAMESPACE, name, {"status": (job.get("status") or {}) | status}, status=True))

    def end_job(
        self, name: str, message: str | None = "", *, failed: bool = False, reason: str = "Because", **status: Any
    ) -> None:
        """End a Job whose last pod left this message; None: no pod is left."""
        job = self.get(api.JOB, name)
        if message is not None:
            self._pod(job, message, failed)
        condition = {"type": "Failed" if failed else "Complete", "status": "True", "reason": reason, "message": ""}
        self.set_job(name, active=0, ready=0, conditions=[condition], **status)

    def fail_pod(self, name: str, message: str) -> None:
        """Let a pod of a Job fail, which is tried again."""
        self._pod(self.get(api.JOB, name), message, True)
        self.set_job(name, active=1, failed=1)

    def plan(self, items: int = 10, name: str = "evals") -> None:
        """Let the plan pod of a job succeed."""
        self.settle(name)
        self.end_job(f"{name}-plan", json.dumps({"digest": DIGEST, "items": items, "scenarios": 1, "systems": 1}))
        self.settle(name)

    def _pod(self, job: Json, message: str, failed: bool) -> None:
        name = job["metadata"]["name"]
        ended = {"exitCode": int(failed), "message": message, "finishedAt": self.now.isoformat()}
        body = _object(api.POD, f"{name}-{len(self.names(api.POD))}", status={
            "phase": "Failed" if failed else "Succeeded", "containerStatuses": [{"state": {"terminated": ended}}],
        })  # fmt: skip
        body["metadata"] |= {
            "labels": {"batch.kubernetes.io/job-name": name},
            "ownerReferences": [{"kind": "Job", "name": name, "uid": job["metadata"]["uid"]}],
        }
        self.apply(body)


def run(work: Awaitable[Any]) -> Any:
    async def inside() -> Any:
        return await work

    return asyncio.run(inside())


_KINDS: Mapping[str, Kind] = {kind.name: kind for kind in vars(api).values() if isinstance(kind, Kind)}


def _object(kind: Kind, name: str, **content: Any) -> Json:
    return {
        "apiVersion": kind.api_version,
        "kind": kind.name,
        "metadata": {"name": name, "namespace": NAMESPACE},
        **content,
    }


def manifest(content: Json) -> ArenaJob:
    """Return the ArenaJob as the API server would send it."""
    metadata = content["metadata"] | {"uid": "6a3d5e0e-0000-4000-8000-000000000001"}
    return validate_manifest(ArenaJob, content | {"metadata": metadata})


def objects(*contents: Json) -> FoundObjects:
    """Return documents as they were read; all other objects do not exist."""
    found = {
        ObjectReference(_KINDS[content["kind"]], content["metadata"]["namespace"], content["metadata"]["name"]): content
        for content in contents
    }
    return _AnsweringNone(found)


class _AnsweringNone(dict[ObjectReference, Json | None]):
    """Every other object does not exist."""

    def __contains__(self, key: object) -> bool:
        return True

    def __missing__(self, key: ObjectReference) -> None:
        return None
