"""What a phase has finished so far, beside its output: after a kill the same command takes up from here.

Used by run and evaluate. One JSON line says which run it is, then one line follows for each finished scenario. Lines
are only ever appended, so whatever stops the process leaves whole lines and at most one torn at the end.

A run also notes its sessions, one for each process that worked on it: how long it has worked so far, and whom it asked.
The last note of a session counts.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from testbench.errors import StoreError
from testbench.net.clock import Clock
from testbench.schema.ids import ScenarioKey, key_of
from testbench.schema.models import ExecutedExperiment, ExecutedScenario

ScenarioT = TypeVar("ScenarioT", bound=ExecutedScenario)
OutputT = TypeVar("OutputT", bound=ExecutedExperiment)

JOURNAL_FORMAT: Final = 1
SESSION_PREFIX: Final = b'{"session":'
"""How the line of a session begins; that of a scenario begins otherwise."""
SYNC_INTERVAL_S: Final = 1.0
"""Seconds between flushes to the disk. The kernel has every line at once: only a crash of the machine can lose some."""

log = logging.getLogger(__name__)


class RunSession(BaseModel):
    """One process that worked on a run: from when on, for how many seconds, and who answered it."""

    model_config = ConfigDict(frozen=True)

    started_at: datetime
    seconds: float = Field(default=0.0, ge=0)
    agent_name: str | None = None
    agent_version: str | None = None
    protocol_version: str | None = None


class _SessionNote(BaseModel):
    session: RunSession


@dataclass(frozen=True)
class JournalContents(Generic[ScenarioT]):
    """The whole lines of a journal: scenarios by key, sessions in their order, and where the last line ends."""

    scenarios: Mapping[ScenarioKey, ScenarioT] = field(default_factory=dict)
    size: int = 0
    sessions: tuple[RunSession, ...] = ()


def journal_path(output: Path) -> Path:
    """Return the path of the journal of a phase's output."""
    return output.with_name(f"{output.name}.journal")


def read_journal(path: Path, identity: str, model: type[ScenarioT]) -> JournalContents[ScenarioT] | None:
    """Return what the journal of the run with this identity holds; None if there is no such journal.

    `model` is what a finished scenario is in this phase.

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
    scenarios: dict[ScenarioKey, ScenarioT] = {}
    sessions: dict[datetime, RunSession] = {}
    for number, line in enumerate(lines, start=2):
        try:
            if line.startswith(SESSION_PREFIX):
                session = _SessionNote.model_validate_json(line).session
                sessions[session.started_at] = session
            else:
                scenario = model.model_validate_json(line)
                scenarios[key_of(scenario)] = scenario
        except ValidationError:
            log.warning("%s: line %d cannot be read: its scenario is done again", path, number)
    return JournalContents(scenarios, size, tuple(sessions.values()))


def _is_header(line: bytes, identity: str) -> bool:
    try:
        header = json.loads(line)
    except ValueError:
        return False
    return isinstance(header, dict) and header.get("journal") == JOURNAL_FORMAT and header.get("identity") == identity


def read_output(path: Path, model: type[OutputT], is_own: Callable[[OutputT], bool]) -> OutputT | None:
    """Return the output that an earlier process of the same work has finished; None where there is no such file.

    `is_own` says whether a readable output is of this work.

    Raises:
        StoreError: it exists and cannot be read.
    """
    try:
        output = model.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}", hint="Check its permissions.") from error
    return output if is_own(output) else None


class Journal(Generic[ScenarioT]):
    """Appends finished scenarios; a context manager that closes the file and leaves it for the next run."""

    def __init__(self, path: Path, identity: str, found: JournalContents[ScenarioT] | None, clock: Clock) -> None:
        """Go on after what was `found`, or begin anew.

        Raises:
            StoreError: it cannot be written.
        """
        self._path = path
        self._clock = clock
        self._begun = self._synced = clock.monotonic()
        self._session: RunSession | None = None
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            self._end = found.size if found else 0
            os.ftruncate(self._file, self._end)
            os.lseek(self._file, self._end, os.SEEK_SET)
        except OSError as error:
            raise self._unwritable(error) from error
        if not self._end:
            self._write_line(json.dumps({"journal": JOURNAL_FORMAT, "identity": identity}))

    def begin(self, session: RunSession) -> None:
        """Note this process; from now on the journal also keeps how long it has worked.

        Raises:
            StoreError: it cannot be written.
        """
        self._session, self._begun = session, self._clock.monotonic()
        self._note()

    def append(self, scenario: ScenarioT) -> None:
        """Add a finished scenario.

        Raises:
            StoreError: it cannot be written; the lines before stay whole.
        """
        self._write_line(scenario.model_dump_json(exclude_none=True))
        now = self._clock.monotonic()
        if now - self._synced >= SYNC_INTERVAL_S:
            self._synced = now
            self._note()
            self._sync()

    def discard(self) -> None:
        """Remove the journal: the output holds it all, and what cannot be noted any more is no loss."""
        self._session = None
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Bring every line to the disk and leave the file for the next run.

        Raises:
            StoreError: the disk is full, or gone.
        """
        try:
            self._note()
            self._sync()
        finally:
            os.close(self._file)

    def _note(self) -> None:
        if self._session is not None:
            worked = self._clock.monotonic() - self._begun
            note = _SessionNote(session=self._session.model_copy(update={"seconds": worked}))
            self._write_line(note.model_dump_json(exclude_none=True))

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
