"""Reads everything that belongs to one ArenaJob: what `reconcile` decides upon.

I/O. Always from the API server and never from what a watch delivered, so that nothing that was missed can be believed
for long. What cannot change any more (a run's ConfigMap, the last word of a pod) is read once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from testbench.arena.cluster.api import Cluster, ClusterError, Denied
from testbench.arena.cluster.kinds import ARENA_JOB, CONFIG_MAP, EVENT, JOB, POD, Json
from testbench.arena.manifest.job import ArenaJob
from testbench.arena.operator import jobs, names, scaling
from testbench.arena.operator import pod_messages as troubles
from testbench.arena.operator.observed import (
    Child,
    KubeJob,
    Run,
    Seen,
    owned_by,
    read_child,
    read_job,
    read_kube_job,
    read_status,
    stamp,
)
from testbench.arena.operator.pod_messages import Word, parse
from testbench.arena.operator.references import More, Reference, Resolution, Waiting, resolve
from testbench.arena.operator.schedules import tick_shown
from testbench.arena.operator.settings import Settings
from testbench.arena.status import ENDED
from testbench.arena.stores import run_id

SOME_PODS = 50
"""Of a Job of many pods so many are asked what is wrong, or why they do not start."""


@dataclass
class _Known:
    """What was read of one job and stays."""

    run: Run | None = None
    words: dict[str, Word] = field(default_factory=dict)
    """By the Kubernetes Job's uid."""


