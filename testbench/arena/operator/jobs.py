"""Builds the Kubernetes Jobs of a run and the ConfigMaps that they read, and tells how far a Job has come.

The rules of failure are the same for all: a worker that was told to stop or whose node went away has not failed; one
that cannot work with this configuration is not tried again; anything else, an OOM kill included, counts against the
retries of its index. Pure; called by `reconcile`.

The Job controller starts an index as soon as it may; the operator decides how many at once. Their number doubles while
all that were asked for are at work, and is never lowered: that would end pods that are working. At the end Kubernetes
itself runs no more pods than there are indexes left.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from testbench.arena.cluster.api import CONFIG_MAP, JOB, SECRET, Json, Kind
from testbench.arena.load.traffic import count_workers_needed
from testbench.arena.manifest.job import ArenaJob
from testbench.arena.manifest.job_status import JobProgress
from testbench.arena.operator.metadata import (
    ITEMS_ANNOTATION,
    build_labels,
    build_owner_reference,
    format_time,
    name_copied_secret,
    name_plan_job,
    name_reduce_job,
    name_run_config,
    name_start_config,
    name_whole_job,
    name_work_job,
)
from testbench.arena.operator.observed import KubeJob, Run
from testbench.arena.operator.pods import INDEX, START, Task, build_pod_template
from testbench.arena.operator.references import PodSetup, Resolved, SecretCopy
from testbench.arena.operator.settings import OperatorSettings
from testbench.errors import ExitCode

MANIFEST_KEY: Final = "manifest.json"
SETUP_KEY: Final = "setup.json"
START_KEY: Final = "start.json"

STOPPED: Final = (ExitCode.STOPPED, ExitCode.TERMINATED)
"""A pod that was told to stop: it ended itself, or was ended before it could listen."""
FAILED_BY_RULE: Final = "PodFailurePolicy"
"""Why Kubernetes fails a Job at once; of Jobs of workers only those of a load test have such a rule."""
FINAL: Final = (ExitCode.VERDICT_FAIL, ExitCode.BAD_INPUT, ExitCode.NOTHING_TO_DO, ExitCode.CONFIGURATION)
"""A single pod that ends so is not tried again: it ended with a verdict, or a refusal."""
MAX_CONFIG_BYTES: Final = 900_000
"""A ConfigMap holds a little more than a million bytes, with everything about it."""
MAX_SHARDS: Final = 10_000
FAILED_PART: Final = 4
"""One index in so many may fail; if more do, no further ones are begun: then it is not the items."""


class Size(NamedTuple):
    """How much a run is: its items, and into how many shards they are cut."""

    items: int
    shards: int


def build_plan_job(run: Run, settings: OperatorSettings) -> Json:
    """Return the Job of one pod that makes the plan, or says why there is none."""
    return _build_one_pod_job(run, Task("plan-run"), name_plan_job(run.manifest.metadata.name), settings)


def build_whole_job(run: Run, settings: OperatorSettings) -> Json:
    """Return the Job of one pod that does everything. Without a store nothing is left of a failed pod: no retries."""
    job = run.manifest
    retries = settings.retries if job.spec.output is not None else 0
    return _build_one_pod_job(run, Task("run-all"), name_whole_job(job.metadata.name), settings, retries)


def build_reduce_job(run: Run, size: Size, round_: int, settings: OperatorSettings) -> Json:
    """Return the Job of one pod that makes the result of the parts of all shards."""
    task = Task("reduce", ("--count", str(size.shards), *_build_round_arguments(run, round_)), items=size.items)
    return _build_one_pod_job(run, task, name_reduce_job(run.manifest.metadata.name, round_), settings)


def build_work_job(run: Run, size: Size, round_: int, settings: OperatorSettings) -> Json:
    """Return the Job of all shards, begun with the fewest workers; a load test begins with all, and has one attempt."""
    job, shards = run.manifest, size.shards
    gang = needs_common_start(job)
    arguments = ["--index", INDEX, "--count", str(shards), *_build_round_arguments(run, round_)]
    if gang:
        arguments += ["--start-file", START]
    task = Task("work", tuple(arguments), waits_for_start=gang)
    rules = [
        _build_exit_rule("FailIndex", (ExitCode.CONFIGURATION,)),
        *([_build_exit_rule("FailJob", (ExitCode.NO_COMMON_START,))] if gang else []),
        _build_exit_rule("Ignore", STOPPED),
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
        "template": build_pod_template(job, run, task, settings),
    }
    body = _build_owned(job, JOB, name_work_job(job.metadata.name, round_), "work") | {"spec": spec}
    body["metadata"]["annotations"] = {ITEMS_ANNOTATION: str(size.items)}
    return body


def needs_common_start(job: ArenaJob) -> bool:
    """Return whether all workers have to begin together."""
    return job.spec.type == "loadtest"


def count_shards(job: ArenaJob, items: int, settings: OperatorSettings) -> int:
    """Return into how many shards the work is cut: one for each worker that there will ever be.

    More shards than workers cost more pod starts than their evenness gains (`benchmarks/shards.py`): the items are
    dealt one by one, so that every shard has its part of the slow ones. A load test takes as many as its rate needs,
    within what the manifest allows.
    """
    workers, load = job.spec.workers, job.spec.load_test
    if needs_common_start(job):
        rate = load.target_rps if load is not None else None
        needed = count_workers_needed(rate, settings.requests_per_worker, workers.fewest, workers.most)
        return min(needed, MAX_SHARDS)
    return max(1, min(workers.most, items, MAX_SHARDS))


# --- what they read -------------------------------------------------------------------------------------------------


def build_run_config(job: ArenaJob, resolved: Resolved) -> Json:
    """Return the ConfigMap that keeps the job, what it refers to and its pods' setup for the run, without secrets."""
    manifest = job.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"status"})
    manifest["metadata"] = {key: manifest["metadata"][key] for key in ("name", "namespace", "uid")}
    listed = {"apiVersion": "v1", "kind": "List", "items": [manifest, *resolved.documents]}
    body = _build_owned(job, CONFIG_MAP, name_run_config(job.metadata.name), "run")
    data = {MANIFEST_KEY: json.dumps(listed), SETUP_KEY: resolved.setup.model_dump_json(exclude_none=True)}
    return body | {"immutable": True, "data": data}


