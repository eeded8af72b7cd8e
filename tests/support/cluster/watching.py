"""The history of all changes, and the stream of events that a watch makes of it."""

from __future__ import annotations

import copy
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from tests.support.cluster.failures import expired
from tests.support.cluster.objects import Json, Key, Resource
from tests.support.cluster.selectors import Selector

INITIAL_END: Final = "k8s.io/initial-events-end"


class Change(NamedTuple):
    """One write: an object that came (`old` is None), changed, or went (`new` is None)."""

    version: int
    key: Key
    old: Json | None
    new: Json | None


class History:
    """The last `limit` changes. A watch from before them is told that its version is too old."""

    def __init__(self, limit: int) -> None:
        self._changes: deque[Change] = deque()
        self._limit = limit
        self._forgotten = 0

    def add(self, change: Change) -> None:
        self._changes.append(change)
        while len(self._changes) > self._limit:
            self._forgotten = self._changes.popleft().version

    def forget(self) -> None:
        """Drop everything, as a server does that was compacted or started anew."""
        if self._changes:
            self._forgotten = self._changes[-1].version
            self._changes.clear()

    def after(self, version: int) -> list[Change]:
        """Changes later than the version, in order; ApiError 410 if some of them are no longer known."""
        if version < self._forgotten:
            raise expired(version, self._forgotten)
        found = []
        for change in reversed(self._changes):
            if change.version <= version:
                break
            found.append(change)
        return found[::-1]


class Watched(Protocol):
    """What a watch needs of the store."""

    closing: bool

    def listed(self, resource: Resource, namespace: str, selector: Selector) -> tuple[list[Json], int]: ...
    def changes_after(self, version: int) -> list[Change]: ...
    def wait_after(self, version: int, seconds: float) -> int: ...
    def serves(self, resource: Resource) -> bool: ...


@dataclass(frozen=True)
class Watch:
    """What a client asked for. `since` None or 0 begins with all objects there are; `namespace` "" is all of them."""

    resource: Resource
    namespace: str
    selector: Selector
    since: int | None
    seconds: float
    bookmarks: bool = False
    initial_events: bool = False


def events(store: Watched, watch: Watch, bookmark_seconds: float, interrupted: Callable[[], bool]) -> Iterator[Json]:
    """Watch events, until the time is over, the store closes or the kind is no longer served.

    `interrupted` is looked at whenever something happens and before the wait; when it is true the stream ends.
    Raises ApiError 410 when the history is too short.
    """
    version = watch.since or 0
    end = time.monotonic() + watch.seconds
    if not watch.since or watch.initial_events:
        items, version = store.listed(watch.resource, watch.namespace, watch.selector)
        yield from (_event("ADDED", item) for item in items)
        if watch.initial_events:
            yield _bookmark(watch.resource, version, {INITIAL_END: "true"})
    while not store.closing and not interrupted() and store.serves(watch.resource):
        changes = store.changes_after(version)
        for change in changes:
            version = change.version
            if event := _seen(watch, change):
                yield event
        left = end - time.monotonic()
        if left <= 0:
            break
        reached = store.wait_after(version, min(left, bookmark_seconds)) if not changes else version
        if watch.bookmarks and not changes and reached == version and not store.closing:
            yield _bookmark(watch.resource, version, {})
    if watch.bookmarks and not store.closing and not interrupted():
        yield _bookmark(watch.resource, version, {})


def _seen(watch: Watch, change: Change) -> Json | None:
    """The change as this watch sees it: an object that enters or leaves the selection is added or deleted."""
    if change.key.resource != watch.resource.qualified:
        return None
    if watch.namespace and change.key.namespace != watch.namespace:
        return None
    was = change.old is not None and watch.selector(change.old)
    now = change.new is not None and watch.selector(change.new)
    if not was and not now:
        return None
    if now and change.new is not None:
        return _event("MODIFIED" if was else "ADDED", change.new)
    gone = copy.deepcopy(change.old or {})
    gone["metadata"]["resourceVersion"] = str(change.version)
    return _event("DELETED", gone)


def _event(kind: str, obj: Json) -> Json:
    return {"type": kind, "object": obj}


def _bookmark(resource: Resource, version: int, annotations: dict[str, str]) -> Json:
    metadata: Json = {"resourceVersion": str(version), "creationTimestamp": None}
    if annotations:
        metadata["annotations"] = annotations
    return _event("BOOKMARK", {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata})
