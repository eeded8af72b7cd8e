"""Untrusted text on a page: characters that nobody can see, or that turn the text around, are named instead of obeyed.

Called by the templates; `assets/dom.js` does the same for what the browser draws. Escaping of markup is not done here:
that is Jinja's, or the text nodes', part.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

HIDDEN = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but tab and newline
    "\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"  # soft hyphen, zero width, direction
    "\u2028\u2029\ufeff\ufff9-\ufffb"  # line and paragraph separator, byte order mark, annotation
    "\ud800-\udfff\U000e0000-\U000e007f"  # halves of a broken character, invisible tags
    "]"
)


def segments(text: str) -> Iterator[tuple[bool, str]]:
    """`text` in pieces, each (is it the name of a hidden character?, what to show)."""
    end = 0
    text = text.replace("\r\n", "\n")
    for match in HIDDEN.finditer(text):
        if match.start() > end:
            yield False, text[end : match.start()]
        yield True, _name(match.group())
        end = match.end()
    if end < len(text):
        yield False, text[end:]


def plain(text: str) -> str:
    """`text` for a place that takes no elements: a title or an attribute."""
    return HIDDEN.sub(lambda match: f"[{_name(match.group())}]", text)


def _name(character: str) -> str:
    return f"U+{ord(character):04X}"