def read_run(content: Json, run_id: str) -> Run:
    """Return the run that `build_run_config` kept.

    Raises:
        ValueError: it was changed.
    """
    data = content.get("data") or {}
    try:
        listed = json.loads(data[MANIFEST_KEY])
        manifest = ArenaJob.model_validate(listed["items"][0], by_alias=True, by_name=False)
        return Run(run_id, manifest, PodSetup.model_validate_json(data[SETUP_KEY]))
    except (LookupError, TypeError) as error:
        raise ValueError(f"{MANIFEST_KEY} or {SETUP_KEY} is missing") from error


def build_start_config(job: ArenaJob, start: datetime) -> Json:
    """Return the ConfigMap that tells all workers of a load test the same moment to begin."""
    body = _build_owned(job, CONFIG_MAP, name_start_config(job.metadata.name), "start")
    return body | {"immutable": True, "data": {START_KEY: json.dumps({"t0": format_time(start)})}}


def build_secret_copy(job: ArenaJob, copy: SecretCopy) -> Json:
    """Return the Secret that will hold a copy, without its data."""
    name = name_copied_secret(job.metadata.name, copy.folder)
    return _build_owned(job, SECRET, name, "credentials") | {"type": "Opaque"}


# --- the parts ------------------------------------------------------------------------------------------------------


def _build_one_pod_job(run: Run, task: Task, name: str, settings: OperatorSettings, retries: int | None = None) -> Json:
    job = run.manifest
    spec = {
        "completions": 1,
        "parallelism": 1,
        "backoffLimit": settings.retries if retries is None else retries,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {
            "rules": [_build_exit_rule("FailJob", FINAL), _build_exit_rule("Ignore", STOPPED), _DISRUPTED]
        },
        "template": build_pod_template(job, run, task, settings),
    }
    return _build_owned(job, JOB, name, task.phase) | {"spec": spec}


_DISRUPTED: Final[Json] = {
    "action": "Ignore",
    "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
}


def _build_exit_rule(action: str, codes: Sequence[ExitCode]) -> Json:
    return {"action": action, "onExitCodes": {"operator": "In", "values": sorted(map(int, codes))}}


def _build_round_arguments(run: Run, round_: int) -> tuple[str, ...]:
    return ("--round", str(round_)) if run.manifest.spec.type == "datagen" else ()


def _build_owned(job: ArenaJob, kind: Kind, name: str, phase: str) -> Json:
    """Return an object without content that belongs to the job."""
    metadata = job.metadata
    return {
        "apiVersion": kind.api_version,
        "kind": kind.name,
        "metadata": {
            "name": name,
            "namespace": metadata.namespace,
            "labels": build_labels(job, phase),
            "ownerReferences": [build_owner_reference(metadata.name, metadata.uid or "")],
        },
    }


def parse_indexes(ranges: str) -> Iterator[range]:
    """Yield the ranges of a text such as `1,3-5`. What is not a range is left out: indexes are only ever counted."""
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        if first.isdigit() and (last or first).isdigit():
            yield range(int(first), int(last or first) + 1)


def count_indexes(ranges: str) -> int:
    """Return how many indexes a text such as `1,3-5` names."""
    return sum(map(len, parse_indexes(ranges)))


def count_remaining(job: KubeJob) -> int:
    """Return how many of its indexes have not ended."""
    return job.completions - count_indexes(job.completed_indexes) - count_indexes(job.failed_indexes)


def choose_parallelism(job: KubeJob, most: int) -> int:
    """Return what the Job's parallelism should be now; never less than it is."""
    settled = job.active == job.ready == job.parallelism
    wanted = min(job.parallelism * 2, most, count_remaining(job)) if settled else job.parallelism
    return max(job.parallelism, wanted)


def count_items(ranges: str, items: int, shards: int) -> int:
    """Return how many of `items`, dealt one by one to `shards`, are in the shards that the text names."""
    each, more = divmod(items, shards)
    return sum(
        each * len(part) + max(0, min(part.stop, more) - part.start)
        for part in (range(part.start, min(part.stop, shards)) for part in parse_indexes(ranges))
    )


def compute_progress(items: int, job: KubeJob | None) -> JobProgress:
    """Return the items of finished and of failed shards; what is in flight is pending until its shard is finished."""
    if job is None:
        return JobProgress(total=items, pending=items)
    completed = count_items(job.completed_indexes, items, job.completions)
    failed = count_items(job.failed_indexes, items, job.completions)
    return JobProgress(total=items, completed=completed, failed=failed, pending=max(0, items - completed - failed))
