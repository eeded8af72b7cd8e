"""A bundle: the files of a source, all inside one folder or archive, read once and never executed; and their paths.

    folder | git checkout | mounted ConfigMap | .tar.gz | .zip -> Bundle(files, revision)

Called by `testbench arena` and by workers, which have to come to the same revision. The first module of the arena
that reads the disk: everything behind it works on the files that are here in memory. Whoever wrote a bundle is not
trusted, so nothing in it can name a place outside: links, `..`, absolute paths and devices are refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Final
from unicodedata import normalize

from testbench.errors import InputError
from testbench.safe_text import printable

MAX_FILES: Final = 10_000
MAX_FILE_BYTES: Final = 16 * 1024 * 1024
MAX_BYTES: Final = 256 * 1024 * 1024
MAX_DEPTH: Final = 32
ARENA_SUFFIXES: Final = (".arena.yaml", ".arena.yml")
"""How the name of an arena file ends."""


@dataclass(frozen=True)
class Bundle:
    """Files by their path in the bundle (`/` between folders), in the order of their paths.

    `revision` is made of paths and contents alone: the same on every machine, whatever the bundle came in.
    `commit` is what a git checkout calls itself; what is not committed changes the revision, and not the commit.
    """

    origin: str
    files: Mapping[str, bytes]
    revision: str
    commit: str | None = None


class BundleFiles:
    """Collects files one by one, and refuses what is too much or leads outside."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self._files: dict[str, bytes] = {}
        self._bytes = 0

    def room(self) -> int:
        """Return how many bytes the next file may have."""
        return min(MAX_FILE_BYTES, MAX_BYTES - self._bytes)

    def add(self, path: str, content: bytes) -> None:
        """Add a file. Hidden files and folders are not part of a bundle, and are left out.

        Raises:
            InputError: its path leads outside or is there twice, or the bundle becomes too large.
        """
        inside = check_path(path, self.origin)
        if is_hidden(inside):
            return
        if inside in self._files:
            raise build_refusal(self.origin, path, "is there twice", hint="One path can only be one file.")
        if len(content) > self.room() or len(self._files) >= MAX_FILES:
            raise build_size_error(self.origin, path)
        self._bytes += len(content)
        self._files[inside] = content

    def bundle(self, commit: str | None = None) -> Bundle:
        """Return the bundle of the files that were added.

        Raises:
            InputError: there is none.
        """
        if not self._files:
            raise InputError(f"{self.origin}: no file in this bundle", hint="Give a folder or archive with scenarios.")
        files = {path: self._files[path] for path in sorted(self._files)}
        return Bundle(self.origin, files, _compute_revision(files), commit)


def _compute_revision(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for path, content in files.items():
        digest.update(f"{hashlib.sha256(content).hexdigest()} {len(path.encode())} {path}\n".encode())
    return f"sha256:{digest.hexdigest()}"


# --- paths ----------------------------------------------------------------------------------------------------------


def check_path(path: str, origin: str) -> str:
    """Return a path inside the bundle as it is written there; letters with accents are one character (NFC).

    Raises:
        InputError: it is absolute, empty, goes up, or has a character that means something elsewhere.
    """
    path = normalize("NFC", path)
    parts = path.split("/")
    odd = "\\" in path or "\0" in path or ":" in parts[0] or not path.isprintable()
    if not path or odd or any(part in ("", ".", "..") for part in parts):
        raise build_refusal(
            origin, path, "is not a path inside the bundle", hint="Use plain names, and / between folders."
        )
    return path


def is_hidden(path: str) -> bool:
    """Return whether a file, or a folder that it is in, is hidden: `.git`, `.DS_Store` and the like."""
    return any(part.startswith(".") for part in path.split("/"))


def build_refusal(origin: str, path: str, why: str, *, hint: str) -> InputError:
    """Return the error of a member that a bundle cannot have."""
    return InputError(f"{origin}: {printable(path, 200)!r} {why}", hint=hint)


def build_size_error(origin: str, path: str) -> InputError:
    """Return the error of a bundle that exceeds a limit, at the member where it did."""
    limits = (
        f"{MAX_FILES} files, {MAX_FILE_BYTES >> 20} MiB each, {MAX_BYTES >> 20} MiB in all, {MAX_DEPTH} folders deep"
    )
    return InputError(f"{origin}: too large at {printable(path, 200)!r}", hint=f"A bundle has at most {limits}.")


def resolve_reference(base: str, reference: str, bundle: Bundle) -> str:
    """Return the path that a file's reference means, which is relative to the folder of the file that holds it.

    Raises:
        InputError: it leaves the bundle.
    """
    parts: list[str] = list(PurePosixPath(base).parent.parts)
    for part in reference.split("/"):
        if part == ".." and parts:
            parts.pop()
        elif part == ".." or reference.startswith("/"):
            hint = "Refer to files of the bundle, relative to the file that names them."
            raise build_refusal(bundle.origin, reference, "leaves the bundle", hint=hint)
        elif part not in ("", "."):
            parts.append(part)
    return check_path("/".join(parts), bundle.origin)


def join_names(paths: Iterable[str], limit: int = 10) -> str:
    """Return the first few paths for a message."""
    shown = [printable(path, 120) for path in paths]
    more = len(shown) - limit
    return ", ".join(shown[:limit]) + (f" and {more} more" if more > 0 else "")


# --- patterns -------------------------------------------------------------------------------------------------------


def matches(path: str, pattern: str) -> bool:
    """Return whether a job's pattern, as in `scenarios.include`, means a path of the bundle.

    `*` and `?` stay inside one folder, `**` is any number of folders. A pattern without `/` is for the file's own name,
    wherever it is: `*-slow.yaml` finds `scenarios/search-slow.yaml`.
    """
    pattern = normalize("NFC", pattern).removeprefix("./")
    if "/" not in pattern:
        return fnmatchcase(path.rpartition("/")[2], pattern)
    return matches_whole(path, pattern.strip("/"))


def matches_whole(path: str, pattern: str) -> bool:
    """Return whether a pattern of an arena file means the path from its first folder on, also without `/`."""
    return _match(path.split("/"), pattern.split("/"))


def _match(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    """Match by rows of a table and not by recursion: a pattern of many `**` must not take long."""
    reached = [True] + [False] * len(parts)
    for pattern in patterns:
        if pattern == "**":
            for position in range(len(parts)):
                reached[position + 1] = reached[position + 1] or reached[position]
        else:
            reached = [False] + [
                reached[position] and fnmatchcase(part, pattern) for position, part in enumerate(parts)
            ]
    return reached[-1]


def has_wildcard(pattern: str) -> bool:
    """Return whether the pattern can mean more than one path."""
    return any(character in pattern for character in "*?[")
