"""Computes the status of a job from its state: phase, progress and the four conditions.

    JobState (what was found) + status so far + now -> JobStatus

Pure. A condition's time is that of its last change, so writing the
same state twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from testbench.arena.conclusion import Conclusion, Counts
from testbench.arena.manifest.job import JobPhase
from testbench.arena.manifest.job_status import (
    Condition,
    ConditionStatus,
    ConditionType,
    JobProgress,
    JobResult,
    JobStatus,
)

PENDING: Final = "Pending"
WORKING: Final = "Working"
"""Reasons of a job that waits for nothing but its turn, and of one whose pods work."""
ENDED: Final[frozenset[JobPhase]] = frozenset({"Succeeded", "Failed", "Cancelled"})


@dataclass(frozen=True)
class JobState:
    """Where a job stands.

    `refusal` says why its configuration cannot be used (reason, message); `waiting` why it has not begun, or does not
    get on, although it can. `created` is set once its workers exist, `conclusion` once it has ended.
    """

    generation: int | None = None
    refusal: tuple[str, str] | None = None
    waiting: tuple[str, str] | None = None
    created: bool = False
    active_workers: int = 0
    progress: JobProgress = field(default_factory=JobProgress)
    conclusion: Conclusion | None = None
    next_schedule_time: datetime | None = None
    last_schedule_time: datetime | None = None


def build_status(state: JobState, before: JobStatus, now: datetime) -> JobStatus:
    """Return the status to write. Once a job has ended it stays as it ended."""
    if before.phase in ENDED:
        return before
    phase = _phase(state)
    ended = phase in ENDED
    started = before.start_time or (now if state.created or ended else None)
    end = state.conclusion
    return JobStatus(
        phase=phase,
        observed_generation=state.generation,
        progress=progress_of(end.counts) if end else state.progress,
        result=JobResult(url=end.url, summary=end.summary) if end else before.result,
        conditions=_conditions(_wanted(state, phase), before.conditions, state.generation, now),
        active_workers=0 if ended else state.active_workers,
        start_time=started,
        completion_time=now if ended else None,
        last_schedule_time=state.last_schedule_time or before.last_schedule_time,
        next_schedule_time=state.next_schedule_time,
    )


def progress_of(counts: Counts) -> JobProgress:
    """Return counts as progress: items with a verdict are completed, those that could not be judged have failed."""
    completed = counts.passed + counts.failed
    return JobProgress(total=counts.total, completed=completed, failed=counts.total - completed, pending=0)


def _phase(state: JobState) -> JobPhase:
    if state.conclusion is not None:
        return state.conclusion.phase
    if state.refusal is not None:
        return "Failed"
    return "Running" if state.created else "Pending"


def _wanted(state: JobState, phase: JobPhase) -> list[tuple[ConditionType, ConditionStatus, str, str]]:
    end = state.conclusion
    if state.refusal is not None:
        reason, message = state.refusal
        return [
            ("ConfigValid", "False", reason, message),
            ("JobCreated", "False", reason, "Nothing is started with this configuration."),
            ("Progressing", "False", reason, message),
            ("Ready", "False", reason, message),
        ]
    waiting = state.waiting
    config: tuple[ConditionType, ConditionStatus, str, str] = ("ConfigValid", "True", "Valid", "")
    if waiting is not None and not state.created and end is None:
        config = ("ConfigValid", "Unknown", *waiting)
    created: ConditionStatus = "True" if state.created else "False"
    reason, message = waiting or (PENDING, "")
    if end is not None:
        reason, message = end.reason, end.message
    elif state.created and waiting is None:
        reason, message = WORKING, f"{state.active_workers} workers"
    return [
        config,
        ("JobCreated", created, "Created" if state.created else reason, ""),
        ("Progressing", "True" if phase == "Running" else "False", reason, message),
        ("Ready", "True" if phase == "Succeeded" else "False", reason, message),
    ]


def _conditions(
    wanted: Sequence[tuple[ConditionType, ConditionStatus, str, str]],
    before: Sequence[Condition],
    generation: int | None,
    now: datetime,
) -> tuple[Condition, ...]:
    known = {condition.type: condition for condition in before}
    found = []
    for kind, status, reason, message in wanted:
        earlier = known.pop(kind, None)
        since = earlier.last_transition_time if earlier is not None and earlier.status == status else now
        found.append(
            Condition(
                type=kind,
                status=status,
                reason=reason,
                message=message,
                last_transition_time=since,
                observed_generation=generation,
            )
        )
    return (*found, *known.values())
