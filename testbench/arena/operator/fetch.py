"""Fetches a bundle's archive before a worker starts, as `python -m testbench.arena.operator.fetch`.

Runs in a pod as its init container. The archive is not unpacked: whoever reads the bundle takes it as it is. Only what
has the checksum is kept, so that all pods of a run have the same bundle or none.

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

from testbench.errors import InputError, StoreError, TestbenchError
from testbench.safe_text import printable, shown_url

if TYPE_CHECKING:
    import httpx

TIMEOUT_S: Final = 60.0
MAX_BYTES: Final = 256 * 1024 * 1024
"""Of the archive; what it unpacks to has a limit of its own."""
SUFFIXES: Final = (".tar.gz", ".tgz", ".tar", ".zip")


def fetch(url: str, checksum: str, path: Path) -> None:
    """Fetch `url` into `path`, which appears whole or not at all. `checksum` is `sha256:` and 64 hex digits, or these.

    Raises:
        InputError: the checksum is none, or the archive has another one or is too large.
        StoreError: it cannot be fetched or written.
    """
    import httpx

    wanted = checksum.removeprefix("sha256:").lower()
    if len(wanted) != 64 or set(wanted) - set("0123456789abcdef"):
        raise InputError(
            f"checksum {printable(checksum, 100)!r} is no SHA-256", hint="Write sha256: and 64 hex digits."
        )
    try:
        with httpx.stream("GET", url, timeout=TIMEOUT_S, follow_redirects=True) as answer:
            if answer.status_code != 200:
                hint = "The ArenaSource's status.artifact.url has to answer with its archive."
                raise StoreError(f"{shown_url(url)}: HTTP {answer.status_code}", hint=hint)
            found = _write(answer, path, wanted)
    except httpx.HTTPError as error:
        raise StoreError(
            f"{shown_url(url)}: {type(error).__name__}", hint="Check that the pods may reach it."
        ) from error
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror}", hint="It needs a writable volume.") from error
    if found != wanted:
        hint = "The source has changed: its status has to name the archive that it delivers."
        raise InputError(f"{shown_url(url)}: its checksum is sha256:{found}, not sha256:{wanted}", hint=hint)


def _write(answer: httpx.Response, path: Path, wanted: str) -> str:
    """The checksum of what came; it is kept if that is the one that is wanted."""
    digest, size = hashlib.sha256(), 0
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with os.fdopen(descriptor, "wb") as file:
            for piece in answer.iter_bytes():
                size += len(piece)
                if size > MAX_BYTES:
                    raise InputError(f"{shown_url(str(answer.url))}: too large", hint=f"At most {MAX_BYTES >> 20} MiB.")
                digest.update(piece)
                file.write(piece)
        if digest.hexdigest() == wanted:
            Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return digest.hexdigest()


def main(arguments: list[str]) -> int:
    url, checksum, path, message = arguments
    try:
        fetch(url, checksum, Path(path))
    except TestbenchError as error:
        print(f"error: {error.message}\nhint: {error.hint}", file=sys.stderr)
        refusal = {"reason": "SourceInvalid", "message": printable(error.message, 1000)}
        Path(message).write_text(json.dumps(refusal) if isinstance(error, InputError) else "")
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
