"""The files of a shard: parts with results as they come, and at the end the marker that says that it is done.

    finished items -> lines -> part files, created once -> done.json with the checksum of each

A part is written as soon as there is something to write and the last one is `FLUSH_INTERVAL_S` old, so that a worker
that is killed loses what was in flight and the results of two seconds. Called by `evaluation`; `reducing` reads them.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final

from pydantic import ValidationError

from testbench.arena.plan.model import Plan, PlanModel
from testbench.arena.runs.context import (
    DONE_FILE,
    SHARDS,
    JobContext,
    RunFolder,
    name_done_marker,
    name_part,
    name_shard_folder,
)
from testbench.errors import StoreError
from testbench.net.clock import Clock
from testbench.schema.shards import Shard

FLUSH_INTERVAL_S: Final = 2.0


class DoneMarker(PlanModel):
    """A shard is complete: how many items it has, and the parts in which their results are."""

    index: int
    count: int
    plan_digest: str
    items: int
    parts: Mapping[str, str]
    """SHA-256 of each part by its name."""
    worker: str
    finished_at: datetime


class PartWriter:
    """Writes lines into parts that no other worker has; used by one worker, inside its event loop."""

    def __init__(self, store: RunFolder, index: int, worker: str, clock: Clock) -> None:
        self._store = store
        self._index = index
        self._worker = worker
        self._clock = clock
        self._lines: list[bytes] = []
        self._number = 0
        self._writing = threading.Lock()
        self._filled = asyncio.Event()

    def add(self, line: bytes) -> None:
        """Take a line; it is on its way to the store."""
        self._lines.append(line)
        self._filled.set()

    async def keep_writing(self) -> None:
        """Write what there is, again and again, until cancelled.

        Raises:
            StoreError: a part was not written.
        """
        while True:
            await self._filled.wait()
            self._filled.clear()
            await asyncio.to_thread(self.flush)
            await self._clock.sleep(FLUSH_INTERVAL_S)

    def flush(self) -> None:
        """Write all that was taken; afterwards it is in the store.

        Raises:
            StoreError: it was not written.
        """
        with self._writing:
            while self._lines:
                taken = len(self._lines)
                content = b"".join(self._lines[:taken])
                self._number += 1
                if self._store.create(name_part(self._index, self._worker, self._number), content):
                    del self._lines[:taken]


def read_parts(store: RunFolder, folder: str) -> Iterator[tuple[str, bytes]]:
    """Yield every part below a folder with its content, by name.

    Raises:
        StoreError: the store did not answer.
    """
    for name in list_parts(store, folder):
        content = store.read(name)
        if content is not None:
            yield name, content


def list_parts(store: RunFolder, folder: str) -> list[str]:
    """Return the names of the parts below a folder.

    Raises:
        StoreError: the store did not answer.
    """
    return [name for name in store.names(folder) if name.rpartition("/")[2].startswith("part-")]


def read_done_markers(store: RunFolder, plan: Plan) -> dict[str, DoneMarker]:
    """Return the markers of a run's shards that fit the plan, by the shard's folder.

    Raises:
        StoreError: the store did not answer.
    """
    found = {}
    for name in store.names(SHARDS):
        folder, _, file = name.rpartition("/")
        if (
            file == DONE_FILE
            and (marker := _read_marker(store, name)) is not None
            and marker.plan_digest == plan.digest
        ):
            found[folder] = marker
    return found


def read_counted_parts(store: RunFolder, markers: Mapping[str, DoneMarker]) -> Iterator[tuple[str, bytes]]:
    """Yield every part that counts: of a shard that is done those that its marker names, and no others.

    So a second worker of the same shard that ends after the first changes nothing, however late it writes.

    Raises:
        StoreError: the store did not answer.
    """
    for name in list_parts(store, SHARDS):
        marker = markers.get(name.rpartition("/")[0])
        if marker is None or name in marker.parts:
            content = store.read(name)
            if content is not None:
                yield name, content


def mark_done(context: JobContext, items: int) -> None:
    """Say that a shard is done. Of two workers that say so the first one stays.

    Raises:
        StoreError: it was not written; or the shard was done before, and what it consisted of is not there any more.
    """
    shard = context.shard
    checksums = {
        name: compute_checksum(content) for name, content in read_parts(context.store, name_shard_folder(shard.index))
    }
    marker = DoneMarker(
        index=shard.index,
        count=shard.count,
        plan_digest=context.plan.digest,
        items=items,
        parts=checksums,
        worker=context.worker,
        finished_at=context.clock.now(),
    )
    if context.store.create(name_done_marker(shard.index), marker.model_dump_json(indent=2).encode() + b"\n"):
        return
    if not is_done(context.store, context.plan, shard, checksums):
        name = context.store.url(name_done_marker(shard.index))
        hint = f"Begin another run; --retry-errors {context.run_id} keeps the results that can be read."
        raise StoreError(f"{name}: parts of this shard were changed or removed after it was done", hint=hint)


def is_done(store: RunFolder, plan: Plan, shard: Shard, checksums: Mapping[str, str] | None = None) -> bool:
    """Return whether a shard is done, and everything that it is made of is there unchanged.

    `checksums` are those of the parts that the caller has read anyway; without them they are read.

    Raises:
        StoreError: the store did not answer.
    """
    marker = _read_marker(store, name_done_marker(shard.index))
    if marker is None:
        return False
    known = checksums
    if known is None:
        known = {name: compute_checksum(part) for name, part in read_parts(store, name_shard_folder(shard.index))}
    same = (marker.index, marker.count, marker.plan_digest) == (shard.index, shard.count, plan.digest)
    return same and all(known.get(name) == digest for name, digest in marker.parts.items())


def _read_marker(store: RunFolder, name: str) -> DoneMarker | None:
    """Return a marker, None where there is none that can be read."""
    content = store.read(name)
    try:
        return None if content is None else DoneMarker.model_validate_json(content)
    except ValidationError:
        return None


def compute_checksum(content: bytes) -> str:
    """SHA-256 as hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()
