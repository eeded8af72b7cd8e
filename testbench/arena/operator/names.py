"""The names of everything that belongs to an ArenaJob: the same however often they are made.

That is what makes a crash harmless: what was created before it is found by its name, and its owner says whose it is.
"""

from __future__ import annotations

import hashlib
from typing import Final

from testbench.arena.manifest.fields import GROUP

STEM_LENGTH: Final = 46
"""Leaves room for `-reduce-10` and for an index: the hostname of an indexed pod has at most 63 characters."""

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


def stem(job: str) -> str:
    """The beginning of all names of a job: its own name where that fits into a DNS label."""
    plain = job.replace(".", "-")
    if plain == job and len(job) <= STEM_LENGTH:
        return job
    mark = hashlib.sha256(job.encode()).hexdigest()[:8]
    return f"{plain[: STEM_LENGTH - 9].rstrip('-')}-{mark}"


def run_config(job: str) -> str:
    """The ConfigMap that holds what a run was started with."""
    return f"{stem(job)}-run"


def start_config(job: str) -> str:
    """The ConfigMap that tells the workers of a load test when to begin."""
    return f"{stem(job)}-start"


def copied_secret(job: str, folder: str) -> str:
    """The copy of another namespace's Secret, for one provider."""
    return f"{stem(job)}-{hashlib.sha256(folder.encode()).hexdigest()[:8]}"


def plan_job(job: str) -> str:
    return f"{stem(job)}-plan"


def whole_job(job: str) -> str:
    """The Job of a run that is one pod from beginning to end."""
    return f"{stem(job)}-all"


def work_job(job: str, round_: int = 1) -> str:
    return _of_round(f"{stem(job)}-work", round_)


def reduce_job(job: str, round_: int = 1) -> str:
    return _of_round(f"{stem(job)}-reduce", round_)


def _of_round(name: str, round_: int) -> str:
    return name if round_ == 1 else f"{name}-{round_}"


def label_value(text: str) -> str:
    """A name as a label may hold it."""
    return text if len(text) <= 63 else stem(text)
