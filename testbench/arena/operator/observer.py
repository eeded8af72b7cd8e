"""Reads everything that belongs to one ArenaJob: what `reconcile` decides upon.

I/O. Always from the API server and never from what a watch delivered, so that nothing that was missed can be believed
for long. What cannot change any more (a run's ConfigMap, the last word of a pod) is read once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from testbench.arena.cluster.api import ARENA_JOB, CONFIG_MAP, EVENT, JOB, POD, Cluster, ClusterError, Denied, Json
from testbench.arena.manifest.job import ArenaJob
from testbench.arena.operator import jobs
from testbench.arena.operator import pod_messages as troubles
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
from testbench.arena.operator.pod_messages import PodMessage, parse_message
from testbench.arena.operator.references import NeedsObjects, ObjectReference, Resolution, Waiting, resolve
from testbench.arena.operator.schedules import shown_tick
from testbench.arena.operator.settings import Settings
from testbench.arena.status import ENDED
from testbench.arena.stores import run_id

SOME_PODS = 50
"""Of a Job of many pods so many are asked what is wrong, or why they do not start."""


@dataclass
class _Cache:
    """What was read of one job and stays."""

    run: Run | None = None
    messages: dict[str, PodMessage] = field(default_factory=dict)
    """By the Kubernetes Job's uid."""


