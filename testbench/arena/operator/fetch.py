"""Fetches a bundle's archive before a worker starts, as `python -m testbench.arena.operator.fetch`.

Runs in a pod as its init container. The archive is not unpacked: workers read the bundle from it. Only what has the
checksum is kept, so that all pods of a run have the same bundle or none. What it unpacks to has a limit of its own.

    fetch URL CHECKSUM FILE MESSAGE    MESSAGE: the file in which a pod says why it ended
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from testbench.arena.bundle.bundle import MAX_BYTES
from testbench.arena.manifest.job_status import MESSAGE_LENGTH
from testbench.defaults import FETCH_TIMEOUT_S
from testbench.errors import ExitCode, InputError, StoreError, TestbenchError
from testbench.safe_text import printable, redact_url

if TYPE_CHECKING:
    import httpx

SOURCE_INVALID: Final = "SourceInvalid"
"""The reason of a job whose bundle cannot be used."""


def fetch(url: str, checksum: str, path: Path) -> None:
    """Fetch `url` into `path`, which appears whole or not at all. `checksum` is `sha256:` and 64 hex digits, or these.

    Raises:
        InputError: the checksum is not one, or the archive has another one or is too large.
        StoreError: it cannot be fetched or written.
    """
    import httpx

    wanted = checksum.removeprefix("sha256:").lower()
    if len(wanted) != 64 or set(wanted) - set("0123456789abcdef"):
        raise InputError(
            f"checksum {printable(checksum, 100)!r} is not a SHA-256", hint="Write sha256: and 64 hex digits."
        )
    try:
        with httpx.stream("GET", url, timeout=FETCH_TIMEOUT_S, follow_redirects=True) as answer:
            if answer.status_code != 200:
                hint = "The ArenaSource's status.artifact.url has to answer with its archive."
                raise StoreError(f"{redact_url(url)}: HTTP {answer.status_code}", hint=hint)
            found = _write(answer, path, wanted)
    except httpx.HTTPError as error:
        raise StoreError(
            f"{redact_url(url)}: {type(error).__name__}", hint="Check that the pods may reach it."
        ) from error
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror}", hint="It needs a writable volume.") from error
    if found != wanted:
        hint = "The source has changed: its status has to name the archive that it delivers."
        raise InputError(f"{redact_url(url)}: its checksum is sha256:{found}, not sha256:{wanted}", hint=hint)


def _write(answer: httpx.Response, path: Path, wanted: str) -> str:
    """Return the SHA-256 of what arrived; the file is kept if it is the wanted one."""
    digest, size = hashlib.sha256(), 0
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with os.fdopen(descriptor, "wb") as file:
            for piece in answer.iter_bytes():
                size += len(piece)
                if size > MAX_BYTES:
                    raise InputError(
                        f"{redact_url(str(answer.url))}: too large", hint=f"At most {MAX_BYTES >> 20} MiB."
                    )
                digest.update(piece)
                file.write(piece)
        if digest.hexdigest() == wanted:
            Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return digest.hexdigest()


def main(arguments: list[str]) -> int:
    """Fetch as the arguments say; return the exit code."""
    url, checksum, path, message = arguments
    try:
        fetch(url, checksum, Path(path))
    except TestbenchError as error:
        print(f"error: {error.message}\nhint: {error.hint}", file=sys.stderr)
        refusal = {"reason": SOURCE_INVALID, "message": printable(error.message, MESSAGE_LENGTH)}
        Path(message).write_text(json.dumps(refusal) if isinstance(error, InputError) else "")
        return int(error.exit_code)
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
