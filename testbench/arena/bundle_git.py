"""Which commit a checkout is at, read from git's files: git itself is not run, so no hook or setting of it is either.

For people: a bundle's revision is its content. Called by `testbench.arena.bundle`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_REFERENCE: Final = re.compile(r"refs/[A-Za-z0-9._/-]{1,200}")
_MAX_BYTES: Final = 4 * 1024 * 1024


def commit_of(folder: Path) -> str | None:
    """The commit that HEAD names; None where this is no checkout, or one whose git folder lies elsewhere."""
    git = folder / ".git"
    if git.is_symlink() or not git.is_dir():
        return None
    head = (_text(git / "HEAD") or "").strip()
    if not head.startswith("ref: "):
        return head if _COMMIT.fullmatch(head) else None
    reference = head.removeprefix("ref: ").strip()
    if not _REFERENCE.fullmatch(reference) or ".." in reference:
        return None
    loose = (_text(git / reference) or "").strip()
    return loose if _COMMIT.fullmatch(loose) else _packed(git, reference)


def _packed(git: Path, reference: str) -> str | None:
    for line in (_text(git / "packed-refs") or "").splitlines():
        commit, _, name = line.partition(" ")
        if name == reference and _COMMIT.fullmatch(commit):
            return commit
    return None


def _text(path: Path) -> str | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            return file.read(_MAX_BYTES).decode("ascii", "replace")
    except OSError:
        return None
