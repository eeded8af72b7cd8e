"""An ArenaJob with a schedule runs nothing itself: each tick makes an ArenaJob of its own, named after the tick.

Pure; called by `reconcile`. A tick is dealt with exactly once: what was created before a crash is found by its name,
and everything up to `status.lastScheduleTime` counts as done. Of several missed ticks the latest runs. `Replace`
cancels what is running, so that its results stay. The status shows which run ended last, and how.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from testbench.arena.cluster.api import ARENA_JOB, Json
from testbench.arena.conclusion import CANCELLED, Conclusion, Counts
from testbench.arena.manifest.job import ArenaJob, Schedule
from testbench.arena.manifest.job_status import SUMMARY_VERDICT, JobResult, JobStatus
from testbench.arena.manifest.schedule import MISSED_AT_MOST, Due, decide_start, find_due
from testbench.arena.operator.actions import Action, Create, Decision, EmitEvent, Patch, make_decision
from testbench.arena.operator.job_state import ENDED, JobState
from testbench.arena.operator.metadata import (
    NAME_LABEL,
    SCHEDULE_LABEL,
    TICK_ANNOTATION,
    build_owner_reference,
    format_time,
    name_scheduled_run,
    to_label_value,
)
from testbench.arena.operator.observed import Observed, ScheduledRun
from testbench.errors import InputError

INVALID: Final = "InvalidSchedule"
LONGEST_WAIT_S: Final = 3600.0
SUMMARY_TICK: Final = "scheduledFor"
"""In a schedule's summary: the tick of the run that it is about."""
SUMMARY_LENGTH: Final = 64
"""Keys that a status holds at most."""


def reconcile(observed: Observed, manifest: ArenaJob, now: datetime) -> Decision:
    """Return the next step of a schedule. An invalid one is refused; once it is corrected, it begins."""
    if observed.ended and not observed.changed_after_failure:
        return Decision()
    before = observed.status if not observed.ended else JobStatus(last_schedule_time=observed.status.last_schedule_time)
    schedule = manifest.spec.schedule
    if manifest.spec.cancelled or schedule is None:
        ended = Conclusion(
            phase="Cancelled", reason=CANCELLED, message="Nothing runs any more.", counts=Counts(total=0)
        )
        return make_decision(observed, before, JobState(conclusion=ended), _cancel(observed), now)
    since = _find_last_tick(observed)
    try:
        found = find_due(schedule, since or observed.created_at, now)
    except InputError as error:
        return make_decision(observed, before, JobState(refusal=(INVALID, f"{error.message} {error.hint}")), (), now)
    actions, live = _start_tick(observed, manifest, schedule, found)
    state = JobState(
        created=live,
        active_workers=sum(
            scheduled.status.active_workers or 0 for scheduled in observed.scheduled_runs if scheduled.live
        ),
        last_schedule_time=found.tick or since,
        next_schedule_time=found.next,
    )
    wait = LONGEST_WAIT_S if found.next is None else min(LONGEST_WAIT_S, (found.next - now).total_seconds())
    shown = before.model_copy(update={"result": _find_last_result(observed.scheduled_runs, before.result)})
    return make_decision(observed, shown, state, actions, now, max(wait, 0.0))


def build_scheduled_run(observed: Observed, manifest: ArenaJob, tick: datetime) -> Json:
    """Return the ArenaJob of one tick: the same work without the schedule."""
    spec = manifest.spec.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"schedule", "cancelled"})
    return {
        "apiVersion": ARENA_JOB.api_version,
        "kind": ARENA_JOB.name,
        "metadata": {
            "name": name_scheduled_run(observed.name, tick),
            "namespace": observed.namespace,
            "labels": {SCHEDULE_LABEL: observed.uid, NAME_LABEL: to_label_value(observed.name)},
            "annotations": {TICK_ANNOTATION: format_time(tick)},
            "ownerReferences": [build_owner_reference(observed.name, observed.uid)],
        },
        "spec": spec,
    }


def _start_tick(
    observed: Observed, manifest: ArenaJob, schedule: Schedule, found: Due
) -> tuple[tuple[Action, ...], bool]:
    """Return what is to be done for a due tick, and whether anything runs then."""
    running = [scheduled for scheduled in observed.scheduled_runs if scheduled.live]
    if found.tick is None:
        return (), bool(running)
    missed: list[Action] = []
    if found.missed:
        amount = f"{found.missed} or more" if found.missed >= MISSED_AT_MOST else str(found.missed)
        missed = [
            EmitEvent("Warning", "RunsMissed", f"{amount} runs before that of {format_time(found.tick)} did not start.")
        ]
    match decide_start(schedule.concurrency_policy, len(running)):
        case "wait":
            listed = ", ".join(scheduled.name for scheduled in running[:3])
            skipped = EmitEvent(
                "Warning", "RunSkipped", f"The run of {format_time(found.tick)} is left out: {listed} still runs."
            )
            return (*missed, skipped), True
        case "replace":
            missed += _cancel(observed)
        case "start":
            pass
    body = build_scheduled_run(observed, manifest, found.tick)
    started = EmitEvent("Normal", "RunStarted", f"ArenaJob {body['metadata']['name']} for {format_time(found.tick)}.")
    return (*missed, Create(ARENA_JOB, body), started), True


def _cancel(observed: Observed) -> tuple[Patch, ...]:
    change: Json = {"spec": {"cancelled": True}}
    return tuple(
        Patch(ARENA_JOB, scheduled.name, scheduled.resource_version, change)
        for scheduled in observed.scheduled_runs
        if scheduled.live
    )


def _find_last_tick(observed: Observed) -> datetime | None:
    """Return the last tick that was dealt with, by the status or by the run that it made."""
    ticks = [scheduled.tick for scheduled in observed.scheduled_runs if scheduled.tick is not None]
    if observed.status.last_schedule_time is not None:
        ticks.append(observed.status.last_schedule_time)
    return max(ticks, default=None)


def _find_last_result(scheduled_runs: tuple[ScheduledRun, ...], shown: JobResult | None) -> JobResult | None:
    """Return how the run of the latest tick ended. One that failed shows no `pass`, not even that of an earlier run."""
    ended = {
        format_time(scheduled.tick): scheduled.status
        for scheduled in scheduled_runs
        if scheduled.tick and scheduled.status.phase in ENDED
    }
    if not ended or max(ended) < shown_tick(shown):
        return shown
    tick = max(ended)
    status, result = ended[tick], ended[tick].result or JobResult()
    summary = dict(list(result.summary.items())[: SUMMARY_LENGTH - 2])
    if status.phase == "Failed" and summary.get(SUMMARY_VERDICT) in (None, "pass"):
        summary[SUMMARY_VERDICT] = "error"
    return result.model_copy(update={"summary": summary | {SUMMARY_TICK: tick}})


def shown_tick(result: JobResult | None) -> str:
    """Return the tick of the run whose result a schedule shows; empty if it shows none."""
    return result.summary.get(SUMMARY_TICK, "") if result is not None else ""
