"""A user's regular expression on text that others wrote: it gets so much time and no more.

An expression such as `(a+)+b` can take years on an answer of forty letters, and an answer is not trusted. The package
`regex` understands all of `re`, stops when it is told to, and lets other threads go on; `re` does none of the latter.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

TIME_LIMIT_S: Final = 1.0
"""Seconds that all expressions of one evaluation may take together."""

_ends: ContextVar[float | None] = ContextVar("testbench_expressions_end", default=None)


class PatternError(ValueError):
    """The expression is none; the text says where."""


class PatternTimeoutError(Exception):
    """The expression did not come to an end in time: nothing is known of the text."""


@contextmanager
def limited_time() -> Iterator[None]:
    """Give all expressions inside the block so much time together, in this thread and those that get its context."""
    token = _ends.set(time.monotonic() + TIME_LIMIT_S)
    try:
        yield
    finally:
        _ends.reset(token)


def check_pattern(pattern: str) -> None:
    """See that an expression is one.

    Raises:
        PatternError: it is none.
    """
    _compiled(pattern, ignore_case=False)


def find(pattern: str, text: str, *, whole: bool = False, ignore_case: bool = False) -> str | None:
    """What matches first, or with `whole` the text if all of it matches; None where nothing does.

    Raises:
        PatternError: the expression is none.
        PatternTimeoutError: it took too long, or those before it did.
    """
    compiled = _compiled(pattern, ignore_case=ignore_case)
    look = compiled.fullmatch if whole else compiled.search
    ends = _ends.get()
    left = TIME_LIMIT_S if ends is None else ends - time.monotonic()
    try:
        if left <= 0:
            raise TimeoutError
        match = look(text, timeout=left, concurrent=True)
    except TimeoutError as error:
        message = f"the expression {pattern!r:.80} took more than {TIME_LIMIT_S:g} s on {len(text)} characters"
        raise PatternTimeoutError(message) from error
    return None if match is None else str(match.group())


def _compiled(pattern: str, *, ignore_case: bool) -> Any:
    import regex  # type: ignore[import-untyped]  # it brings no types

    try:
        return regex.compile(pattern, regex.IGNORECASE if ignore_case else 0)
    except (regex.error, RecursionError, OverflowError) as error:
        raise PatternError(f"no regular expression: {error}") from error
