"""The elements of a JSON array, one after another, without the array ever being in memory as a whole.

Only a window of the text is held: what is left of the last piece, and the next one. An element that is larger than the
window makes it grow to twice its size as often as needed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, TextIO

from testbench.errors import InputError

PIECE_CHARACTERS = 1 << 20

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")


def elements(text: TextIO, origin: str) -> Iterator[tuple[Any, int]]:
    """Every element of the array in `text`, with the line where it begins.

    Raises:
        InputError: no valid JSON, or not one array; with line and column.
    """
    window = _Window(text, origin)
    if window.mark() != "[":
        raise window.fault("no array")
    window.advance()
    if window.mark() == "]":
        window.advance()
    else:
        separator = ","
        while separator == ",":
            window.mark()
            line = window.line
            yield window.element(), line
            separator = window.mark()
            if separator not in (",", "]"):
                raise window.fault("a comma or the end of the array is missing")
            window.advance()
    if window.mark():
        raise window.fault("something follows the end of the array")


class _Window:
    def __init__(self, text: TextIO, origin: str) -> None:
        self._text = text
        self._origin = origin
        self._held = ""
        self._at = 0
        self.line = 1

    def mark(self) -> str:
        """The next character that is no white space, not yet passed; an empty text at the end."""
        while True:
            found = _SPACE.match(self._held, self._at)
            self._move_to(found.end() if found else self._at)
            if self._at < len(self._held) or not self._more():
                return self._held[self._at : self._at + 1]

    def advance(self) -> None:
        """Pass one character."""
        self._move_to(self._at + 1)

    def element(self) -> Any:
        """The value that begins here; it is passed."""
        while True:
            try:
                value, end = _DECODER.raw_decode(self._held, self._at)
            except json.JSONDecodeError as error:
                if not self._more():
                    raise self._syntax_fault(error) from error
            except RecursionError as error:
                raise self.fault("nested too deeply") from error
            except ValueError as error:
                raise self.fault(str(error)) from error
            else:
                self._move_to(end)
                return value

    def fault(self, reason: str) -> InputError:
        """An error at this place."""
        return InputError(
            f"{self._origin}: line {self.line}: no valid JSON: {reason}", hint="Check that the file is complete."
        )

    def _syntax_fault(self, error: json.JSONDecodeError) -> InputError:
        self._move_to(error.pos)
        return self.fault(error.msg)

    def _move_to(self, position: int) -> None:
        self.line += self._held.count("\n", self._at, position)
        self._at = position

    def _more(self) -> bool:
        rest = self._held[self._at :]
        try:
            piece = self._text.read(max(PIECE_CHARACTERS, len(rest)))
        except UnicodeDecodeError as error:
            raise InputError(
                f"{self._origin}: is no UTF-8 text after line {self.line}", hint="Save the file as UTF-8."
            ) from error
        self._held, self._at = rest + piece, 0
        return bool(piece)
