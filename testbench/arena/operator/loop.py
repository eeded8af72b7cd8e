"""Keeps every ArenaJob in step, until it is told to stop: watches wake, and each look starts from what is there.

I/O. A watch is only an alarm clock: what it brings is thrown away and the job is read anew, so a lost or doubled event
is a late or a needless look. Whatever befalls a watch, it is begun again from a list; nothing that the API server says
ends the process. One instance is enough, and two do no harm.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Final, NamedTuple

from testbench.arena.cluster.api import Cluster, ClusterError, Conflict, Denied, HistoryGone
from testbench.arena.cluster.kinds import ARENA_JOB, EVENT, JOB, SECRET, Json, Kind
from testbench.arena.manifest.job_status import JobStatus
from testbench.arena.operator.actions import (
    Action,
    CopySecret,
    Create,
    Delete,
    EmitEvent,
    Patch,
    denied_status,
    event_body,
    events_of,
)
from testbench.arena.operator.names import SCHEDULE_LABEL
from testbench.arena.operator.observe import Observer
from testbench.arena.operator.observed import Seen, owned_by
from testbench.arena.operator.reconcile import reconcile
from testbench.arena.operator.settings import Settings
from testbench.safe_text import printable

log = logging.getLogger(__name__)

AT_ONCE: Final = 4
LONGEST_BACKOFF_S: Final = 60.0
LONGEST_SLEEP_S: Final = 1.0
"""The queue looks at the clock this often, so that a clock that is set does not leave a job asleep."""
MESSAGE_LENGTH: Final = 1000
DEFECTS: Final = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a job that nobody has thought of would raise here. It must not take all the others along."""
OURS: Final = "app.kubernetes.io/managed-by=testbench-arena-operator"


class Key(NamedTuple):
    """An ArenaJob."""

    namespace: str
    name: str


