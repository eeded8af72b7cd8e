"""An ArenaJob with a schedule runs nothing itself: each tick makes an ArenaJob of its own, named after the tick.

Pure; called by `reconcile`. A tick is seen to exactly once: what was created before a crash is found by its name, and
everything up to `status.lastScheduleTime` counts as done. Of several missed ticks the latest runs. `Replace` cancels
what is running, so that its results stay. The status shows how the last run that ended did end, and which one that is.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from testbench.arena.cluster.kinds import ARENA_JOB, Json
from testbench.arena.conclusion import CANCELLED, Conclusion, Counts
from testbench.arena.manifest.job import ArenaJob, Schedule
from testbench.arena.manifest.job_status import SUMMARY_VERDICT, JobResult, JobStatus
from testbench.arena.manifest.schedule import MISSED_AT_MOST, Due, child_name, decide, due
from testbench.arena.operator import names
from testbench.arena.operator.actions import Action, Create, Decision, EmitEvent, Patch, decided
from testbench.arena.operator.jobs import owner_reference
from testbench.arena.operator.observed import Child, Seen, stamp
from testbench.arena.status import ENDED, Standing
from testbench.errors import InputError

INVALID: Final = "InvalidSchedule"
LONGEST_WAIT_S: Final = 3600.0
SUMMARY_TICK: Final = "scheduledFor"
"""In a schedule's summary: the tick of the run that it is about."""
SUMMARY_LENGTH: Final = 64
"""Keys that the status takes."""


def reconcile(seen: Seen, manifest: ArenaJob, now: datetime) -> Decision:
    """The next step of a schedule. An invalid one is refused; once it is corrected, it begins."""
    if seen.ended and not _corrected(seen):
        return Decision()
    before = seen.status if not seen.ended else JobStatus(last_schedule_time=seen.status.last_schedule_time)
    schedule = manifest.spec.schedule
    if manifest.spec.cancelled or schedule is None:
        ended = Conclusion(
            phase="Cancelled", reason=CANCELLED, message="Nothing runs any more.", counts=Counts(total=0)
        )
        return decided(seen, before, Standing(conclusion=ended), _cancel(seen), now)
    since = _seen_to(seen)
    try:
        found = due(schedule, since or seen.created_at, now)
    except InputError as error:
        return decided(seen, before, Standing(refusal=(INVALID, f"{error.message} {error.hint}")), (), now)
    actions, live = _start(seen, manifest, schedule, found)
    standing = Standing(
        created=live,
        active_workers=sum(child.status.active_workers or 0 for child in seen.children if child.live),
        last_schedule_time=found.tick or since,
        next_schedule_time=found.next,
    )
    wait = LONGEST_WAIT_S if found.next is None else min(LONGEST_WAIT_S, (found.next - now).total_seconds())
    shown = before.model_copy(update={"result": _last_result(seen.children, before.result)})
    return decided(seen, shown, standing, actions, now, max(wait, 0.0))


def child_body(seen: Seen, manifest: ArenaJob, tick: datetime) -> Json:
    """The ArenaJob of one tick: the same work without the schedule."""
    spec = manifest.spec.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"schedule", "cancelled"})
    return {
        "apiVersion": ARENA_JOB.api_version,
        "kind": ARENA_JOB.name,
        "metadata": {
            "name": child_name(seen.name, tick),
            "namespace": seen.namespace,
            "labels": {names.SCHEDULE_LABEL: seen.uid, names.NAME_LABEL: names.label_value(seen.name)},
            "annotations": {names.TICK_ANNOTATION: stamp(tick)},
            "ownerReferences": [owner_reference(seen.name, seen.uid)],
        },
        "spec": spec,
    }


def _start(seen: Seen, manifest: ArenaJob, schedule: Schedule, found: Due) -> tuple[tuple[Action, ...], bool]:
    """What a due tick brings, and whether anything runs then."""
    running = [child for child in seen.children if child.live]
    if found.tick is None:
        return (), bool(running)
    missed: list[Action] = []
    if found.missed:
        amount = f"{found.missed} or more" if found.missed >= MISSED_AT_MOST else str(found.missed)
        missed = [
            EmitEvent("Warning", "RunsMissed", f"{amount} runs before that of {stamp(found.tick)} did not start.")
        ]
    match decide(schedule.concurrency_policy, len(running)):
        case "wait":
            names_ = ", ".join(child.name for child in running[:3])
            skipped = EmitEvent(
                "Warning", "RunSkipped", f"The run of {stamp(found.tick)} is left out: {names_} still runs."
            )
            return (*missed, skipped), True
        case "replace":
            missed += _cancel(seen)
        case "start":
            pass
    body = child_body(seen, manifest, found.tick)
    told = EmitEvent("Normal", "RunStarted", f"ArenaJob {body['metadata']['name']} for {stamp(found.tick)}.")
    return (*missed, Create(ARENA_JOB, body), told), True


def _cancel(seen: Seen) -> tuple[Patch, ...]:
    change: Json = {"spec": {"cancelled": True}}
    return tuple(Patch(ARENA_JOB, child.name, child.resource_version, change) for child in seen.children if child.live)


def _seen_to(seen: Seen) -> datetime | None:
    """The last tick that was seen to, by the status or by the run that it made."""
    ticks = [child.tick for child in seen.children if child.tick is not None]
    if seen.status.last_schedule_time is not None:
        ticks.append(seen.status.last_schedule_time)
    return max(ticks, default=None)


def _last_result(children: tuple[Child, ...], shown: JobResult | None) -> JobResult | None:
    """How the run of the latest tick ended. One that failed shows no `pass`, least of all that of an earlier run."""
    ended = {stamp(child.tick): child.status for child in children if child.tick and child.status.phase in ENDED}
    if not ended or max(ended) < tick_shown(shown):
        return shown
    tick = max(ended)
    status, result = ended[tick], ended[tick].result or JobResult()
    summary = dict(list(result.summary.items())[: SUMMARY_LENGTH - 2])
    if status.phase == "Failed" and summary.get(SUMMARY_VERDICT) in (None, "pass"):
        summary[SUMMARY_VERDICT] = "error"
    return result.model_copy(update={"summary": summary | {SUMMARY_TICK: tick}})


def tick_shown(result: JobResult | None) -> str:
    """The tick of the run whose result a schedule shows; empty if it shows none."""
    return result.summary.get(SUMMARY_TICK, "") if result is not None else ""


def _corrected(seen: Seen) -> bool:
    return seen.status.phase == "Failed" and seen.status.observed_generation != seen.generation
