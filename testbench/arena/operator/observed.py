"""What the operator observed of one ArenaJob at one moment: plain values, read from the API server's objects.

Made by `testbench.arena.operator.observer`, decided upon by `testbench.arena.operator.reconcile`. What is not as it
should be is a value too: an unreadable manifest is observed, and answered in the status.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from pydantic import ValidationError

from testbench.arena.cluster.api import Json
from testbench.arena.manifest.documents import validate_manifest
from testbench.arena.manifest.job import ArenaJob
from testbench.arena.manifest.job_status import JobStatus
from testbench.arena.operator.job_state import ENDED
from testbench.arena.operator.metadata import ITEMS_ANNOTATION, TICK_ANNOTATION, parse_time
from testbench.arena.operator.pod_messages import PodMessage
from testbench.arena.operator.references import PodSetup, Resolution
from testbench.schema.files import describe

KubeJobState = Literal["running", "complete", "failed"]


@dataclass(frozen=True)
class KubeJob:
    """A Kubernetes Job of an ArenaJob; indexes are in the compressed form of its status, e.g. `0-3,7`."""

    name: str
    uid: str
    resource_version: str
    created_at: datetime
    state: KubeJobState = "running"
    reason: str = ""
    """Why it ended: the reason and the message of its last condition."""
    completions: int = 1
    parallelism: int = 1
    active: int = 0
    ready: int = 0
    failed: int = 0
    """Pods that failed and count."""
    completed_indexes: str = ""
    failed_indexes: str = ""
    deleting: bool = False
    items: int | None = None
    """Of a Job of workers: how many items the plan has."""
    trouble: tuple[str, str] | None = None
    """Why pods that were asked for do not start: a reason and a message."""


@dataclass(frozen=True)
class Run:
    """What a run was started with; later changes of the manifest or of its references do not reach it.

    `id` names its folder in the store.
    """

    id: str
    manifest: ArenaJob
    setup: PodSetup


@dataclass(frozen=True)
class ScheduledRun:
    """A run of a schedule."""

    name: str
    uid: str
    resource_version: str
    tick: datetime | None
    status: JobStatus
    cancelled: bool = False
    deleting: bool = False

    @property
    def live(self) -> bool:
        """Whether it is at work, or will be, and was not told to stop."""
        return not (self.cancelled or self.deleting or self.status.phase in ENDED)


@dataclass(frozen=True)
class Observed:
    """One ArenaJob with everything that is its own.

    `manifest` is None and `fault` says why where it cannot be read. `run` is None until its references were resolved
    once; until then `resolution` is how they stand. `jobs` and `messages` are by the Kubernetes Job's name.
    """

    name: str
    namespace: str
    uid: str
    created_at: datetime
    generation: int | None = None
    resource_version: str = ""
    manifest: ArenaJob | None = None
    fault: str = ""
    status: JobStatus = field(default_factory=JobStatus)
    deleting: bool = False
    resolution: Resolution | None = None
    run: Run | None = None
    jobs: Mapping[str, KubeJob] = field(default_factory=dict)
    messages: Mapping[str, PodMessage] = field(default_factory=dict)
    start_announced: bool = False
    scheduled_runs: tuple[ScheduledRun, ...] = ()
    tick_recorded: bool = True
    """Of a run of a schedule that has ended: whether the schedule's status shows that it ran, and how it ended."""

    @property
    def ended(self) -> bool:
        """Whether the status says that the job has ended."""
        return self.status.phase in ENDED

    @property
    def changed_after_failure(self) -> bool:
        """Whether the manifest of a failed job has changed since: one that was refused may be corrected now."""
        return self.status.phase == "Failed" and self.status.observed_generation != self.generation


def read_job(content: Json) -> Observed:
    """Return an ArenaJob of the API server, without what belongs to it."""
    metadata = content["metadata"]
    manifest, fault = None, ""
    try:
        manifest = validate_manifest(ArenaJob, {key: value for key, value in content.items() if key != "status"})
    except ValidationError as error:
        fault = describe(error)
    return Observed(
        name=metadata["name"],
        namespace=metadata["namespace"],
        uid=metadata["uid"],
        created_at=parse_time(metadata.get("creationTimestamp")),
        generation=metadata.get("generation"),
        resource_version=metadata.get("resourceVersion", ""),
        manifest=manifest,
        fault=fault,
        status=read_status(content),
        deleting="deletionTimestamp" in metadata,
    )


def read_status(content: Json) -> JobStatus:
    """Return the status of an ArenaJob; one that cannot be read counts as none."""
    try:
        return validate_manifest(JobStatus, content.get("status") or {})
    except ValidationError:
        return JobStatus()


def read_scheduled_run(content: Json) -> ScheduledRun:
    """Return a run of a schedule, which is an ArenaJob too."""
    metadata = content["metadata"]
    tick = (metadata.get("annotations") or {}).get(TICK_ANNOTATION)
    return ScheduledRun(
        name=metadata["name"],
        uid=metadata["uid"],
        resource_version=metadata.get("resourceVersion", ""),
        tick=parse_time(tick) if tick else None,
        status=read_status(content),
        cancelled=bool((content.get("spec") or {}).get("cancelled")),
        deleting="deletionTimestamp" in metadata,
    )


def read_kube_job(content: Json) -> KubeJob:
    """Return a Kubernetes Job."""
    metadata, spec, status = content["metadata"], content.get("spec") or {}, content.get("status") or {}
    state, reason = _read_state(status)
    return KubeJob(
        name=metadata["name"],
        uid=metadata["uid"],
        resource_version=metadata.get("resourceVersion", ""),
        created_at=parse_time(metadata.get("creationTimestamp")),
        state=state,
        reason=reason,
        completions=spec.get("completions") or 1,
        parallelism=_read_number(spec.get("parallelism"), 1),
        active=_read_number(status.get("active")),
        ready=_read_number(status.get("ready")),
        failed=_read_number(status.get("failed")),
        completed_indexes=status.get("completedIndexes") or "",
        failed_indexes=status.get("failedIndexes") or "",
        deleting="deletionTimestamp" in metadata,
        items=_parse_count((metadata.get("annotations") or {}).get(ITEMS_ANNOTATION)),
    )


def _read_state(status: Json) -> tuple[KubeJobState, str]:
    """Only Complete and Failed are the end: SuccessCriteriaMet and FailureTarget come while pods still terminate."""
    for condition in status.get("conditions") or ():
        if condition.get("status") == "True" and condition.get("type") in ("Complete", "Failed"):
            reason = f"{condition.get('reason', '')}: {condition.get('message', '')}".strip(": ")
            return ("complete" if condition["type"] == "Complete" else "failed"), reason
    return "running", ""


def _parse_count(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 10 else None


def _read_number(value: Any, otherwise: int = 0) -> int:
    return value if isinstance(value, int) else otherwise
