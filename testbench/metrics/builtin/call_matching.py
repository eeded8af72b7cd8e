"""Which tool calls of an agent are the expected ones. Pure.

(expected calls, calls made, when two are the same) -> how many can be paired, in any order or in order

Where being the same is having the same key, thousands of calls are told apart at once. Otherwise each expected call is
compared with each call made, and how many these may be is bounded.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import TypeAlias

from testbench.metrics.effort import CALLS, TOKENS, check_product
from testbench.schema.models import ToolCall

SameCall: TypeAlias = Callable[[ToolCall, ToolCall], bool]
"""(expected, made) -> whether the call made is the expected one."""


def paired_by_key(expected: Sequence[str], made: Sequence[str]) -> dict[int, int]:
    """The largest pairing of equal keys, each used once: position expected -> position made."""
    free: defaultdict[str, deque[int]] = defaultdict(deque)
    for position, key in enumerate(made):
        free[key].append(position)
    return {wanted: free[key].popleft() for wanted, key in enumerate(expected) if free.get(key)}


def in_order_by_key(expected: Sequence[str], made: Sequence[str]) -> int:
    """How many expected keys come in their order, others in between ignored.

    Raises:
        TooLongError: there are too many.
    """
    from rapidfuzz.distance import LCSseq

    check_product(len(expected), len(made), TOKENS, "tool calls")
    return LCSseq.similarity(expected, made)


def paired(expected: Sequence[ToolCall], made: Sequence[ToolCall], same: SameCall) -> dict[int, int]:
    """The largest pairing of expected calls with calls made, each used once: position expected -> position made.

    A call may fit several expectations, so a greedy choice could waste it; augmenting paths (Kuhn) find the maximum.

    Raises:
        TooLongError: there are too many.
    """
    check_product(len(expected), len(made), CALLS, "tool calls")
    fitting = [[position for position, call in enumerate(made) if same(wanted, call)] for wanted in expected]
    taken_by: dict[int, int] = {}
    for wanted in range(len(expected)):
        _place(wanted, fitting, taken_by, set())
    return {wanted: position for position, wanted in taken_by.items()}


def _place(wanted: int, fitting: Sequence[Sequence[int]], taken_by: dict[int, int], tried: set[int]) -> bool:
    for position in fitting[wanted]:
        if position in tried:
            continue
        tried.add(position)
        if position not in taken_by or _place(taken_by[position], fitting, taken_by, tried):
            taken_by[position] = wanted
            return True
    return False


def in_order(expected: Sequence[ToolCall], made: Sequence[ToolCall], same: SameCall) -> int:
    """How many expected calls were made in their order, others in between ignored: the longest common subsequence.

    Raises:
        TooLongError: there are too many.
    """
    check_product(len(expected), len(made), CALLS, "tool calls")
    row = [0] * (len(made) + 1)
    for wanted in expected:
        above = 0
        for position, call in enumerate(made, start=1):
            here = row[position]
            row[position] = above + 1 if same(wanted, call) else max(here, row[position - 1])
            above = here
    return row[-1]