class Observer:
    """Looks at one ArenaJob after the other."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self._cluster = cluster
        self._settings = settings
        self._known: dict[tuple[str, str], tuple[str, _Known]] = {}

    async def see(self, namespace: str, name: str) -> Seen | None:
        """The ArenaJob as it is now with everything of it, or None if there is none.

        Raises:
            ClusterError: something could not be read.
        """
        content = await self._cluster.get(ARENA_JOB, namespace, name)
        if content is None:
            self._known.pop((namespace, name), None)
            return None
        seen = read_job(content)
        if seen.deleting:
            return seen
        if seen.manifest is not None and seen.manifest.spec.schedule is not None:
            seen = replace(seen, run=await self._run(seen))  # a schedule that came too late for a run changes nothing
            if seen.run is None:
                return replace(seen, children=await self._children(seen))
        kube_jobs = await self._jobs(seen)
        seen = replace(seen, jobs={job.name: job for job in kube_jobs})
        if seen.ended:
            self._known.pop((namespace, name), None)
            refused = seen.status.phase == "Failed" and seen.status.observed_generation != seen.generation
            run = seen.run or (await self._run(seen) if refused else None)
            return replace(seen, tick_recorded=await self._tick_recorded(content, seen), run=run)
        return await self._working(seen)

    async def _working(self, seen: Seen) -> Seen:
        known = self._of(seen)
        known.run = known.run or await self._run(seen)
        if known.run is None:
            return replace(seen, resolution=await self._resolution(seen.manifest))
        words = {job.name: await self._word_of(seen.namespace, job, known) for job in seen.jobs.values()}
        return replace(
            seen,
            run=known.run,
            jobs={name: await self._with_trouble(seen.namespace, job) for name, job in seen.jobs.items()},
            words={name: word for name, word in words.items() if word is not None},
            start_told=jobs.is_gang(known.run.manifest) and await self._start_told(seen),
        )

    async def _start_told(self, seen: Seen) -> bool:
        found = await self._cluster.get(CONFIG_MAP, seen.namespace, names.start_config(seen.name))
        return found is not None and owned_by(found, seen.uid)

    async def _with_trouble(self, namespace: str, job: KubeJob) -> KubeJob:
        """The Job, and where it has fewer pods at work than it should, what its pods or its events say about that."""
        wanted = min(job.parallelism, scaling.remaining(job))
        if job.state != "running" or job.deleting or job.ready >= wanted:
            return job
        trouble = troubles.of_pods(await self._pods(namespace, job, SOME_PODS))
        if trouble is None and job.active < wanted:
            fields = f"involvedObject.uid={job.uid},reason={troubles.FAILED_CREATE}"
            trouble = troubles.of_events((await self._cluster.list(EVENT, namespace, fields=fields)).items)
        return replace(job, trouble=trouble)

    def _of(self, seen: Seen) -> _Known:
        """What is known of this very job, and not of an earlier one of its name."""
        uid, known = self._known.get((seen.namespace, seen.name), ("", _Known()))
        if uid != seen.uid:
            known = _Known()
            self._known[seen.namespace, seen.name] = (seen.uid, known)
        return known

    async def _children(self, seen: Seen) -> tuple[Child, ...]:
        listed = await self._cluster.list(ARENA_JOB, seen.namespace, f"{names.SCHEDULE_LABEL}={seen.uid}")
        return tuple(read_child(item) for item in listed.items if owned_by(item, seen.uid))

    async def _jobs(self, seen: Seen) -> list[KubeJob]:
        listed = await self._cluster.list(JOB, seen.namespace, f"{names.OWNER_LABEL}={seen.uid}")
        return [read_kube_job(item) for item in listed.items if owned_by(item, seen.uid)]

    async def _run(self, seen: Seen) -> Run | None:
        content = await self._cluster.get(CONFIG_MAP, seen.namespace, names.run_config(seen.name))
        if content is None or not owned_by(content, seen.uid):
            return None
        try:
            return jobs.read_run(content, run_id(seen.created_at, seen.uid))
        except ValueError as error:
            name = names.run_config(seen.name)
            raise ClusterError(f"ConfigMap {seen.namespace}/{name} is not as it was made") from error

    async def _resolution(self, manifest: ArenaJob | None) -> Resolution | None:
        if manifest is None or manifest.spec.cancelled:
            return None
        objects: dict[Reference, Json | None] = {}
        found = resolve(manifest, objects, cross_namespace=self._settings.cross_namespace)
        while isinstance(found, More):
            for one in found.references:
                try:
                    objects[one] = await self._cluster.get(*one)
                except Denied as denied:
                    return Waiting(f"{one.kind.name}Denied", denied.message)
            found = resolve(manifest, objects, cross_namespace=self._settings.cross_namespace)
        return found

    async def _word_of(self, namespace: str, job: KubeJob, known: _Known) -> Word | None:
        """The last word of a Job; of one that is tried again, what its failed pods said so far."""
        if job.state == "running":
            return await self._word(namespace, job) if job.failed and job.completions == 1 else None
        if job.uid not in known.words and (word := await self._word(namespace, job)) is not None:
            known.words[job.uid] = word
        return known.words.get(job.uid)

    async def _word(self, namespace: str, job: KubeJob) -> Word | None:
        """What the pod said that ended the Job; of a Job that did not fail only a pod that did not."""
        pods = await self._pods(namespace, job, SOME_PODS if job.completions > 1 else 0)
        if job.state == "complete":
            pods = [pod for pod in pods if (pod.get("status") or {}).get("phase") == "Succeeded"]
        ends = sorted(end for pod in pods for end in _ends(pod))
        return next((word for _, text in reversed(ends) if (word := parse(text)) is not None), None)

    async def _pods(self, namespace: str, job: KubeJob, limit: int) -> list[Json]:
        labels = f"{names.JOB_NAME_LABEL}={job.name}"
        listed = await self._cluster.list(POD, namespace, labels, limit)
        return [pod for pod in listed.items if owned_by(pod, job.uid)]

    async def _tick_recorded(self, content: Json, seen: Seen) -> bool:
        """Whether the schedule that made this run, where one did, has noted that it ran and how it ended."""
        labels = content["metadata"].get("labels") or {}
        tick = read_child(content).tick
        if names.SCHEDULE_LABEL not in labels or tick is None:
            return True
        for owner in content["metadata"].get("ownerReferences") or ():
            parent = await self._cluster.get(ARENA_JOB, seen.namespace, owner["name"])
            if parent is not None and parent["metadata"]["uid"] == owner["uid"]:
                status = read_status(parent)
                if status.phase in ENDED or not (parent.get("spec") or {}).get("schedule"):
                    return True
                last = status.last_schedule_time
                return last is not None and last >= tick and tick_shown(status.result) >= stamp(tick)
        return True


def _ends(pod: Json) -> Iterator[tuple[str, str]]:
    """When the containers of a pod ended and what they said."""
    status = pod.get("status") or {}
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        ended = (container.get("state") or {}).get("terminated")
        if ended and ended.get("message"):
            yield ended.get("finishedAt") or "", ended["message"]
