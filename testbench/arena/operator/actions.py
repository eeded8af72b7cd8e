"""What `reconcile` asks for, as values: a test can read them, and stop between two of them as a crash would.

Each does no harm when it is done twice. Made by `reconcile` and `schedules`, carried out by `loop`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal, TypeAlias

from testbench.arena.cluster.api import ARENA_JOB, EVENT, Json, Kind
from testbench.arena.manifest.job_status import MESSAGE_LENGTH, Condition, ConditionType, JobStatus
from testbench.arena.operator.job_state import PENDING, WORKING, JobState, build_status
from testbench.arena.operator.metadata import OPERATOR_NAME, format_time
from testbench.arena.operator.observed import Observed
from testbench.safe_text import printable


@dataclass(frozen=True)
class Create:
    """Create an object of the job's namespace; one of the same name that has the same owner is as good."""

    kind: Kind
    body: Json

    @property
    def name(self) -> str:
        return str(self.body["metadata"]["name"])


@dataclass(frozen=True)
class CopySecret:
    """Create `body` with the data of another namespace's Secret; only the loop ever sees that data."""

    namespace: str
    name: str
    body: Json


@dataclass(frozen=True)
class Patch:
    """Merge `change` into an object that still has this resourceVersion."""

    kind: Kind
    name: str
    resource_version: str
    change: Json


@dataclass(frozen=True)
class Delete:
    """Delete the object that has this uid, and in the background what it owns."""

    kind: Kind
    name: str
    uid: str


@dataclass(frozen=True)
class EmitEvent:
    """Write an Event about the ArenaJob; the same one is written once."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


Action: TypeAlias = Create | CopySecret | Patch | Delete | EmitEvent


@dataclass(frozen=True)
class Decision:
    """Actions to do in their order, then a status to write, then the seconds until the next round (None: when woken).

    An action that fails ends the round: the next one begins with what is there then.
    """

    actions: tuple[Action, ...] = ()
    status: JobStatus | None = None
    requeue_after_s: float | None = None


UNREMARKABLE: Final = (PENDING, WORKING)
"""Reasons of `Ready` that need no event."""
BLOCKED: Final = ("Ready", "Progressing")
"""Conditions that say why a job makes no progress."""


def derive_events(before: JobStatus, after: JobStatus) -> Iterator[EmitEvent]:
    """Return the events of a change of the status: a new phase, or another reason to wait or to make no progress."""
    ready, earlier = _find_condition(after, "Ready"), _find_condition(before, "Ready")
    if after.phase not in (before.phase, "Pending", None):
        said = f"{ready.reason}: {ready.message}" if ready else ""
        yield EmitEvent("Warning" if after.phase == "Failed" else "Normal", after.phase, said)
    elif ready is not None and ready.reason not in (*UNREMARKABLE, earlier and earlier.reason):
        yield EmitEvent("Warning", ready.reason, ready.message)


def make_decision(
    observed: Observed, before: JobStatus, state: JobState, actions: tuple[Action, ...], now: datetime,
    requeue_after_s: float | None = None,
) -> Decision:  # fmt: skip
    """Return the actions with the status of this state, where it differs from the observed one, and its events."""
    status = build_status(replace(state, generation=observed.generation), before, now)
    if status == observed.status:
        return Decision(actions, None, requeue_after_s)
    return Decision((*actions, *derive_events(before, status)), status, requeue_after_s)


def build_denied_status(before: JobStatus, reason: str, message: str, now: datetime) -> JobStatus:
    """Return the status of a job whose next step was denied: as it was, with the reason why it makes no progress."""
    if not before.conditions:
        return build_status(JobState(waiting=(reason, message)), before, now)
    said = {"reason": reason, "message": message}
    conditions = (each.model_copy(update=said if each.type in BLOCKED else {}) for each in before.conditions)
    return before.model_copy(update={"conditions": tuple(conditions)})


def build_event(event: EmitEvent, observed: Observed, now: datetime) -> Json:
    """Return the Event as an object. Its name is a digest of its content, so that writing it twice makes one."""
    message = printable(event.message, MESSAGE_LENGTH)
    mark = hashlib.sha256(f"{observed.uid} {event.reason} {message}".encode()).hexdigest()[:16]
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.name,
        "metadata": {"name": f"{observed.name[:200].rstrip('-.')}.{mark}", "namespace": observed.namespace},
        "involvedObject": {
            "apiVersion": ARENA_JOB.api_version,
            "kind": ARENA_JOB.name,
            "name": observed.name,
            "namespace": observed.namespace,
            "uid": observed.uid,
            "resourceVersion": observed.resource_version,
        },
        "type": event.type,
        "reason": event.reason,
        "message": message,
        "source": {"component": OPERATOR_NAME},
        "reportingComponent": OPERATOR_NAME,
        "reportingInstance": OPERATOR_NAME,
        "firstTimestamp": format_time(now),
        "lastTimestamp": format_time(now),
        "count": 1,
    }


def _find_condition(status: JobStatus, kind: ConditionType) -> Condition | None:
    return next((condition for condition in status.conditions if condition.type == kind), None)
