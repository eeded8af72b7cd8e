"""Where the files of a run are kept: a folder (a PersistentVolumeClaim, or this machine) or a bucket that speaks S3.

I/O. Files are created once and never changed, so that a worker that runs twice can spoil nothing: the second of two
writers is told that the file is there. Called by the executors; `MemoryStore` is the fake.

    <prefix or subPath>/<namespace>/<job>/<run id>/plan.json
                                                   shards/<index>/part-<worker>-<number>.jsonl
                                                   shards/<index>/done.json
                                                   results.json results.csv junit.xml summary.json report.html
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from testbench import defaults
from testbench.arena.manifest.job import S3Output
from testbench.errors import InputError, StoreError
from testbench.net.object_store import Credentials, StoreSettings, open_bucket
from testbench.safe_text import redact_url

if TYPE_CHECKING:
    from obstore.store import S3Store

T = TypeVar("T")

HTTP_STATUS: Final = re.compile(r"status code: (\d{3})")
"""In what obstore says; the rest of it is long, and the store's own words."""


class ResultStore(Protocol):
    """Files by name. A name is a relative path with `/`, e.g. `shards/0/done.json`."""

    def create(self, name: str, content: bytes) -> bool:
        """Write a whole file, or nothing: False if there is one of this name already.

        Raises:
            StoreError: it was not written.
        """

    def read(self, name: str) -> bytes | None:
        """Return the whole file, or None if there is none.

        Raises:
            StoreError: it may be there and cannot be read.
        """

    def names(self, folder: str) -> tuple[str, ...]:
        """Return the names of all files at any depth below `folder`, sorted.

        Raises:
            StoreError: the store did not answer.
        """

    def url(self, name: str) -> str:
        """Return where a person finds the file or folder; carries no credentials."""


def make_run_id(started_at: datetime, uid: str) -> str:
    """Return the name of a run's folder: sorts by time, and differs for two jobs that start in the same second."""
    mark = hashlib.sha256(uid.encode()).hexdigest()[:8]
    return f"{started_at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{mark}"


def name_run_folder(namespace: str, job: str, run: str) -> str:
    """Return the folder of one run, below the output's own prefix."""
    return f"{namespace}/{job}/{run}"


def check_name(name: str) -> str:
    """Return the name, if it stays in its place.

    Raises:
        InputError: it is absolute, empty, or climbs.
    """
    parts = name.split("/")
    if not name or "\\" in name or not name.isprintable() or any(part in ("", ".", "..") for part in parts):
        raise InputError(f"{name!r} is not a name for a result", hint="Use a relative path without `..`.")
    return name


