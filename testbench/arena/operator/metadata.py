"""The metadata of everything that belongs to an ArenaJob: names, labels, owners, and times as objects carry them.

Names are the same however often they are made. That is what makes a crash harmless: what was created before it is found
by its name, and its owner says whose it is.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Final

from testbench.arena.cluster.api import ARENA_JOB, Json
from testbench.arena.manifest.fields import GROUP
from testbench.arena.manifest.job import ArenaJob

OPERATOR_NAME: Final = "testbench-arena-operator"
"""What the operator calls itself: as the manager of its objects, the reporter of its events, and a user agent."""
MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
BASE_LENGTH: Final = 46
"""Leaves room for `-reduce-10` and for an index: the hostname of an indexed pod has at most 63 characters."""
SCHEDULED_LENGTH: Final = 52
"""Characters of an ArenaJob's name that leave room for what Kubernetes appends to its pods' names."""

OWNER_LABEL: Final = f"{GROUP}/job-uid"
"""On every object of a job: the uid of its ArenaJob."""
NAME_LABEL: Final = f"{GROUP}/job"
PHASE_LABEL: Final = f"{GROUP}/phase"
SCHEDULE_LABEL: Final = f"{GROUP}/schedule-uid"
"""On a run of a schedule: the uid of the ArenaJob that has the schedule."""
TICK_ANNOTATION: Final = f"{GROUP}/scheduled-for"
"""On a run of a schedule: its tick, in UTC."""
ITEMS_ANNOTATION: Final = f"{GROUP}/items"
"""On a Job of workers: how many items the plan has. The pod that said so may go with its node."""
JOB_NAME_LABEL: Final = "batch.kubernetes.io/job-name"
"""What the Job controller puts on every pod."""


def shorten_name(job: str) -> str:
    """Return how all names of a job begin: its own name where that fits into a DNS label, else a part and a hash."""
    plain = job.replace(".", "-")
    if plain == job and len(job) <= BASE_LENGTH:
        return job
    mark = hashlib.sha256(job.encode()).hexdigest()[:8]
    return f"{plain[: BASE_LENGTH - 9].rstrip('-')}-{mark}"


def name_run_config(job: str) -> str:
    """Name the ConfigMap that holds what a run was started with."""
    return f"{shorten_name(job)}-run"


def name_start_config(job: str) -> str:
    """Name the ConfigMap that tells the workers of a load test when to begin."""
    return f"{shorten_name(job)}-start"


def name_copied_secret(job: str, folder: str) -> str:
    """Name the copy of another namespace's Secret, for one provider."""
    return f"{shorten_name(job)}-{hashlib.sha256(folder.encode()).hexdigest()[:8]}"


def name_plan_job(job: str) -> str:
    """Name the Job that makes the plan."""
    return f"{shorten_name(job)}-plan"


def name_whole_job(job: str) -> str:
    """Name the Job of a run that is one pod from beginning to end."""
    return f"{shorten_name(job)}-all"


def name_work_job(job: str, round_: int = 1) -> str:
    """Name the Job of all workers; rounds after the first have a number."""
    return _add_round(f"{shorten_name(job)}-work", round_)


def name_reduce_job(job: str, round_: int = 1) -> str:
    """Name the Job that makes the result of a round."""
    return _add_round(f"{shorten_name(job)}-reduce", round_)


def name_scheduled_run(job: str, tick: datetime) -> str:
    """Name the ArenaJob of a tick: the same however often it is made, and short enough for the names of its pods."""
    minutes = str(int(tick.timestamp()) // 60)
    room = SCHEDULED_LENGTH - len(minutes) - 1
    if len(job) > room:
        mark = hashlib.sha256(job.encode()).hexdigest()[:8]
        job = f"{job[: room - 9].rstrip('-.')}-{mark}"
    return f"{job}-{minutes}"


def _add_round(name: str, round_: int) -> str:
    return name if round_ == 1 else f"{name}-{round_}"


def to_label_value(text: str) -> str:
    """Return a name as a label may hold it."""
    return text if len(text) <= 63 else shorten_name(text)


def build_labels(job: ArenaJob, phase: str) -> dict[str, str]:
    """Return the labels of everything that belongs to a run."""
    return {
        "app.kubernetes.io/name": "testbench-arena",
        "app.kubernetes.io/component": phase,
        MANAGED_BY_LABEL: OPERATOR_NAME,
        NAME_LABEL: to_label_value(job.metadata.name),
        OWNER_LABEL: job.metadata.uid or "",
        PHASE_LABEL: phase,
    }


def build_owner_reference(name: str, uid: str) -> Json:
    """Return the owner reference by which Kubernetes removes an object with its ArenaJob, and never keeps it for it."""
    return {
        "apiVersion": ARENA_JOB.api_version,
        "kind": ARENA_JOB.name,
        "name": name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def is_owned_by(content: Json, uid: str) -> bool:
    """Return whether one of the object's owners has this uid."""
    owners = content["metadata"].get("ownerReferences") or ()
    return any(owner.get("uid") == uid for owner in owners)


def parse_time(text: str | None) -> datetime:
    """Return a time of an object; the epoch where there is none, or one that cannot be read."""
    try:
        found = datetime.fromisoformat((text or "").replace("Z", "+00:00"))
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def format_time(time: datetime) -> str:
    """Return a time as objects carry it, whole seconds in UTC."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
