"""Keeps every ArenaJob in step, until it is told to stop: watches wake, and each look starts from what is there.

I/O. A watch is only an alarm clock: what it brings is thrown away and the job is read anew, so a lost or doubled event
is a late or a needless look. Whatever befalls a watch, it is begun again from a list; nothing that the API server says
ends the process. One instance is enough, and two do no harm.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Final, NamedTuple

from testbench.arena.cluster.api import (
    ARENA_JOB,
    EVENT,
    JOB,
    SECRET,
    Cluster,
    ClusterError,
    Conflict,
    Denied,
    HistoryGone,
    Json,
    Kind,
)
from testbench.arena.manifest.job_status import JobStatus
from testbench.arena.operator.actions import (
    Action,
    CopySecret,
    Create,
    Delete,
    EmitEvent,
    Patch,
    build_denied_status,
    build_event,
    derive_events,
)
from testbench.arena.operator.metadata import SCHEDULE_LABEL, is_owned_by
from testbench.arena.operator.observed import Observed
from testbench.arena.operator.observer import Observer
from testbench.arena.operator.reconcile import reconcile
from testbench.arena.operator.settings import Settings
from testbench.errors import InputError
from testbench.net.retry import compute_backoff
from testbench.safe_text import printable

log = logging.getLogger(__name__)

WORKERS: Final = 4
LONGEST_BACKOFF_S: Final = 60.0
LONGEST_SLEEP_S: Final = 1.0
"""The queue looks at the clock this often, so that a clock that is set does not leave a job asleep."""
MESSAGE_LENGTH: Final = 1000
DEFECTS: Final = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a job that nobody has thought of would raise here. It must not take all the others along."""
MANAGED_BY_OPERATOR: Final = "app.kubernetes.io/managed-by=testbench-arena-operator"


class JobKey(NamedTuple):
    """An ArenaJob."""

    namespace: str
    name: str


