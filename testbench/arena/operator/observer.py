"""Reads everything that belongs to one ArenaJob: what `reconcile` decides upon.

I/O. Always from the API server and never from what a watch delivered, so that nothing that was missed can be believed
for long. What cannot change any more (a run's ConfigMap, the last message of a pod) is read once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from testbench.arena.cluster.api import ARENA_JOB, CONFIG_MAP, EVENT, JOB, POD, Cluster, ClusterError, DeniedError, Json
from testbench.arena.manifest.job import ArenaJob
from testbench.arena.operator import jobs
from testbench.arena.operator.job_state import ENDED
from testbench.arena.operator.metadata import (
    JOB_NAME_LABEL,
    OWNER_LABEL,
    SCHEDULE_LABEL,
    format_time,
    is_owned_by,
    name_run_config,
    name_start_config,
)
from testbench.arena.operator.observed import (
    KubeJob,
    Observed,
    Run,
    ScheduledRun,
    read_job,
    read_kube_job,
    read_scheduled_run,
    read_status,
)
from testbench.arena.operator.pod_messages import (
    FAILED_CREATE,
    PodMessage,
    find_event_trouble,
    find_pod_trouble,
    parse_message,
)
from testbench.arena.operator.references import NeedsObjects, ObjectReference, Resolution, Waiting, resolve
from testbench.arena.operator.schedules import shown_tick
from testbench.arena.operator.settings import OperatorSettings
from testbench.arena.stores import make_run_id

SOME_PODS: Final = 50
"""Pods of a large Job that are looked at to find out what is wrong, or why they do not start."""


@dataclass
class _JobCache:
    """What was read of one job and cannot change any more."""

    run: Run | None = None
    messages: dict[str, PodMessage] = field(default_factory=dict)
    """By the Kubernetes Job's uid."""


