"""One process for one output: a second one refuses to start instead of mixing its results with the first one's.

Used by run and evaluate. The lock belongs to the process and ends with it, however it ends.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbench.errors import InputError, StoreError
from testbench.safe_text import printable

log = logging.getLogger(__name__)


@contextmanager
def hold_lock(output: Path) -> Iterator[None]:
    """Hold the lock of an output file while the block lasts.

    Raises:
        InputError: it is a folder.
        StoreError: another process holds it, or the folder cannot be written.
    """
    if not output.name or output.is_dir():
        raise InputError(f"{output}: is a folder", hint="Give the path of a file as --output.")
    path = output.with_name(f".{output.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _acquire(path)
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written: {error.strerror or error}",
            hint="Check free space and permissions of the folder.",
        ) from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(path: Path) -> int:
    """Return a descriptor that holds the lock on the file that has this name now."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = printable(os.read(descriptor, 200).decode(errors="replace"))
            os.close(descriptor)
            raise StoreError(
                f"another run is writing {path.name.removeprefix('.').removesuffix('.lock')} ({holder or 'unknown'})",
                hint="Wait until it ends, or give another --output.",
            ) from None
        except OSError as error:  # a file system without locks
            log.warning("%s cannot be locked (%s): take care that only one run writes there", path, error.strerror)
        if _is_current(path, descriptor):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
            return descriptor
        os.close(descriptor)


def _is_current(path: Path, descriptor: int) -> bool:
    """Return whether the locked file still has its name: its last holder may have removed it in between."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
