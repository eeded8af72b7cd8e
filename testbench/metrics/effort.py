"""How much work the comparison of texts that others wrote may make: their size, and the time of regular expressions.

An answer is not trusted: two long texts can keep a comparison busy for hours, and an expression such as `(a+)+b` can
take years on forty letters. The package `regex` understands all of `re`, stops when it is told to, and lets other
threads go on; `re` does none of the latter. Used by the metrics that compute (builtin, RAGAS's, DeepEval's).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

EDIT_DISTANCE_BOUND: Final = 1e9
"""Product of two lengths for edit distances: 30,000 characters each, a tenth of a second (RapidFuzz 3.14)."""
SUBSEQUENCE_BOUND: Final = 4e9
"""The same for the longest common subsequence of two lists of tokens (RapidFuzz)."""
PAIRWISE_BOUND: Final = 1e5
"""Product of the numbers of two lists of tool calls, where each is compared with each in Python: a second."""
LINEAR_BOUND: Final = 1e12
"""Product of two lengths for what grows with their sum: a million characters each, some seconds."""
REGEX_TIME_LIMIT_S: Final = 1.0
"""Seconds that all regular expressions of one evaluation may take together."""


class TooMuchEffortError(Exception):
    """The texts are too long to be compared in reasonable time: nothing is known of them."""


class RegexError(ValueError):
    """The text is not a regular expression; says where it goes wrong."""


class RegexTimeoutError(Exception):
    """The expression did not come to an end in time: nothing is known of the text."""


def check_product(left: int, right: int, bound: float, unit: str = "characters") -> None:
    """Check that two lengths can be compared.

    Raises:
        TooMuchEffortError: their product is above `bound`.
    """
    if left * right > bound:
        message = f"{left:,} and {right:,} {unit} are too many to be compared; see docs/metrics.md"
        raise TooMuchEffortError(message)


_regex_deadline: ContextVar[float | None] = ContextVar("testbench_regex_deadline", default=None)


@contextmanager
def limit_regex_time() -> Iterator[None]:
    """Let all expressions inside the block share one time limit, in this thread and those that get its context."""
    token = _regex_deadline.set(time.monotonic() + REGEX_TIME_LIMIT_S)
    try:
        yield
    finally:
        _regex_deadline.reset(token)


def check_regex(pattern: str) -> None:
    """Check that a text is a regular expression.

    Raises:
        RegexError: it is not.
    """
    _compile(pattern, ignore_case=False)


def find(pattern: str, text: str, *, whole: bool = False, ignore_case: bool = False) -> str | None:
    """Return the first match, or with `whole` the text if all of it matches; None where nothing does.

    Raises:
        RegexError: the pattern is not a regular expression.
        RegexTimeoutError: it took too long, or those before it did.
    """
    compiled = _compile(pattern, ignore_case=ignore_case)
    match_with = compiled.fullmatch if whole else compiled.search
    deadline = _regex_deadline.get()
    left = REGEX_TIME_LIMIT_S if deadline is None else deadline - time.monotonic()
    try:
        if left <= 0:
            raise TimeoutError
        match = match_with(text, timeout=left, concurrent=True)
    except TimeoutError as error:
        message = f"the expression {pattern!r:.80} took more than {REGEX_TIME_LIMIT_S:g} s on {len(text)} characters"
        raise RegexTimeoutError(message) from error
    return None if match is None else str(match.group())


def _compile(pattern: str, *, ignore_case: bool) -> Any:
    import regex  # type: ignore[import-untyped]  # it brings no types

    try:
        return regex.compile(pattern, regex.IGNORECASE if ignore_case else 0)
    except (regex.error, RecursionError, OverflowError) as error:
        raise RegexError(f"not a regular expression: {error}") from error
