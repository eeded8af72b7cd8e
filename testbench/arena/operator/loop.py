"""Reconciles every ArenaJob until it is told to stop: watches say which, and each round starts from what is there.

I/O. What a watch delivers is not used: the job is read anew, so a lost or doubled event means a late or a needless
round. Whatever happens to a watch, it is begun again from a list; nothing that the API server says ends the process.
One instance is enough, and two do no harm. The kubelet's probes are answered here too.
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
    ConflictError,
    DeniedError,
    HistoryGoneError,
    Json,
    Kind,
)
from testbench.arena.manifest.job_status import MESSAGE_LENGTH, JobStatus
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
from testbench.arena.operator.metadata import MANAGED_BY_LABEL, OPERATOR_NAME, SCHEDULE_LABEL, is_owned_by
from testbench.arena.operator.observed import Observed
from testbench.arena.operator.observer import Observer
from testbench.arena.operator.reconcile import reconcile
from testbench.arena.operator.settings import OperatorSettings
from testbench.errors import InputError
from testbench.net.retry import compute_backoff
from testbench.safe_text import printable

log = logging.getLogger(__name__)

WORKERS: Final = 4
NAME_TAKEN: Final = "NameTaken"
SECRET_MISSING: Final = "SecretMissing"  # noqa: S105  # the reason of a condition
LONGEST_BACKOFF_S: Final = 60.0
LONGEST_SLEEP_S: Final = 1.0
"""The queue reads the clock this often, so that no job waits for long after the clock was set."""
DEFECTS: Final = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a defect of the operator would raise for one job. It must not end the work on all others."""
MANAGED_BY_OPERATOR: Final = f"{MANAGED_BY_LABEL}={OPERATOR_NAME}"


class JobKey(NamedTuple):
    """An ArenaJob."""

    namespace: str
    name: str


class WorkQueue:
    """The jobs that need a round and when; each of them is with one worker at a time."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._due: dict[JobKey, datetime] = {}
        self._busy: set[JobKey] = set()
        self._changed = asyncio.Event()

    def add(self, key: JobKey, after_s: float = 0) -> None:
        """Ask for a round after so many seconds, or earlier if that was asked for already."""
        due = self._now() + timedelta(seconds=after_s)
        self._due[key] = min(due, self._due.get(key, due))
        self._changed.set()

    async def take(self) -> JobKey:
        """Wait for the next job that is due, and return it."""
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
        """Let others take the job again."""
        self._busy.discard(key)
        self._changed.set()


class OperatorLoop:
    """The operator's loop over the jobs of these namespaces; none means all of them."""

    def __init__(
        self,
        cluster: Cluster,
        settings: OperatorSettings,
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
        self._unlisted = 2 * len(self._namespaces)
        self._heard = monotonic()

    @property
    def ready(self) -> bool:
        """Whether all jobs were listed once."""
        return self._unlisted <= 0

    @property
    def alive(self) -> bool:
        """Whether the API server answered lately. If not, a new process reads a new certificate and a new address."""
        return monotonic() - self._heard < self._settings.silence_limit_s

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set. Unfinished rounds are left as they are: the next process goes on from there."""
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
        failures, listed_once = 0, False
        while True:
            try:
                listed = await self._cluster.list(kind, namespace, labels)
                self._unlisted -= not listed_once
                listed_once = True
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
            except HistoryGoneError:
                log.info("watch of %s: its history is gone, listing again", kind.plural)
            except ClusterError as error:
                log.warning("watch of %s: %s", kind.plural, error.message)
            await asyncio.sleep(self._backoff(failures))
            failures += 1

    def _wake(self, kind: Kind, content: Json) -> None:
        """Ask for a round of the ArenaJob that this is, or that it belongs to; for a run of a schedule, of both."""
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
                self._retry(key, soon=isinstance(error, ConflictError))
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
        """Run one round for a job: observe, decide, act, write the status.

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
        except DeniedError as denied:
            await self._report_denial(observed, denied, now)
            raise
        wait = await self._write(key, observed, decision.status, now)
        requeue = [each for each in (decision.requeue_after_s, wait) if each is not None]
        if not observed.ended:
            requeue.append(self._settings.resync_s)
        if requeue:
            self._queue.add(key, max(min(requeue), self._settings.round_interval_s))

    async def _report_denial(self, observed: Observed, denied: DeniedError, now: datetime) -> None:
        """Write into the status, and once into an event, why the job makes no progress."""
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
        """Write an event. They are a courtesy: one that cannot be written holds nothing up."""
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
            message = f"{kind.name} {name} exists and belongs to somebody else, or is being deleted."
            raise DeniedError(message, reason=NAME_TAKEN)

    async def _copy(self, namespace: str, name: str, body: Json, observed: Observed) -> None:
        secret = await self._cluster.get(SECRET, namespace, name)
        if secret is None:
            raise DeniedError(f"Secret {namespace}/{name} does not exist.", reason=SECRET_MISSING)
        await self._create(SECRET, body | {"data": secret.get("data") or {}}, observed)

    async def _write(self, key: JobKey, observed: Observed, status: JobStatus | None, now: datetime) -> float | None:
        """Write the status; if only numbers changed since the last one, return the seconds until it may be written."""
        if status is None:
            return None
        since = (now - self._written.get(key, datetime.min.replace(tzinfo=UTC))).total_seconds()
        interval = self._settings.status_interval_s
        # below 0 the clock was set back
        if 0 <= since < interval and _without_numbers(observed.status) == _without_numbers(status):
            return interval - since
        await self._patch_status(observed, status)
        self._written[key] = now
        return None

    async def _patch_status(self, observed: Observed, status: JobStatus) -> None:
        content = status.model_dump(mode="json", by_alias=True)
        before = observed.status.result
        if before is not None and content["result"] is not None:  # a merge keeps the keys that it does not name
            content["result"]["summary"] = dict.fromkeys(before.summary) | content["result"]["summary"]
        change = {"metadata": {"resourceVersion": observed.resource_version}, "status": content}
        await self._cluster.patch(ARENA_JOB, observed.namespace, observed.name, change, status=True)

    def _backoff(self, failures: int) -> float:
        base_s = self._settings.backoff_s
        return compute_backoff(failures + 1, 1.0, base_s=base_s, cap_s=LONGEST_BACKOFF_S)


def _without_numbers(status: JobStatus) -> JobStatus:
    """Return the status without numbers and the messages that repeat them; the rest is written at once."""
    conditions = tuple(condition.model_copy(update={"message": ""}) for condition in status.conditions)
    return status.model_copy(update={"progress": None, "active_workers": None, "conditions": conditions})


PROBE_TIMEOUT_S: Final = 5.0


@asynccontextmanager
async def serve_probes(port: int, healthy: Callable[[], bool], ready: Callable[[], bool]) -> AsyncIterator[int]:
    """Answer `/healthz` and `/readyz` on this port of all addresses while inside; yield the port, which 0 leaves open.

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
            pass  # the kubelet asks again
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
