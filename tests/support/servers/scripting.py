"""What every scripted server has in common: it records, it counts what is in flight, and it misbehaves when told to.

Two servers stand on it: `tests.support.servers.loopback` (threads) and `tests.support.servers.scripted_agent`
(asyncio). Both ask for the fault of a request through `handling`, so a test scripts an outage of the agent, the judge,
the collector or a file server in the same words.
"""

from __future__ import annotations

import json
import math
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs

PATIENCE_SECONDS = 20.0
"""How long a test waits for a condition before it fails; only ever reached by a broken test."""


@dataclass(frozen=True)
class Request:
    """One HTTP request as it arrived. Header names are lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON; ValueError if it is none."""
        return json.loads(self.body)

    @property
    def arguments(self) -> dict[str, list[str]]:
        """The query string, decoded."""
        return parse_qs(self.query, keep_blank_values=True)


@dataclass(frozen=True)
class Fault:
    """How one request is to be treated: wait first, then answer with `status` (0: as usual) or drop the connection."""

    status: int = 0
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    drop: bool = False
    wait_seconds: float = 0.0


HANG = Fault(wait_seconds=math.inf)
AS_USUAL = Fault()


def failure(status: int, retry_after: float | str | None, body: str | None) -> Fault:
    """An HTTP error answer; without a body of its own it carries a JSON error object."""
    text = json.dumps({"error": {"message": f"scripted {status}", "code": status}}) if body is None else body
    headers = {"content-type": "text/plain" if body is not None else "application/json"}
    if retry_after is not None:
        headers["retry-after"] = str(retry_after)
    return Fault(status=status, body=text.encode(), headers=headers)


class ScriptedServer:
    """Base of a server under script. Faults apply to requests whose method is in `scripted_methods`, in this order:
    the queue of `..._next` calls, then `fail_rate`, then `hang` or `delay`."""

    scripted_methods: frozenset[str] = frozenset({"POST"})

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.in_flight = 0
        self.max_in_flight = 0
        self.closing = False
        self.defects: list[BaseException] = []
        """Errors of the part itself or of a test's callback; the first one is raised when the part is closed."""
        self._changed = threading.Condition()
        self._faults: deque[Fault] = deque()
        self._rate: Callable[[], Fault | None] = lambda: None
        self._always = AS_USUAL
        self._limit: int | None = None
        self._refusal = AS_USUAL
        self.served = 0
        """Requests being handled that were not refused."""
        self.refused = 0
        self.loads: list[int] = []
        """How many were in flight when each request came, itself included."""
        self._gate: Future[None] = Future()

    # What a test scripts

    def fail_next(
        self, n: int = 1, status: int = 503, retry_after: float | str | None = None, body: str | None = None
    ) -> None:
        """Answer the next `n` requests with this status; they are recorded but not processed."""
        self._queue(n, failure(status, retry_after, body))

    def statuses(self, *codes: int) -> None:
        """Answer the next requests with these statuses in turn; 200 stands for a normal answer."""
        for code in codes:
            self._queue(1, AS_USUAL if code == 200 else failure(code, None, None))

    def refuse_beyond(self, limit: int, retry_after: float | str | None = None) -> None:
        """From now on answer 429 to every request that comes while `limit` others are being handled."""
        self._limit = limit
        self._refusal = failure(429, retry_after, None)

    def fail_rate(
        self, probability: float, status: int = 429, seed: int = 7, retry_after: float | str | None = None
    ) -> None:
        """From now on fail this proportion of requests, chosen by a seeded generator in order of arrival."""
        draw = random.Random(seed)
        fault = failure(status, retry_after, None)
        self._rate = lambda: fault if draw.random() < probability else None

    def garbage_next(self, n: int = 1, body: str = "<html>not the answer you were looking for") -> None:
        """Answer the next `n` requests with 200 and this body, without processing them."""
        self._queue(n, Fault(status=200, body=body.encode(), headers={"content-type": "application/json"}))

    def drop_next(self, n: int = 1) -> None:
        """Process the next `n` requests, then close the connection without an answer: delivered but unanswered."""
        self._queue(n, Fault(drop=True))

    def hang_next(self, n: int = 1) -> None:
        """Accept the next `n` requests and go on with them only after `release` or when the part is closed."""
        self._close_gate()
        self._queue(n, HANG)

    def hang(self) -> None:
        """Accept every request from now on and answer none before `release`."""
        self._close_gate()
        self._always = HANG

    def delay(self, seconds: float) -> None:
        """Let every request wait this long before it is processed."""
        self._close_gate()
        self._always = Fault(wait_seconds=seconds)

    def release(self) -> None:
        """Undo `hang` and `delay` and let everything go that waits."""
        self._always = AS_USUAL
        if not self._gate.done():
            self._gate.set_result(None)

    # What a test waits for (from an async test: `await asyncio.to_thread(part.wait_in_flight, 4)`)

    def wait_for(self, condition: Callable[[], bool], timeout: float = PATIENCE_SECONDS) -> None:
        """Block until the condition holds; it is looked at whenever a request comes or goes."""
        with self._changed:
            if not self._changed.wait_for(condition, timeout):
                seen = f"{len(self.requests)} requests, {self.in_flight} in flight, at most {self.max_in_flight}"
                raise TimeoutError(f"{type(self).__name__}: the condition did not come true ({seen})")

    def wait_in_flight(self, n: int, timeout: float = PATIENCE_SECONDS) -> None:
        """Block until at least `n` requests are in flight."""
        self.wait_for(lambda: self.in_flight >= n, timeout)

    def wait_requests(self, n: int, timeout: float = PATIENCE_SECONDS) -> None:
        """Block until at least `n` requests have arrived."""
        self.wait_for(lambda: len(self.requests) >= n, timeout)

    # What the two kinds of server call

    @contextmanager
    def handling(self, request: Request) -> Iterator[Fault]:
        """Record the request, count it while it is handled, and say how to treat it."""
        scripted = request.method in self.scripted_methods
        with self._changed:
            self.requests.append(request)
            self.in_flight += scripted
            self.max_in_flight = max(self.max_in_flight, self.in_flight)
            self.loads += [self.in_flight] * scripted
            refuses = scripted and self._limit is not None and self.served >= self._limit
            self.served += scripted and not refuses
            self.refused += refuses
            fault = self._refusal if refuses else self._take() if scripted else AS_USUAL
            self._changed.notify_all()
        try:
            yield fault
        finally:
            with self._changed:
                self.in_flight -= scripted
                self.served -= scripted and not refuses
                self._changed.notify_all()

    def gate(self) -> Future[None]:
        """Resolved by `release`. Whoever waits for it with asyncio must shield it from cancellation."""
        return self._gate

    def notify(self) -> None:
        """Let `wait_for` look again, after something changed that is neither an arrival nor a departure."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Stop serving; everything that hangs is let go. May be called again."""
        if not self.closing:
            self.closing = True
            self.release()
            self.stop()

    def stop(self) -> None:
        """Free the sockets. Each kind of server has its own way."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
        if error is None and self.defects:
            raise self.defects[0]

    def _queue(self, n: int, fault: Fault) -> None:
        with self._changed:
            self._faults.extend([fault] * n)

    def _take(self) -> Fault:
        return self._faults.popleft() if self._faults else (self._rate() or self._always)

    def _close_gate(self) -> None:
        if self._gate.done() and not self.closing:
            self._gate = Future()