class Observer:
    """Looks at one ArenaJob after the other."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self._cluster = cluster
        self._settings = settings
        self._known: dict[tuple[str, str], tuple[str, _Cache]] = {}

    async def observe(self, namespace: str, name: str) -> Observed | None:
        """The ArenaJob as it is now with everything of it, or None if there is none.

        Raises:
            ClusterError: something could not be read.
        """
        content = await self._cluster.get(ARENA_JOB, namespace, name)
        if content is None:
            self._known.pop((namespace, name), None)
            return None
        observed = read_job(content)
        if observed.deleting:
            return observed
        if observed.manifest is not None and observed.manifest.spec.schedule is not None:
            observed = replace(
                observed, run=await self._run(observed)
            )  # a schedule that came too late for a run changes nothing
            if observed.run is None:
                return replace(observed, scheduled_runs=await self._scheduled_runs(observed))
        kube_jobs = await self._jobs(observed)
        observed = replace(observed, jobs={job.name: job for job in kube_jobs})
        if observed.ended:
            self._known.pop((namespace, name), None)
            refused = observed.status.phase == "Failed" and observed.status.observed_generation != observed.generation
            run = observed.run or (await self._run(observed) if refused else None)
            return replace(observed, tick_recorded=await self._is_tick_recorded(content, observed), run=run)
        return await self._working(observed)

    async def _working(self, observed: Observed) -> Observed:
        known = self._of(observed)
        known.run = known.run or await self._run(observed)
        if known.run is None:
            return replace(observed, resolution=await self._resolution(observed.manifest))
        messages = {job.name: await self._message_of(observed.namespace, job, known) for job in observed.jobs.values()}
        return replace(
            observed,
            run=known.run,
            jobs={name: await self._with_trouble(observed.namespace, job) for name, job in observed.jobs.items()},
            messages={name: message for name, message in messages.items() if message is not None},
            start_told=jobs.needs_common_start(known.run.manifest) and await self._start_told(observed),
        )

    async def _start_told(self, observed: Observed) -> bool:
        found = await self._cluster.get(CONFIG_MAP, observed.namespace, name_start_config(observed.name))
        return found is not None and is_owned_by(found, observed.uid)

    async def _with_trouble(self, namespace: str, job: KubeJob) -> KubeJob:
        """The Job, and where it has fewer pods at work than it should, what its pods or its events say about that."""
        wanted = min(job.parallelism, jobs.count_remaining(job))
        if job.state != "running" or job.deleting or job.ready >= wanted:
            return job
        trouble = troubles.find_pod_trouble(await self._pods(namespace, job, SOME_PODS))
        if trouble is None and job.active < wanted:
            fields = f"involvedObject.uid={job.uid},reason={troubles.FAILED_CREATE}"
            trouble = troubles.find_event_trouble((await self._cluster.list(EVENT, namespace, fields=fields)).items)
        return replace(job, trouble=trouble)

    def _of(self, observed: Observed) -> _Cache:
        """What is known of this very job, and not of an earlier one of its name."""
        uid, known = self._known.get((observed.namespace, observed.name), ("", _Cache()))
        if uid != observed.uid:
            known = _Cache()
            self._known[observed.namespace, observed.name] = (observed.uid, known)
        return known

    async def _scheduled_runs(self, observed: Observed) -> tuple[ScheduledRun, ...]:
        listed = await self._cluster.list(ARENA_JOB, observed.namespace, f"{SCHEDULE_LABEL}={observed.uid}")
        return tuple(read_scheduled_run(item) for item in listed.items if is_owned_by(item, observed.uid))

    async def _jobs(self, observed: Observed) -> list[KubeJob]:
        listed = await self._cluster.list(JOB, observed.namespace, f"{OWNER_LABEL}={observed.uid}")
        return [read_kube_job(item) for item in listed.items if is_owned_by(item, observed.uid)]

    async def _run(self, observed: Observed) -> Run | None:
        content = await self._cluster.get(CONFIG_MAP, observed.namespace, name_run_config(observed.name))
        if content is None or not is_owned_by(content, observed.uid):
            return None
        try:
            return jobs.read_run(content, run_id(observed.created_at, observed.uid))
        except ValueError as error:
            name = name_run_config(observed.name)
            raise ClusterError(f"ConfigMap {observed.namespace}/{name} is not as it was made") from error

    async def _resolution(self, manifest: ArenaJob | None) -> Resolution | None:
        if manifest is None or manifest.spec.cancelled:
            return None
        objects: dict[ObjectReference, Json | None] = {}
        found = resolve(manifest, objects, cross_namespace=self._settings.cross_namespace)
        while isinstance(found, NeedsObjects):
            for one in found.references:
                try:
                    objects[one] = await self._cluster.get(*one)
                except Denied as denied:
                    return Waiting(f"{one.kind.name}Denied", denied.message)
            found = resolve(manifest, objects, cross_namespace=self._settings.cross_namespace)
        return found

    async def _message_of(self, namespace: str, job: KubeJob, known: _Cache) -> PodMessage | None:
        """The last word of a Job; of one that is tried again, what its failed pods said so far."""
        if job.state == "running":
            return await self._read_message(namespace, job) if job.failed and job.completions == 1 else None
        if job.uid not in known.messages and (message := await self._read_message(namespace, job)) is not None:
            known.messages[job.uid] = message
        return known.messages.get(job.uid)

    async def _read_message(self, namespace: str, job: KubeJob) -> PodMessage | None:
        """What the pod said that ended the Job; of a Job that did not fail only a pod that did not."""
        pods = await self._pods(namespace, job, SOME_PODS if job.completions > 1 else 0)
        if job.state == "complete":
            pods = [pod for pod in pods if (pod.get("status") or {}).get("phase") == "Succeeded"]
        ends = sorted(end for pod in pods for end in _list_endings(pod))
        return next((message for _, text in reversed(ends) if (message := parse_message(text)) is not None), None)

    async def _pods(self, namespace: str, job: KubeJob, limit: int) -> list[Json]:
        labels = f"{JOB_NAME_LABEL}={job.name}"
        listed = await self._cluster.list(POD, namespace, labels, limit)
        return [pod for pod in listed.items if is_owned_by(pod, job.uid)]

    async def _is_tick_recorded(self, content: Json, observed: Observed) -> bool:
        """Whether the schedule that made this run, where one did, has noted that it ran and how it ended."""
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
    """When the containers of a pod ended and what they said."""
    status = pod.get("status") or {}
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        ended = (container.get("state") or {}).get("terminated")
        if ended and ended.get("message"):
            yield ended.get("finishedAt") or "", ended["message"]