class Observer:
    """Reads one ArenaJob after the other; one cache for each."""

    def __init__(self, cluster: Cluster, settings: OperatorSettings) -> None:
        self._cluster = cluster
        self._settings = settings
        self._caches: dict[tuple[str, str], tuple[str, _JobCache]] = {}

    async def observe(self, namespace: str, name: str) -> Observed | None:
        """Return the ArenaJob as it is now with everything of it, or None if there is none.

        Raises:
            ClusterError: something could not be read.
        """
        content = await self._cluster.get(ARENA_JOB, namespace, name)
        if content is None:
            self._caches.pop((namespace, name), None)
            return None
        observed = read_job(content)
        if observed.deleting:
            return observed
        if observed.manifest is not None and observed.manifest.spec.schedule is not None:
            # a schedule that was added after a run began changes nothing
            observed = replace(observed, run=await self._read_run(observed))
            if observed.run is None:
                return replace(observed, scheduled_runs=await self._list_scheduled_runs(observed))
        kube_jobs = await self._list_jobs(observed)
        observed = replace(observed, jobs={job.name: job for job in kube_jobs})
        if observed.ended:
            self._caches.pop((namespace, name), None)
            run = observed.run or (await self._read_run(observed) if observed.changed_after_failure else None)
            return replace(observed, tick_recorded=await self._is_tick_recorded(content, observed), run=run)
        return await self._observe_work(observed)

    async def _observe_work(self, observed: Observed) -> Observed:
        cache = self._cache_of(observed)
        cache.run = cache.run or await self._read_run(observed)
        if cache.run is None:
            return replace(observed, resolution=await self._resolve(observed.manifest))
        namespace, kube_jobs = observed.namespace, observed.jobs.values()
        messages = {job.name: await self._find_message(namespace, job, cache) for job in kube_jobs}
        return replace(
            observed,
            run=cache.run,
            jobs={job.name: await self._add_trouble(namespace, job) for job in kube_jobs},
            messages={name: message for name, message in messages.items() if message is not None},
            start_announced=jobs.needs_common_start(cache.run.manifest) and await self._is_start_announced(observed),
        )

    async def _is_start_announced(self, observed: Observed) -> bool:
        found = await self._cluster.get(CONFIG_MAP, observed.namespace, name_start_config(observed.name))
        return found is not None and is_owned_by(found, observed.uid)

    async def _add_trouble(self, namespace: str, job: KubeJob) -> KubeJob:
        """Return the Job, with the reason why it has fewer pods at work than it should where it has."""
        wanted = min(job.parallelism, jobs.count_remaining(job))
        if job.state != "running" or job.deleting or job.ready >= wanted:
            return job
        trouble = find_pod_trouble(await self._list_pods(namespace, job, SOME_PODS))
        if trouble is None and job.active < wanted:
            fields = f"involvedObject.uid={job.uid},reason={FAILED_CREATE}"
            trouble = find_event_trouble((await self._cluster.list(EVENT, namespace, fields=fields)).items)
        return replace(job, trouble=trouble)

    def _cache_of(self, observed: Observed) -> _JobCache:
        """Return the cache of this very job, and not of an earlier one of its name."""
        uid, cache = self._caches.get((observed.namespace, observed.name), ("", _JobCache()))
        if uid != observed.uid:
            cache = _JobCache()
            self._caches[observed.namespace, observed.name] = (observed.uid, cache)
        return cache

    async def _list_scheduled_runs(self, observed: Observed) -> tuple[ScheduledRun, ...]:
        listed = await self._cluster.list(ARENA_JOB, observed.namespace, f"{SCHEDULE_LABEL}={observed.uid}")
        return tuple(read_scheduled_run(item) for item in listed.items if is_owned_by(item, observed.uid))

    async def _list_jobs(self, observed: Observed) -> list[KubeJob]:
        listed = await self._cluster.list(JOB, observed.namespace, f"{OWNER_LABEL}={observed.uid}")
        return [read_kube_job(item) for item in listed.items if is_owned_by(item, observed.uid)]

    async def _read_run(self, observed: Observed) -> Run | None:
        content = await self._cluster.get(CONFIG_MAP, observed.namespace, name_run_config(observed.name))
        if content is None or not is_owned_by(content, observed.uid):
            return None
        try:
            return jobs.read_run(content, make_run_id(observed.created_at, observed.uid))
        except ValueError as error:
            name = name_run_config(observed.name)
            raise ClusterError(f"ConfigMap {observed.namespace}/{name} is not as the operator made it") from error

    async def _resolve(self, manifest: ArenaJob | None) -> Resolution | None:
        if manifest is None or manifest.spec.cancelled:
            return None
        objects: dict[ObjectReference, Json | None] = {}
        found = resolve(manifest, objects, cross_namespace=self._settings.cross_namespace)
        while isinstance(found, NeedsObjects):
            for one in found.references:
                try:
                    objects[one] = await self._cluster.get(*one)
                except DeniedError as denied:
                    return Waiting(f"{one.kind.name}Denied", denied.message)
            found = resolve(manifest, objects, cross_namespace=self._settings.cross_namespace)
        return found

    async def _find_message(self, namespace: str, job: KubeJob, cache: _JobCache) -> PodMessage | None:
        """Return the last message of a Job; of one that is tried again, the last one of its failed pods."""
        if job.state == "running":
            return await self._read_message(namespace, job) if job.failed and job.completions == 1 else None
        if job.uid not in cache.messages and (message := await self._read_message(namespace, job)) is not None:
            cache.messages[job.uid] = message
        return cache.messages.get(job.uid)

    async def _read_message(self, namespace: str, job: KubeJob) -> PodMessage | None:
        """Return the message of the pod that ended the Job; after a success only of a pod that succeeded."""
        pods = await self._list_pods(namespace, job, SOME_PODS if job.completions > 1 else 0)
        if job.state == "complete":
            pods = [pod for pod in pods if (pod.get("status") or {}).get("phase") == "Succeeded"]
        ends = sorted(end for pod in pods for end in _list_endings(pod))
        return next((message for _, text in reversed(ends) if (message := parse_message(text)) is not None), None)

    async def _list_pods(self, namespace: str, job: KubeJob, limit: int) -> list[Json]:
        labels = f"{JOB_NAME_LABEL}={job.name}"
        listed = await self._cluster.list(POD, namespace, labels, limit)
        return [pod for pod in listed.items if is_owned_by(pod, job.uid)]

    async def _is_tick_recorded(self, content: Json, observed: Observed) -> bool:
        """Return whether the schedule that made this run, where one did, shows that it ran and how it ended."""
        labels = content["metadata"].get("labels") or {}
        tick = read_scheduled_run(content).tick
        if SCHEDULE_LABEL not in labels or tick is None:
            return True
        for owner in content["metadata"].get("ownerReferences") or ():
            parent = await self._cluster.get(ARENA_JOB, observed.namespace, owner["name"])
            if parent is not None and parent["metadata"]["uid"] == owner["uid"]:
                status = read_status(parent)
                if status.phase in ENDED or not (parent.get("spec") or {}).get("schedule"):
                    return True
                last = status.last_schedule_time
                return last is not None and last >= tick and shown_tick(status.result) >= format_time(tick)
        return True


def _list_endings(pod: Json) -> Iterator[tuple[str, str]]:
    """Return when the containers of a pod ended and their termination messages."""
    status = pod.get("status") or {}
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        ended = (container.get("state") or {}).get("terminated")
        if ended and ended.get("message"):
            yield ended.get("finishedAt") or "", ended["message"]