class WorkQueue:
    """The jobs that are to be looked at and when; each of them is with one worker at a time."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._due: dict[JobKey, datetime] = {}
        self._busy: set[JobKey] = set()
        self._changed = asyncio.Event()

    def add(self, key: JobKey, after_s: float = 0) -> None:
        """Look at it after so many seconds, or earlier if that was asked for already."""
        due = self._now() + timedelta(seconds=after_s)
        self._due[key] = min(due, self._due.get(key, due))
        self._changed.set()

    async def take(self) -> JobKey:
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

    def done(self, key: JobKey) -> None:
        """The worker has finished with it."""
        self._busy.discard(key)
        self._changed.set()


class OperatorLoop:
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
        self._queue = WorkQueue(now)
        self._failures: dict[JobKey, int] = {}
        self._written: dict[JobKey, datetime] = {}
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
            tasks = [group.create_task(self._work()) for _ in range(WORKERS)]
            for namespace in self._namespaces:
                tasks.append(group.create_task(self._watch(ARENA_JOB, namespace)))
                tasks.append(group.create_task(self._watch(JOB, namespace, MANAGED_BY_OPERATOR)))
            await stop.wait()
            for task in tasks:
                task.cancel()

    # --- what wakes -------------------------------------------------------------------------------------------------

    async def _watch(self, kind: Kind, namespace: str | None, labels: str = "") -> None:
        failures, observed = 0, False
        while True:
            try:
                listed = await self._cluster.list(kind, namespace, labels)
                self._unseen -= not observed
                observed = True
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
            self._queue.add(JobKey(namespace, metadata["name"]))
        if kind == JOB or SCHEDULE_LABEL in (metadata.get("labels") or {}):
            for owner in metadata.get("ownerReferences") or ():
                if owner.get("kind") == ARENA_JOB.name:
                    self._queue.add(JobKey(namespace, owner["name"]))

    # --- what is done -----------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            key = await self._queue.take()
            try:
                await self.run_round(key)
                self._failures.pop(key, None)
                self._heard = monotonic()
            except ClusterError as error:
                self._retry(key, soon=isinstance(error, Conflict))
                log.info("%s/%s: %s", *key, error.message)
            except DEFECTS:
                self._retry(key, soon=False)
                log.exception("%s/%s: a defect of the operator; the other jobs go on", *key)
            finally:
                self._queue.done(key)

    def _retry(self, key: JobKey, *, soon: bool) -> None:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        self._queue.add(key, self._backoff(0 if soon else failures))

    async def run_round(self, key: JobKey) -> None:
        """One round: see, decide, act, write the status.

        Raises:
            ClusterError: it could not be finished; the next round begins with what is there then.
        """
        observed = await self._observer.observe(*key)
        if observed is None:
            self._written.pop(key, None)
            return
        now = self._now().replace(microsecond=0)
        decision = reconcile(observed, now, self._settings)
        try:
            for action in decision.actions:
                await self._apply(action, observed, now)
        except Denied as denied:
            await self._report_denial(observed, denied, now)
            raise
        wait = await self._write(key, observed, decision.status, now)
        requeue = [each for each in (decision.requeue_after_s, wait) if each is not None]
        if not observed.ended:
            requeue.append(self._settings.resync_s)
        if requeue:
            self._queue.add(key, max(min(requeue), self._settings.calm_s))

    async def _report_denial(self, observed: Observed, denied: Denied, now: datetime) -> None:
        """Say in the status, and once in an event, why the job does not get on."""
        message = printable(denied.message, MESSAGE_LENGTH)
        status = (
            observed.status if observed.ended else build_denied_status(observed.status, denied.reason, message, now)
        )
        if status == observed.status:
            return
        for event in derive_events(observed.status, status):
            await self._emit(event, observed, now)
        await self._patch_status(observed, status)

    async def _apply(self, action: Action, observed: Observed, now: datetime) -> None:
        match action:
            case Create(kind, body):
                await self._create(kind, body, observed)
            case CopySecret(namespace, name, body):
                await self._copy(namespace, name, body, observed)
            case Patch(kind, name, version, change):
                metadata = (change.get("metadata") or {}) | {"resourceVersion": version}
                await self._cluster.patch(kind, observed.namespace, name, change | {"metadata": metadata})
                log.info("%s/%s: %s %s changed", observed.namespace, observed.name, kind.name, name)
            case Delete(kind, name, uid):
                await self._cluster.delete(kind, observed.namespace, name, uid)
                log.info("%s/%s: %s %s deleted", observed.namespace, observed.name, kind.name, name)
            case EmitEvent():
                await self._emit(action, observed, now)

    async def _emit(self, event: EmitEvent, observed: Observed, now: datetime) -> None:
        """Events are a courtesy: one that cannot be written holds nothing up."""
        try:
            await self._cluster.create(EVENT, build_event(event, observed, now))
        except ClusterError as error:
            log.warning("%s/%s: event %s: %s", observed.namespace, observed.name, event.reason, error.message)

    async def _create(self, kind: Kind, body: Json, observed: Observed) -> None:
        name = body["metadata"]["name"]
        if await self._cluster.create(kind, body):
            log.info("%s/%s: %s %s created", observed.namespace, observed.name, kind.name, name)
            return
        found = await self._cluster.get(kind, observed.namespace, name)
        if found is None or not is_owned_by(found, observed.uid) or "deletionTimestamp" in found["metadata"]:
            message = f"{kind.name} {name} is there and belongs to somebody else, or is about to go."
            raise Denied(message, reason="NameTaken")

    async def _copy(self, namespace: str, name: str, body: Json, observed: Observed) -> None:
        secret = await self._cluster.get(SECRET, namespace, name)
        if secret is None:
            raise Denied(f"Secret {namespace}/{name} does not exist.", reason="SecretMissing")
        await self._create(SECRET, body | {"data": secret.get("data") or {}}, observed)

    async def _write(self, key: JobKey, observed: Observed, status: JobStatus | None, now: datetime) -> float | None:
        """Write the status; one in which only numbers changed waits for its turn, and says how long."""
        if status is None:
            return None
        since = (now - self._written.get(key, datetime.min.replace(tzinfo=UTC))).total_seconds()
        interval = self._settings.status_interval_s
        if 0 <= since < interval and _without_numbers(observed.status) == _without_numbers(
            status
        ):  # below 0 the clock was set back
            return interval - since
        await self._patch_status(observed, status)
        self._written[key] = now
        return None

    async def _patch_status(self, observed: Observed, status: JobStatus) -> None:
        content = status.model_dump(mode="json", by_alias=True)
        if observed.status.result is not None and content["result"] is not None:  # a merge keeps what it is not told of
            content["result"]["summary"] = dict.fromkeys(observed.status.result.summary) | content["result"]["summary"]
        change = {"metadata": {"resourceVersion": observed.resource_version}, "status": content}
        await self._cluster.patch(ARENA_JOB, observed.namespace, observed.name, change, status=True)

    def _backoff(self, failures: int) -> float:
        base_s = self._settings.backoff_s
        return compute_backoff(failures + 1, 1.0, base_s=base_s, cap_s=LONGEST_BACKOFF_S)


def _without_numbers(status: JobStatus) -> JobStatus:
    """What nobody should have to wait for: all but numbers, and the messages that repeat them."""
    conditions = tuple(condition.model_copy(update={"message": ""}) for condition in status.conditions)
    return status.model_copy(update={"progress": None, "active_workers": None, "conditions": conditions})


PROBE_TIMEOUT_S: Final = 5.0


@asynccontextmanager
async def serve_probes(port: int, healthy: Callable[[], bool], ready: Callable[[], bool]) -> AsyncIterator[int]:
    """Serve both pages on this port of all addresses while inside; yields the port, which 0 leaves to the machine.

    Raises:
        InputError: the port is not free.
    """
    pages = {b"/healthz": healthy, b"/readyz": ready}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await asyncio.wait_for(reader.readline(), PROBE_TIMEOUT_S)
            writer.write(_build_reply(pages.get(b"".join(line.split(b" ")[1:2]))))
            await writer.drain()
        except (TimeoutError, ConnectionError, ValueError):
            pass  # whoever asked will ask again
        finally:
            writer.close()

    try:
        server = await asyncio.start_server(answer, None, port)
    except OSError as error:
        raise InputError(
            f"port {port} cannot be used: {error.strerror}", hint="Name another one with --health-port."
        ) from error
    async with server:
        yield min(server.sockets, key=lambda each: each.family).getsockname()[1]  # IPv4 comes before IPv6


def _build_reply(good: Callable[[], bool] | None) -> bytes:
    status = b"404 Not Found" if good is None else b"200 OK" if good() else b"503 Service Unavailable"
    return b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