class Queue:
    """The jobs that are to be looked at and when; each of them is with one worker at a time."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._due: dict[Key, datetime] = {}
        self._busy: set[Key] = set()
        self._changed = asyncio.Event()

    def add(self, key: Key, after_s: float = 0) -> None:
        """Look at it after so many seconds, or earlier if that was asked for already."""
        due = self._now() + timedelta(seconds=after_s)
        self._due[key] = min(due, self._due.get(key, due))
        self._changed.set()

    async def take(self) -> Key:
        """The next one whose time has come."""
        while True:
            self._changed.clear()
            now = self._now()
            free = [(due, key) for key, due in self._due.items() if key not in self._busy]
            due, key = min(free, default=(None, None))
            if due is not None and key is not None and due <= now:
                del self._due[key]
                self._busy.add(key)
                return key
            sleep = LONGEST_SLEEP_S if due is None else min(LONGEST_SLEEP_S, (due - now).total_seconds())
            with suppress(TimeoutError):
                async with asyncio.timeout(sleep):  # wait_for may swallow a cancellation that comes with the event
                    await self._changed.wait()

    def done(self, key: Key) -> None:
        """The worker has finished with it."""
        self._busy.discard(key)
        self._changed.set()


class Shell:
    """The loop. `namespaces`: those that are looked after; none means all of them."""

    def __init__(
        self,
        cluster: Cluster,
        settings: Settings,
        namespaces: tuple[str, ...] = (),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._namespaces: tuple[str | None, ...] = namespaces or (None,)
        self._now = now
        self._observer = Observer(cluster, settings)
        self._queue = Queue(now)
        self._failures: dict[Key, int] = {}
        self._written: dict[Key, datetime] = {}
        self._unseen = 2 * len(self._namespaces)
        self._heard = monotonic()

    @property
    def ready(self) -> bool:
        """Whether everything that is to be looked after was listed once."""
        return self._unseen <= 0

    @property
    def alive(self) -> bool:
        """Whether the API server was heard of lately. A new process reads a new certificate and a new address."""
        return monotonic() - self._heard < self._settings.silence_s

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set. What is begun then is left as it is: the next process goes on from there."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._work()) for _ in range(AT_ONCE)]
            for namespace in self._namespaces:
                tasks.append(group.create_task(self._follow(ARENA_JOB, namespace)))
                tasks.append(group.create_task(self._follow(JOB, namespace, OURS)))
            await stop.wait()
            for task in tasks:
                task.cancel()

    # --- what wakes -------------------------------------------------------------------------------------------------

    async def _follow(self, kind: Kind, namespace: str | None, labels: str = "") -> None:
        failures, seen = 0, False
        while True:
            try:
                listed = await self._cluster.list(kind, namespace, labels)
                self._unseen -= not seen
                seen = True
                self._heard = monotonic()
                for item in listed.items:
                    self._wake(kind, item)
                version = listed.resource_version
                while True:
                    heard = False
                    async for change in self._cluster.watch(kind, namespace, version, labels):
                        version = change.object["metadata"].get("resourceVersion") or version
                        heard, failures = True, 0
                        self._heard = monotonic()
                        if change.type != "BOOKMARK":
                            self._wake(kind, change.object)
                    self._heard = monotonic()
                    if not heard:
                        await asyncio.sleep(self._settings.backoff_s)
            except HistoryGone:
                log.info("watch of %s: its history is gone, listing again", kind.plural)
            except ClusterError as error:
                log.warning("watch of %s: %s", kind.plural, error.message)
            await asyncio.sleep(self._backoff(failures))
            failures += 1

    def _wake(self, kind: Kind, content: Json) -> None:
        """Look at the ArenaJob that this is, or that it belongs to; for a run of a schedule at both."""
        metadata = content["metadata"]
        namespace = metadata.get("namespace", "")
        if kind == ARENA_JOB:
            self._queue.add(Key(namespace, metadata["name"]))
        if kind == JOB or SCHEDULE_LABEL in (metadata.get("labels") or {}):
            for owner in metadata.get("ownerReferences") or ():
                if owner.get("kind") == ARENA_JOB.name:
                    self._queue.add(Key(namespace, owner["name"]))

    # --- what is done -----------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            key = await self._queue.take()
            try:
                await self.look(key)
                self._failures.pop(key, None)
                self._heard = monotonic()
            except ClusterError as error:
                self._again(key, soon=isinstance(error, Conflict))
                log.info("%s/%s: %s", *key, error.message)
            except DEFECTS:
                self._again(key, soon=False)
                log.exception("%s/%s: a defect of the operator; the other jobs go on", *key)
            finally:
                self._queue.done(key)

    def _again(self, key: Key, *, soon: bool) -> None:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        self._queue.add(key, self._backoff(0 if soon else failures))

    async def look(self, key: Key) -> None:
        """One round: see, decide, act, write the status.

        Raises:
            ClusterError: it could not be finished; the next round begins with what is there then.
        """
        seen = await self._observer.see(*key)
        if seen is None:
            self._written.pop(key, None)
            return
        now = self._now().replace(microsecond=0)
        decision = reconcile(seen, now, self._settings)
        try:
            for action in decision.actions:
                await self._do(action, seen, now)
        except Denied as denied:
            await self._complain(seen, denied, now)
            raise
        wait = await self._write(key, seen, decision.status, now)
        requeue = [each for each in (decision.requeue_after_s, wait) if each is not None]
        if not seen.ended:
            requeue.append(self._settings.resync_s)
        if requeue:
            self._queue.add(key, max(min(requeue), self._settings.calm_s))

    async def _complain(self, seen: Seen, denied: Denied, now: datetime) -> None:
        """Say in the status, and once in an event, why the job does not get on."""
        message = printable(denied.message, MESSAGE_LENGTH)
        status = seen.status if seen.ended else denied_status(seen.status, denied.reason, message, now)
        if status == seen.status:
            return
        for event in events_of(seen.status, status):
            await self._tell(event, seen, now)
        await self._patch_status(seen, status)

    async def _do(self, action: Action, seen: Seen, now: datetime) -> None:
        match action:
            case Create(kind, body):
                await self._create(kind, body, seen)
            case CopySecret(namespace, name, body):
                await self._copy(namespace, name, body, seen)
            case Patch(kind, name, version, change):
                metadata = (change.get("metadata") or {}) | {"resourceVersion": version}
                await self._cluster.patch(kind, seen.namespace, name, change | {"metadata": metadata})
                log.info("%s/%s: %s %s changed", seen.namespace, seen.name, kind.name, name)
            case Delete(kind, name, uid):
                await self._cluster.delete(kind, seen.namespace, name, uid)
                log.info("%s/%s: %s %s deleted", seen.namespace, seen.name, kind.name, name)
            case EmitEvent():
                await self._tell(action, seen, now)

    async def _tell(self, event: EmitEvent, seen: Seen, now: datetime) -> None:
        """Events are a courtesy: one that cannot be written holds nothing up."""
        try:
            await self._cluster.create(EVENT, event_body(event, seen, now))
        except ClusterError as error:
            log.warning("%s/%s: event %s: %s", seen.namespace, seen.name, event.reason, error.message)

    async def _create(self, kind: Kind, body: Json, seen: Seen) -> None:
        name = body["metadata"]["name"]
        if await self._cluster.create(kind, body):
            log.info("%s/%s: %s %s created", seen.namespace, seen.name, kind.name, name)
            return
        found = await self._cluster.get(kind, seen.namespace, name)
        if found is None or not owned_by(found, seen.uid) or "deletionTimestamp" in found["metadata"]:
            message = f"{kind.name} {name} is there and belongs to somebody else, or is about to go."
            raise Denied(message, reason="NameTaken")

    async def _copy(self, namespace: str, name: str, body: Json, seen: Seen) -> None:
        secret = await self._cluster.get(SECRET, namespace, name)
        if secret is None:
            raise Denied(f"Secret {namespace}/{name} does not exist.", reason="SecretMissing")
        await self._create(SECRET, body | {"data": secret.get("data") or {}}, seen)

    async def _write(self, key: Key, seen: Seen, status: JobStatus | None, now: datetime) -> float | None:
        """Write the status; one in which only numbers changed waits for its turn, and says how long."""
        if status is None:
            return None
        since = (now - self._written.get(key, datetime.min.replace(tzinfo=UTC))).total_seconds()
        interval = self._settings.status_interval_s
        if 0 <= since < interval and _essence(seen.status) == _essence(status):  # below 0 the clock was set back
            return interval - since
        await self._patch_status(seen, status)
        self._written[key] = now
        return None

    async def _patch_status(self, seen: Seen, status: JobStatus) -> None:
        content = status.model_dump(mode="json", by_alias=True)
        if seen.status.result is not None and content["result"] is not None:  # a merge keeps what it is not told of
            content["result"]["summary"] = dict.fromkeys(seen.status.result.summary) | content["result"]["summary"]
        change = {"metadata": {"resourceVersion": seen.resource_version}, "status": content}
        await self._cluster.patch(ARENA_JOB, seen.namespace, seen.name, change, status=True)

    def _backoff(self, failures: int) -> float:
        return min(LONGEST_BACKOFF_S, self._settings.backoff_s * 2.0 ** min(failures, 10))


def _essence(status: JobStatus) -> JobStatus:
    """What nobody should have to wait for: all but numbers, and the messages that repeat them."""
    conditions = tuple(condition.model_copy(update={"message": ""}) for condition in status.conditions)
    return status.model_copy(update={"progress": None, "active_workers": None, "conditions": conditions})
