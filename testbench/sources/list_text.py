r"""Lists and objects that a table's cell holds as text: read as data, never evaluated.

Three ways of writing are in use, and one grammar covers them:

    JSON      ["a", "b"]            Python    ['a', "it's"]            numpy    ['a' 'b'
                                                                                'c']

    list   = "[" [ item { separator item } [","] ] "]"          separator = "," | white space
    object = "{" [ text ":" item { "," text ":" item } [","] ] "}"
    item   = text | number | word | list | object
    text   = '…' | "…"                                          with backslash escapes
    word   = true | false | null | True | False | None | nan | NaN

Two texts side by side are two items, as numpy means it, and not one, as Python would read it. Nesting ends at
`MAX_LIST_DEPTH`. A list that numpy shortened with `...` has lost items and is refused.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from testbench.sources.formats.dataset_format import CellError

MAX_LIST_DEPTH: Final = 32

_TEXT = re.compile(r"""'([^'\\]*(?:\\.[^'\\]*)*)'|"([^"\\]*(?:\\.[^"\\]*)*)\"""", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_WORD = re.compile(r"[A-Za-z]+")
_SPACE = re.compile(r"\s*")
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)

_WORDS = dict.fromkeys(("null", "None", "nan", "NaN"), None) | {
    "true": True,
    "True": True,
    "false": False,
    "False": False,
}
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\n": ""}
_MAX_INTEGER_DIGITS: Final = 300


def looks_like_list(text: str) -> bool:
    """Return whether whoever wrote `text` meant a list.

    Brackets around it, or a bracket and the first item's beginning.
    """
    text = text.strip()
    return text.startswith("[") and (text.endswith("]") or text[1:].lstrip()[:1] in ("'", '"', "{"))


def looks_like_object(text: str) -> bool:
    """Return whether whoever wrote `text` meant an object: braces around it."""
    text = text.strip()
    return text.startswith("{") and text.endswith("}")


def read_literal(text: str) -> Any:
    """Return the list or object that the whole of `text` is.

    Raises:
        CellError: it is none of this grammar.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = _TextCursor(text).read_whole()
    return value


class _TextCursor:
    """A place in a text, moved forward by what is read there."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def read_whole(self) -> Any:
        self.skip_space()
        value = self.read_item(0)
        self.skip_space()
        if self.at != len(self.text):
            raise self.fault("something follows the end of the list")
        return value

    def read_item(self, depth: int) -> Any:
        if depth > MAX_LIST_DEPTH:
            raise self.fault(f"lists are nested deeper than {MAX_LIST_DEPTH}")
        mark = self.peek()
        if mark == "[":
            return self.read_list(depth)
        if mark == "{":
            return self.read_object(depth)
        if mark in ("'", '"'):
            return self.read_quoted()
        if self.text.startswith("...", self.at):
            raise self.fault("the list was shortened with '...' when it was written")
        return self.read_number_or_word()

    def read_list(self, depth: int) -> list[Any]:
        items: list[Any] = []
        self.at += 1
        self.skip_space()
        while self.peek() != "]":
            items.append(self.read_item(depth + 1))
            before = self.at
            self.skip_space()
            if self.peek() == ",":
                self.at += 1
                self.skip_space()
            elif self.at == before and self.peek() != "]":
                raise self.fault("a comma or the end of the list is missing")
        self.at += 1
        return items

    def read_object(self, depth: int) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        self.at += 1
        self.skip_space()
        while self.peek() != "}":
            key = self.read_quoted()
            self.skip_space()
            if self.peek() != ":":
                raise self.fault("a colon is missing")
            self.at += 1
            self.skip_space()
            entries[key] = self.read_item(depth + 1)
            self.skip_space()
            if self.peek() == ",":
                self.at += 1
                self.skip_space()
            elif self.peek() != "}":
                raise self.fault("a comma or the end of the object is missing")
        self.at += 1
        return entries

    def read_quoted(self) -> str:
        found = _TEXT.match(self.text, self.at)
        if found is None:
            raise self.fault("a quoted text is missing or has no end")
        self.at = found.end()
        return _ESCAPE.sub(_unescape, found[1] if found[1] is not None else found[2])

    def read_number_or_word(self) -> Any:
        found = _NUMBER.match(self.text, self.at) or _WORD.match(self.text, self.at)
        if found is None:
            raise self.fault("an item is missing" if self.at < len(self.text) else "the end is missing")
        word = found[0]
        if word[0].isalpha() and word not in _WORDS:
            raise self.fault(f"{word!r} stands without quotes")
        self.at = found.end()
        return _WORDS[word] if word in _WORDS else _to_number(word)

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def skip_space(self) -> None:
        found = _SPACE.match(self.text, self.at)
        self.at = found.end() if found else self.at

    def fault(self, reason: str) -> CellError:
        return CellError(
            f"not a list that can be read: {reason} (character {self.at + 1})",
            hint='Write lists as JSON, e.g. ["first", "second"].',
        )


def _to_number(word: str) -> int | float:
    digits = word.lstrip("+-")
    return int(word) if digits.isdigit() and len(digits) <= _MAX_INTEGER_DIGITS else float(word)


def _unescape(found: re.Match[str]) -> str:
    escape = found[1]
    if len(escape) > 1:
        code = int(escape[1:], 16)
        return chr(code) if code <= 0x10FFFF else found[0]
    if escape in ("'", '"', "\\"):
        return escape
    return _ESCAPED.get(escape, found[0])
