"""The Kubernetes Jobs of a run, and the ConfigMaps that they read.

The rules of failure are the same for all: a worker that was told to stop (75, 143) or whose node went away has not
failed; one that cannot work with this configuration (78) is not tried again; anything else, an OOM kill included,
counts against the retries of its index.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from testbench.arena.cluster.kinds import CONFIG_MAP, JOB, SECRET, Json
from testbench.arena.load.arrivals import workers_needed
from testbench.arena.manifest.fields import API_VERSION
from testbench.arena.manifest.job import ArenaJob
from testbench.arena.operator import names
from testbench.arena.operator.observed import Run, stamp
from testbench.arena.operator.pods import INDEX, START, Task, labels, pod_template
from testbench.arena.operator.references import Resolved, SecretOf, Setup
from testbench.arena.operator.settings import Settings

MANIFEST_KEY: Final = "manifest.json"
SETUP_KEY: Final = "setup.json"
START_KEY: Final = "start.json"

STOPPED: Final = (75, 143)
"""Told to stop: by itself, or before it could listen."""
NOT_GANGED: Final = 76
FAILED_BY_RULE: Final = "PodFailurePolicy"
"""Why Kubernetes fails a Job at once; only a load test has such a rule for its workers, for NOT_GANGED."""
CONFIGURATION: Final = 78
DECIDED: Final = (1, 2, 4, 78)
"""A single pod that ends so has said the last word: a verdict, or a refusal."""
MAX_CONFIG_BYTES: Final = 900_000
"""A ConfigMap holds a little more than a million bytes, with everything about it."""
MAX_SHARDS: Final = 10_000
FAILED_PART: Final = 4
"""One index in so many may fail before the others are not begun any more: then it is not the items."""


class Size(NamedTuple):
    """How much a run is: its items, and into how many shards they are cut."""

    items: int
    shards: int


def plan_job(run: Run, settings: Settings) -> Json:
    """One pod that makes the plan, or says why there is none."""
    return _one_pod(run, Task("plan-run"), names.plan_job(run.manifest.metadata.name), settings)


def whole_job(run: Run, settings: Settings) -> Json:
    """One pod that does everything. Without a store nothing is left of a failed one, so it is not tried again."""
    job = run.manifest
    retries = settings.retries if job.spec.output is not None else 0
    return _one_pod(run, Task("run-all"), names.whole_job(job.metadata.name), settings, retries)


def reduce_job(run: Run, size: Size, round_: int, settings: Settings) -> Json:
    """One pod that makes the result of the parts of all shards."""
    task = Task("reduce", ("--count", str(size.shards), *_round(run, round_)), items=size.items)
    return _one_pod(run, task, names.reduce_job(run.manifest.metadata.name, round_), settings)


def work_job(run: Run, size: Size, round_: int, settings: Settings) -> Json:
    """One pod for each shard, begun with the fewest workers; a load test begins with all, and has one attempt."""
    job, shards = run.manifest, size.shards
    gang = is_gang(job)
    arguments = ["--index", INDEX, "--count", str(shards), *_round(run, round_)]
    if gang:
        arguments += ["--start-file", START]
    task = Task("work", tuple(arguments), waits_for_start=gang)
    rules = [
        _on_exit("FailIndex", (CONFIGURATION,)),
        *([_on_exit("FailJob", (NOT_GANGED,))] if gang else []),
        _on_exit("Ignore", STOPPED),
        _DISRUPTED,
    ]
    spec = {
        "completionMode": "Indexed",
        "completions": shards,
        "parallelism": shards if gang else min(job.spec.workers.fewest, shards),
        "backoffLimitPerIndex": 0 if gang else settings.retries,
        "maxFailedIndexes": shards if gang else math.ceil(shards / FAILED_PART),
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {"rules": rules},
        "template": pod_template(job, run, task, settings),
    }
    body = _owned(job, JOB.api_version, JOB.name, names.work_job(job.metadata.name, round_), "work") | {"spec": spec}
    body["metadata"]["annotations"] = {names.ITEMS_ANNOTATION: str(size.items)}
    return body


def is_gang(job: ArenaJob) -> bool:
    """Whether all workers have to begin together."""
    return job.spec.type == "loadtest"


def shards_of(job: ArenaJob, items: int, settings: Settings) -> int:
    """Into how many shards the work is cut: one for each worker that there will ever be.

    More shards than workers cost more pod starts than their evenness gains (`benchmarks/shards.py`): the items are
    dealt one by one, so that every shard has its part of the slow ones. A load test takes as many as its rate needs,
    within what the manifest allows.
    """
    workers, load = job.spec.workers, job.spec.load_test
    if is_gang(job):
        rate = load.target_rps if load is not None else None
        needed = workers_needed(rate, settings.requests_per_worker, workers.fewest, workers.most)
        return min(needed, MAX_SHARDS)
    return max(1, min(workers.most, items, MAX_SHARDS))


# --- what they read -------------------------------------------------------------------------------------------------


def run_config(job: ArenaJob, resolved: Resolved) -> Json:
    """The job as it is now, what it refers to and how its pods are set up: kept for the whole run, without secrets."""
    manifest = job.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"status"})
    manifest["metadata"] = {key: manifest["metadata"][key] for key in ("name", "namespace", "uid")}
    listed = {"apiVersion": "v1", "kind": "List", "items": [manifest, *resolved.documents]}
    body = _owned(job, CONFIG_MAP.api_version, CONFIG_MAP.name, names.run_config(job.metadata.name), "run")
    data = {MANIFEST_KEY: json.dumps(listed), SETUP_KEY: resolved.setup.model_dump_json(exclude_none=True)}
    return body | {"immutable": True, "data": data}


def read_run(content: Json, run_id: str) -> Run:
    """What `run_config` kept.

    Raises:
        ValueError: somebody has changed it.
    """
    data = content.get("data") or {}
    try:
        listed = json.loads(data[MANIFEST_KEY])
        manifest = ArenaJob.model_validate(listed["items"][0], by_alias=True, by_name=False)
        return Run(run_id, manifest, Setup.model_validate_json(data[SETUP_KEY]))
    except (LookupError, TypeError) as error:
        raise ValueError(f"{MANIFEST_KEY} or {SETUP_KEY} is missing") from error


def start_config(job: ArenaJob, start: datetime) -> Json:
    """Tells all workers of a load test the same moment to begin."""
    body = _owned(job, CONFIG_MAP.api_version, CONFIG_MAP.name, names.start_config(job.metadata.name), "start")
    return body | {"immutable": True, "data": {START_KEY: json.dumps({"t0": stamp(start)})}}


def secret_copy(job: ArenaJob, copy: SecretOf) -> Json:
    """The Secret that will hold a copy, without its data."""
    name = names.copied_secret(job.metadata.name, copy.folder)
    return _owned(job, SECRET.api_version, SECRET.name, name, "credentials") | {"type": "Opaque"}


def owner_reference(name: str, uid: str) -> Json:
    """What makes Kubernetes remove an object with its ArenaJob, and never keep the ArenaJob for it."""
    return {
        "apiVersion": API_VERSION,
        "kind": "ArenaJob",
        "name": name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


# --- the parts ------------------------------------------------------------------------------------------------------


def _one_pod(run: Run, task: Task, name: str, settings: Settings, retries: int | None = None) -> Json:
    job = run.manifest
    spec = {
        "completions": 1,
        "parallelism": 1,
        "backoffLimit": settings.retries if retries is None else retries,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {"rules": [_on_exit("FailJob", DECIDED), _on_exit("Ignore", STOPPED), _DISRUPTED]},
        "template": pod_template(job, run, task, settings),
    }
    return _owned(job, JOB.api_version, JOB.name, name, task.phase) | {"spec": spec}


_DISRUPTED: Final[Json] = {
    "action": "Ignore",
    "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
}


def _on_exit(action: str, codes: Sequence[int]) -> Json:
    return {"action": action, "onExitCodes": {"operator": "In", "values": sorted(codes)}}


def _round(run: Run, round_: int) -> tuple[str, ...]:
    return ("--round", str(round_)) if run.manifest.spec.type == "datagen" else ()


def _owned(job: ArenaJob, version: str, kind: str, name: str, phase: str) -> Json:
    metadata = job.metadata
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": metadata.namespace,
            "labels": labels(job, phase),
            "ownerReferences": [owner_reference(metadata.name, metadata.uid or "")],
        },
    }
