"""What the pods of a run report at their end, in the 4,096 bytes that Kubernetes keeps, and why pods do not start.

    plan-run         {"digest", "items", "scenarios", "systems"}, or {"reason", "message"} where it refuses
    reduce, run-all  a Conclusion, or {"next": "again", "message"} where a further round of data generation is needed;
                     run-all may refuse as plan-run does

A pod is not trusted: whatever is not exactly one of these, or could not be shown in a status, counts as no message, and
never as a success.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from testbench.arena.cluster.api import Json
from testbench.arena.conclusion import SUCCEEDED, TERMINATION_BYTES, Conclusion
from testbench.arena.manifest.fields import INT32_MAX
from testbench.arena.manifest.job_status import MESSAGE_LENGTH, JobStatus
from testbench.arena.operator.job_state import JobState, build_status
from testbench.safe_text import printable

REASON_PATTERN: Final = r"^[A-Za-z][A-Za-z0-9]{0,63}$"


class _MessageModel(BaseModel):
    """Immutable; further keys of a newer pod are left out."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class PlanMade(_MessageModel):
    """The plan is made and is in the store."""

    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    items: int = Field(ge=0, le=INT32_MAX, strict=True)
    scenarios: int = Field(default=0, ge=0)
    systems: int = Field(default=0, ge=0)


class RunRefusal(_MessageModel):
    """This job cannot be run as it is: the reason is one word, the message for people."""

    reason: str = Field(pattern=REASON_PATTERN)
    message: str


class AnotherRound(_MessageModel):
    """Data generation needs another round."""

    next: Literal["again"]
    message: str = ""


PodMessage: TypeAlias = PlanMade | RunRefusal | Conclusion | AnotherRound


def parse_message(text: str | None) -> PodMessage | None:
    """Return the message of a pod; None where there is none, or none that can be relied on."""
    if not text or len(text.encode()) > TERMINATION_BYTES:
        return None
    for model in (Conclusion, PlanMade, AnotherRound, RunRefusal):
        try:
            message = _without_control_characters(model.model_validate_json(text))
        except ValidationError:
            continue
        return message if _can_be_shown(message) else None
    return None


def _without_control_characters(message: PodMessage) -> PodMessage:
    """Return the message fit for terminals."""
    if isinstance(message, PlanMade):
        return message
    plain = message.model_copy(update={"message": printable(message.message, MESSAGE_LENGTH)})
    if not isinstance(plain, Conclusion):
        return plain
    summary = {printable(key): printable(value) for key, value in plain.summary.items()}
    return plain.model_copy(update={"summary": summary, "url": None if plain.url is None else printable(plain.url)})


def _can_be_shown(message: PodMessage) -> bool:
    """Return whether a status can hold it. A success over nothing, or with a failure's reason, contradicts itself."""
    if not isinstance(message, Conclusion):
        return True
    succeeded = message.phase == "Succeeded"
    if not re.fullmatch(REASON_PATTERN, message.reason) or succeeded != (message.reason == SUCCEEDED):
        return False
    if succeeded and message.counts.total == 0:
        return False
    try:
        build_status(JobState(conclusion=message), JobStatus(), datetime.fromtimestamp(0, UTC))
    except ValidationError:
        return False
    return True


FAILED_CREATE: Final = "FailedCreate"
"""The reason of a Job's event when its pods are refused: by a quota, a limit, a policy, an admission webhook."""
STARTING: Final = ("ContainerCreating", "PodInitializing")
TROUBLE_LENGTH: Final = 500
NOT_STARTED: Final = "NotStarted"
"""The reason where Kubernetes gives none that a status can hold."""

Trouble = tuple[str, str]
"""A reason in one word and a message."""


def find_pod_trouble(pods: Sequence[Json]) -> Trouble | None:
    """Return why the first pod that cannot start does not: its image, its configuration, or that no node takes it."""
    ordered = sorted(pods, key=lambda pod: str(pod["metadata"]["name"]))
    return next((trouble for pod in ordered for trouble in _list_pod_troubles(pod)), None)


def find_event_trouble(events: Sequence[Json]) -> Trouble | None:
    """Return the last event about pods that could not be created."""
    last = max(events, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""), default=None)
    return None if last is None else _build_trouble(FAILED_CREATE, last.get("message"))


def _list_pod_troubles(pod: Json) -> Iterator[Trouble]:
    status, name = pod.get("status") or {}, pod["metadata"]["name"]
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") and waiting["reason"] not in STARTING:
            yield _build_trouble(waiting["reason"], f"Pod {name}: {waiting.get('message') or ''}")
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            yield _build_trouble(condition.get("reason"), f"Pod {name}: {condition.get('message') or ''}")


def _build_trouble(reason: object, message: object) -> Trouble:
    word = reason if isinstance(reason, str) and re.fullmatch(REASON_PATTERN, reason) else NOT_STARTED
    return word, printable(str(message or ""), TROUBLE_LENGTH).removesuffix(":")
