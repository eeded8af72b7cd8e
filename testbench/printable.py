"""Untrusted text on a terminal or in a log line: control characters are shown, never obeyed."""

from __future__ import annotations

import unicodedata

_JOINERS = "\u200c\u200d"
"""Invisible, harmless, and part of Persian, Indic and emoji text."""


def printable(text: str, limit: int | None = None) -> str:
    """`text` on one line: white space folded, control and format characters escaped, cut to `limit` characters."""
    folded = " ".join(text.split())
    safe = folded if folded.isprintable() else "".join(map(_shown, folded))
    return safe if limit is None or len(safe) <= limit else safe[: max(0, limit - 1)] + "…"


def _shown(char: str) -> str:
    harmless = unicodedata.category(char)[0] != "C" or char in _JOINERS
    return char if harmless else char.encode("unicode_escape").decode("ascii")
