"""Patterns over the paths of a bundle, as a job's `scenarios.include` and an arena file use them.

`*` and `?` stay inside one folder, `**` is any number of folders. A job's pattern without `/` is for the file's own
name, wherever it is: `*-slow.yaml` finds `scenarios/search-slow.yaml`. Those of an arena file begin at its folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from unicodedata import normalize


def matches(path: str, pattern: str) -> bool:
    """Whether the pattern means the path, which is one of a bundle."""
    pattern = normalize("NFC", pattern).removeprefix("./")
    if "/" not in pattern:
        return fnmatchcase(path.rpartition("/")[2], pattern)
    return matches_whole(path, pattern.strip("/"))


def matches_whole(path: str, pattern: str) -> bool:
    """Whether the pattern means the path from its first folder on, without `/` too: a file of the uppermost folder."""
    return _match(path.split("/"), pattern.split("/"))


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
