"""What a pod of a cluster has to say and to wait for: its termination message, its exit code, the start of a load test.

    command -> word in the termination message, exit code 75 | 76 | 78 where Kubernetes has to tell ends apart

Called by the commands of `testbench arena` that pods call; on this machine they behave the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from testbench.arena.conclusion import NO_ITEMS, Conclusion, build_termination_message
from testbench.arena.manifest.job_status import MESSAGE_LENGTH
from testbench.errors import ExitCode, InputError, Interrupted, NothingToDo, StoreError, WorkError
from testbench.net.clock import Clock
from testbench.safe_text import printable

INVALID: Final = "InvalidConfiguration"
START_PATIENCE_S: Final = 1800.0
"""Seconds that a worker waits for the others."""
LOOK_S: Final = 0.25

Say = Callable[[Conclusion | Mapping[str, Any]], None]


@contextmanager
def report_to_cluster(file: Path | None) -> Iterator[Say]:
    """Yield what writes a message into `file`, where a refusal goes too; give errors the exit codes of a cluster.

    What may be different the next time, such as a store that is down, leaves no word: the pod is tried again.
    """

    def say(word: Conclusion | Mapping[str, Any]) -> None:
        if file is not None:
            _write(file, build_termination_message(word) if isinstance(word, Conclusion) else json.dumps(word))

    try:
        yield say
    except InputError as error:
        say(_make_refusal(INVALID, error.message))
        error.exit_code = ExitCode.CONFIGURATION
        raise
    except NothingToDo as error:
        say(_make_refusal(NO_ITEMS, error.message))
        raise
    except Interrupted as error:
        error.hint = "What was finished is kept; the same command goes on."
        if error.exit_code is ExitCode.TERMINATED:
            error.exit_code = ExitCode.STOPPED
        raise


async def wait_for_start(file: Path, clock: Clock) -> datetime:
    """Wait for the common start of a load test's workers, which the file holds as soon as all are there; return it.

    Raises:
        WorkError: it does not appear, cannot be read, or is over already (exit code 76).
    """
    waited = 0.0
    while (start := _read_start(file)) is None:
        if waited >= START_PATIENCE_S:
            raise _make_start_error("the other workers of the load test are not there")
        await clock.sleep(LOOK_S)
        waited += LOOK_S
    if start < clock.now():
        raise _make_start_error("the common start is over")
    return start


def _read_start(file: Path) -> datetime | None:
    """Return the moment that a file names, None where it is not there yet."""
    try:
        start = datetime.fromisoformat(json.loads(file.read_text())["t0"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _make_start_error(f"{file} names no start") from error
    if start.tzinfo is None:
        raise _make_start_error(f"{file} names no zone")
    return start


def _make_start_error(message: str) -> WorkError:
    error = WorkError(message, hint="All workers of a load test have to begin at the same time; run it again.")
    error.exit_code = ExitCode.NO_COMMON_START
    return error


def _make_refusal(reason: str, message: str) -> dict[str, str]:
    return {"reason": reason, "message": printable(message, MESSAGE_LENGTH)}


def _write(file: Path, text: str) -> None:
    """Kubernetes mounts this file, so that it cannot be replaced."""
    try:
        file.write_text(text)
    except OSError as error:
        raise StoreError(f"{file}: cannot be written: {error.strerror or error}", hint="Check the path.") from error
