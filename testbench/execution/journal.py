"""What a run has finished so far, beside its output: after a kill the same command takes up from here.

Used by `testbench.execution.execution`. One JSON line says which run it is, then one line follows for each finished
scenario. Lines are only ever appended, so whatever stops the process leaves whole lines and at most one torn at the
end.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from pydantic import ValidationError

from testbench.errors import StoreError
from testbench.schema.clock import Clock
from testbench.schema.models import ExecutedScenario

FORMAT: Final = 1
SYNC_INTERVAL_S: Final = 1.0
"""Seconds between flushes to the disk. The kernel has every line at once: only a crash of the machine can lose some."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """The whole lines of a journal: scenarios by id, and where the last of them ends."""

    scenarios: Mapping[str, ExecutedScenario] = field(default_factory=dict)
    size: int = 0


def journal_path(output: Path) -> Path:
    return output.with_name(f"{output.name}.journal")


def read_journal(path: Path, identity: str) -> Found | None:
    """What the journal of the run with this identity holds; None if there is no such journal.

    Raises:
        StoreError: it exists and cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}", hint="Check permissions, or --fresh.") from error
    size = content.rfind(b"\n") + 1
    header, *lines = content[:size].splitlines() or [b""]
    if not _is_header(header, identity):
        return None
    scenarios: dict[str, ExecutedScenario] = {}
    for number, line in enumerate(lines, start=2):
        try:
            scenario = ExecutedScenario.model_validate_json(line)
        except ValidationError:
            log.warning("%s: line %d cannot be read: its scenario will be sent again", path, number)
        else:
            scenarios[scenario.id] = scenario
    return Found(scenarios, size)


def _is_header(line: bytes, identity: str) -> bool:
    try:
        header = json.loads(line)
    except ValueError:
        return False
    return isinstance(header, dict) and header.get("journal") == FORMAT and header.get("identity") == identity


class Journal:
    """Appends finished scenarios; a context manager that closes the file and leaves it for the next run."""

    def __init__(self, path: Path, identity: str, found: Found | None, clock: Clock) -> None:
        """Go on after what was `found`, or begin anew.

        Raises:
            StoreError: it cannot be written.
        """
        self._path = path
        self._clock = clock
        self._synced = clock.monotonic()
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            self._end = found.size if found else 0
            os.ftruncate(self._file, self._end)
            os.lseek(self._file, self._end, os.SEEK_SET)
        except OSError as error:
            raise self._unwritable(error) from error
        if not self._end:
            self._write_line(json.dumps({"journal": FORMAT, "identity": identity}))

    def append(self, scenario: ExecutedScenario) -> None:
        """Add a finished scenario.

        Raises:
            StoreError: it cannot be written; the lines before stay whole.
        """
        self._write_line(scenario.model_dump_json(exclude_none=True))
        now = self._clock.monotonic()
        if now - self._synced >= SYNC_INTERVAL_S:
            self._synced = now
            self._sync()

    def discard(self) -> None:
        """Remove the journal: the output holds it all."""
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._sync()
        finally:
            os.close(self._file)

    def _write_line(self, line: str) -> None:
        content = line.encode(errors="replace") + b"\n"
        try:
            written = 0
            while written < len(content):
                written += os.write(self._file, content[written:])
        except OSError as error:
            os.ftruncate(self._file, self._end)
            raise self._unwritable(error) from error
        self._end += len(content)

    def _sync(self) -> None:
        try:
            os.fsync(self._file)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> StoreError:
        return StoreError(
            f"{self._path}: cannot be written: {error.strerror or error}",
            hint="Check free space and permissions of the folder; the same command goes on from here.",
        )
