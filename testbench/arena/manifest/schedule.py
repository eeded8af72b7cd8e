"""Computes when a job runs again: cron in a time zone, overlapping runs, missed runs, and when an ended job is removed.

Pure functions of the manifest and the time; called by `testbench.arena.operator` and by the command line.
A schedule has five fields and is read in the wall time of its zone: a time that the clocks skip in spring fires at the
first moment after the gap, and one that they repeat in autumn fires once, the first time. Minutes or hours with a `*`
are a rhythm: it goes on through an hour that is repeated, and has no part in one that is skipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from testbench.arena.manifest.job import ConcurrencyPolicy, Schedule
from testbench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

MISSED_AT_MOST: Final = 100
"""Ticks that are counted after a long stop; the latest one runs, and only that one."""
FIELDS: Final = 5


@dataclass(frozen=True)
class Due:
    """The ticks up to now that have not run: the latest one runs, the others are missed. Times are in UTC."""

    tick: datetime | None
    missed: int
    next: datetime | None
    """The first tick after now; None if there never is one."""


Start = Literal["start", "wait", "replace"]
"""What to do with a due tick: run beside what is running, let it pass, or run instead of what is running."""


def check_schedule(schedule: Schedule) -> None:
    """Check that a schedule is valid.

    Raises:
        InputError: no such zone, no valid expression, or one that never fires.
    """
    _find_first_after(schedule, datetime(2000, 1, 1, tzinfo=UTC), required=True)


def find_due(schedule: Schedule, since: datetime, now: datetime) -> Due:
    """Return what is due at `now`, where everything up to `since` (the last tick, or the job's creation) is dealt with.

    Raises:
        InputError: the schedule is invalid.
    """
    tick, missed, following = None, 0, None
    for moment in _list_ticks(schedule, since):
        if moment > now:
            following = moment
            break
        missed += tick is not None
        tick = moment
        if missed >= MISSED_AT_MOST:
            tick = _find_latest(schedule, tick, now)
            following = _find_first_after(schedule, now)
            break
    return Due(tick, missed, following)


def decide_start(policy: ConcurrencyPolicy, running: int) -> Start:
    """Return what a due tick does while `running` earlier runs are not finished."""
    if running == 0 or policy == "Allow":
        return "start"
    return "replace" if policy == "Replace" else "wait"


def compute_removal_time(finished_at: datetime, ttl_seconds: int | None) -> datetime | None:
    """Return when a finished job is deleted; None: never."""
    return None if ttl_seconds is None else finished_at + timedelta(seconds=ttl_seconds)


def _list_ticks(schedule: Schedule, since: datetime) -> Iterator[datetime]:
    from cronsim import CronSim, CronSimError

    fields = schedule.cron.upper().split()
    # the library knows letters that other readers of cron do not: last day, nearest weekday, n-th weekday
    if len(fields) != FIELDS or set("LW") & set(fields[2]) or set("L#") & set(fields[4]):
        raise InputError(
            f"schedule.cron: {schedule.cron!r} does not have five plain fields",
            hint='minute hour day month weekday, e.g. "0 2 * * *" for 2 o\'clock every day.',
        )
    zone = _find_zone(schedule.timezone)
    try:
        for moment in CronSim(schedule.cron, since.astimezone(zone)):
            yield moment.astimezone(UTC)
    except CronSimError as error:
        raise InputError(
            f"schedule.cron: {schedule.cron!r} is not a valid expression: {error}",
            hint='minute hour day month weekday, e.g. "0 2 * * *" for 2 o\'clock every day.',
        ) from error


def _find_first_after(schedule: Schedule, moment: datetime, *, required: bool = False) -> datetime | None:
    first = next(_list_ticks(schedule, moment), None)
    if first is None and required:
        raise InputError(
            f"schedule.cron: {schedule.cron!r} never fires", hint="There is no such day, e.g. 31 February."
        )
    return first


def _find_latest(schedule: Schedule, earlier: datetime, now: datetime) -> datetime:
    """Return the last tick up to `now`, searched in ever longer spans: a stop of years costs no more than a day."""
    span = timedelta(minutes=1)
    while now - span > earlier:
        if found := list(_list_ticks_until(schedule, now - span, now)):
            return found[-1]
        span *= 4
    return max(_list_ticks_until(schedule, earlier, now), default=earlier)


def _list_ticks_until(schedule: Schedule, since: datetime, now: datetime) -> Iterator[datetime]:
    for moment in _list_ticks(schedule, since):
        if moment > now:
            return
        yield moment


def _find_zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # OSError: the name of a folder, e.g. America
        raise InputError(
            f"schedule.timezone: there is no zone {name!r}", hint="Use a name such as UTC or Europe/Berlin."
        ) from error
