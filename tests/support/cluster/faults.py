"""What a test makes the server do wrong: answers that fail or get lost, and watch streams that break."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal

Verb = Literal["*", "get", "list", "watch", "create", "update", "patch", "delete"]
Break = Literal["error", "truncated", "dropped", "ended"]
"""How a stream breaks: an ERROR event with a status, half a line of JSON and then the end, a connection that is cut,
or the plain end of the stream."""

_REASONS: Final = {
    400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "Conflict", 410: "Expired",
    429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable", 504: "Timeout",
}  # fmt: skip


@dataclass(frozen=True)
class RequestFault:
    """For the next `times` requests that match. `status` 0 carries the request out and then loses the answer."""

    times: int
    status: int
    verb: Verb
    resource: str

    def matches(self, verb: str, resource: str) -> bool:
        return self.verb in ("*", verb) and self.resource in ("*", resource)


@dataclass(frozen=True)
class WatchFault:
    """For the next `times` streams that match, open ones first."""

    times: int
    how: Break
    resource: str
    status: int


class Faults:
    """The faults still to come. Requests of the cluster's own parts (the kubelet) never get one."""

    def __init__(self) -> None:
        self.on_change: Callable[[], None] = lambda: None
        """Called when a stream is to break, so that the open ones look."""
        self._lock = threading.Lock()
        self._requests: list[RequestFault] = []
        self._watches: list[WatchFault] = []

    def fail(self, status: int, times: int = 1, verb: Verb = "*", resource: str = "*") -> None:
        """Answer with this HTTP status instead of doing anything. `resource` is a plural."""
        self._add(RequestFault(times, status, verb, resource))

    def lose_answers(self, times: int = 1, verb: Verb = "*", resource: str = "*") -> None:
        """Do what is asked and cut the connection before the answer."""
        self._add(RequestFault(times, 0, verb, resource))

    def break_watch(self, how: Break, resource: str = "*", times: int = 1, status: int = 500) -> None:
        """Break a stream that is open, else the next one that is opened; `status` is for an ERROR event."""
        with self._lock:
            self._watches.append(WatchFault(times, how, resource, status))
        self.on_change()

    @property
    def left(self) -> int:
        """How many faults have not come yet."""
        with self._lock:
            return sum(one.times for one in self._requests) + sum(one.times for one in self._watches)

    def for_request(self, verb: str, resource: str) -> RequestFault | None:
        with self._lock:
            for at, one in enumerate(self._requests):
                if one.matches(verb, resource):
                    self._requests[at : at + 1] = [replace(one, times=one.times - 1)] if one.times > 1 else []
                    return one
        return None

    def for_watch(self, resource: str) -> WatchFault | None:
        with self._lock:
            for at, one in enumerate(self._watches):
                if one.resource in ("*", resource):
                    self._watches[at : at + 1] = [replace(one, times=one.times - 1)] if one.times > 1 else []
                    return one
        return None

    def _add(self, fault: RequestFault) -> None:
        with self._lock:
            self._requests.append(fault)


def reason(status: int) -> str:
    """The reason that goes with an HTTP status."""
    return _REASONS.get(status, "InternalError")