@dataclass(frozen=True)
class FolderStore:
    """A folder, shared or not; a file appears under its name only when it is whole."""

    root: Path

    def create(self, name: str, content: bytes) -> bool:
        path = self.root / check_name(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                Path(temporary).chmod(0o644)
                return _take_name(Path(temporary), path)
            finally:
                Path(temporary).unlink(missing_ok=True)
        except OSError as error:
            raise _make_folder_error(path, "written", error) from error

    def read(self, name: str) -> bytes | None:
        path = self.root / check_name(name)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _make_folder_error(path, "read", error) from error

    def names(self, folder: str) -> tuple[str, ...]:
        below = self.root / check_name(folder)
        found = (path for path in below.rglob("*") if path.is_file() and not path.name.endswith(".tmp"))
        try:
            return tuple(sorted(path.relative_to(self.root).as_posix() for path in found))
        except OSError as error:
            raise _make_folder_error(below, "listed", error) from error

    def url(self, name: str) -> str:
        return (self.root / name).absolute().as_uri()


def _take_name(temporary: Path, path: Path) -> bool:
    """Give a whole file its name, unless the name is taken. A hard link is the only rename that never replaces."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links: two writers at the same instant are not told apart there
        if path.exists():
            return False
        temporary.replace(path)
    return True


def _make_folder_error(path: Path, what: str, error: OSError) -> StoreError:
    return StoreError(
        f"{path}: cannot be {what}: {error.strerror or error}", hint="Check free space and permissions of the volume."
    )


@dataclass(frozen=True)
class BucketStore:
    """A bucket of a store that speaks S3; `prefix` ends with a slash or is empty."""

    bucket: str
    settings: StoreSettings
    prefix: str = ""
    timeout_seconds: float = defaults.FETCH_TIMEOUT_S
    _client: list[S3Store] = field(default_factory=list, repr=False, compare=False)

    def create(self, name: str, content: bytes) -> bool:
        from obstore.exceptions import AlreadyExistsError, NotSupportedError

        key = self.prefix + check_name(name)
        try:
            self._ask("written", name, lambda client: client.put(key, content, mode="create"))
        except AlreadyExistsError as error:
            if self.read(name) is None:  # AWS says 409 where two requests met, and may have kept neither
                raise self._failure("written", name, error) from error
            return False
        except (NotSupportedError, NotImplementedError):  # it cannot create only: the best is to look first
            if self.read(name) is not None:
                return False
            self._ask("written", name, lambda client: client.put(key, content))
        return True

    def read(self, name: str) -> bytes | None:
        key = self.prefix + check_name(name)

        def content(client: S3Store) -> bytes | None:
            try:
                return bytes(client.get(key).bytes())
            except FileNotFoundError:
                return None

        return self._ask("read", name, content)

    def names(self, folder: str) -> tuple[str, ...]:
        below = self.prefix + check_name(folder)

        def found(client: S3Store) -> list[str]:
            return [entry["path"] for batch in client.list(below) for entry in batch]

        return tuple(sorted(key.removeprefix(self.prefix) for key in self._ask("listed", folder, found)))

    def url(self, name: str) -> str:
        return f"s3://{self.bucket}/{self.prefix}{name}"

    def _ask(self, what: str, name: str, request: Callable[[S3Store], T]) -> T:
        """Return a reply of the store; what a writer can decide upon passes through.

        Raises:
            AlreadyExistsError, NotSupportedError, NotImplementedError: as obstore says, where something was written.
            StoreError: anything else, a bucket that does not exist included.
        """
        from obstore.exceptions import AlreadyExistsError, BaseError, NotSupportedError

        if not self._client:
            self._client.append(open_bucket(self.bucket, self.settings, self.timeout_seconds))
        try:
            return request(self._client[0])
        except (FileNotFoundError, BaseError, ValueError) as error:
            if what == "written" and isinstance(error, AlreadyExistsError | NotSupportedError):
                raise
            raise self._failure(what, name, error) from error

    def _failure(self, what: str, name: str, error: Exception) -> StoreError:
        at = redact_url(self.settings.endpoint) if self.settings.endpoint else f"AWS ({self.settings.region})"
        status = HTTP_STATUS.search(str(error))
        reason = f"HTTP {status[1]}" if status else type(error).__name__
        return StoreError(
            f"{self.url(name)} at {at}: cannot be {what}: {reason}",
            hint="Check bucket, region and endpoint, and the credentials that output.s3.secretRef names.",
        )


def open_bucket_store(
    output: S3Output, surrounding: StoreSettings, credentials: Credentials | None = None
) -> BucketStore:
    """Return the store of a manifest's output. What it leaves open comes from the surroundings of the process.

    `credentials` are those of `secretRef`; the surrounding ones are used only where the manifest names none, and never
    for an endpoint that the manifest names itself.
    """
    own = output.endpoint is not None and output.endpoint != surrounding.endpoint
    settings = StoreSettings(
        region=output.region or surrounding.region,
        endpoint=output.endpoint or surrounding.endpoint,
        credentials=credentials or (None if own else surrounding.credentials),
    )
    prefix = "/".join(part for part in output.prefix.split("/") if part)
    return BucketStore(output.bucket, settings, f"{check_name(prefix)}/" if prefix else "")


def open_folder_store(root: Path, sub_path: str = "") -> FolderStore:
    """Return the store in a mounted volume, or in a folder of this machine."""
    below = "/".join(part for part in sub_path.split("/") if part)
    return FolderStore(root / check_name(below) if below else root)


@dataclass(frozen=True)
class MemoryStore:
    """A store for tests; `fail` names files that cannot be written."""

    files: dict[str, bytes] = field(default_factory=dict)
    fail: set[str] = field(default_factory=set)

    def create(self, name: str, content: bytes) -> bool:
        if name in self.fail:
            raise StoreError(f"{name}: cannot be written", hint="It is one of the names that fail.")
        return self.files.setdefault(check_name(name), content) is content

    def read(self, name: str) -> bytes | None:
        return self.files.get(check_name(name))

    def names(self, folder: str) -> tuple[str, ...]:
        below = f"{check_name(folder)}/"
        return tuple(sorted(name for name in self.files if name.startswith(below)))

    def url(self, name: str) -> str:
        return f"memory:{name}"


def make_writer(store: ResultStore, folder: str) -> Callable[[str, bytes], object]:
    """Return how a reducer writes its files: those of a complete run are the same whoever writes them (`write_once`).

    Those of an incomplete one have a `folder`, where what an earlier reducer has written stays.
    """
    if folder:
        return lambda name, content: store.create(f"{folder}/{name}", content)
    return partial(write_once, store)


def write_once(store: ResultStore, name: str, content: bytes) -> None:
    """Create a file that nobody else may have created.

    Raises:
        StoreError: it is there with another content, or cannot be written.
    """
    if not store.create(name, content) and store.read(name) != content:
        raise StoreError(
            f"{store.url(name)}: is there already, with another content", hint="Each run needs a folder of its own."
        )
