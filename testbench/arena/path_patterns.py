"""Patterns over the paths of a bundle, as a job's `scenarios.include` and an arena file use them.

`*` and `?` stay inside one folder, `**` is any number of folders. A pattern without `/` is for the file's own name,
wherever it is: `*-slow.yaml` finds `scenarios/search-slow.yaml`.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase


def matches(path: str, pattern: str) -> bool:
    """Whether the pattern means the path."""
    pattern = pattern.removeprefix("./")
    if "/" not in pattern:
        return fnmatchcase(path.rpartition("/")[2], pattern)
    return _match(path.split("/"), pattern.strip("/").split("/"))


def _match(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    """By rows of a table and not by recursion: a pattern of many `**` must not take long."""
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
    """Whether it can mean more than one path."""
    return any(character in pattern for character in "*?[")
