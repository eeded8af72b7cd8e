"""Which tool calls of an agent are the expected ones. Pure.

(expected calls, calls made, when two are the same) -> how many can be paired, in any order or in order
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from testbench.schema.models import ToolCall

SameCall: TypeAlias = Callable[[ToolCall, ToolCall], bool]
"""(expected, made) -> whether the call made is the expected one."""


def paired(expected: Sequence[ToolCall], made: Sequence[ToolCall], same: SameCall) -> dict[int, int]:
    """The largest pairing of expected calls with calls made, each used once: position expected -> position made.

    A call may fit several expectations, so a greedy choice could waste it; augmenting paths (Kuhn) find the maximum.
    """
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
    """How many expected calls were made in their order, others in between ignored: the longest common subsequence."""
    row = [0] * (len(made) + 1)
    for wanted in expected:
        above = 0
        for position, call in enumerate(made, start=1):
            here = row[position]
            row[position] = above + 1 if same(wanted, call) else max(here, row[position - 1])
            above = here
    return row[-1]
