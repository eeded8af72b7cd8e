"""Metrics over the tools that the agent called: the expected ones, no forbidden one, not too many.

expected calls, calls made -> pairs of the same call, each call in one pair at most -> score, reason
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Final, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from testbench.metrics.builtin.json_answers import key_of, same
from testbench.metrics.computed import ComputedMetric, pass_or_fail
from testbench.metrics.effort import PAIRWISE_BOUND, SUBSEQUENCE_BOUND, check_product, find
from testbench.metrics.protocol import MetricResult, Sample, SampleField
from testbench.schema.models import ToolCall

ArgumentMatch = Literal["exact", "casefold", "regex", "any"]
CALLS_SHOWN: Final = 5
"""Calls that a reason names."""
SameCall: TypeAlias = Callable[[ToolCall, ToolCall], bool]
"""(expected, made) -> whether the call made is the expected one."""


class ToolCalls(ComputedMetric):
    """The agent called the expected tools with the expected arguments."""

    metric_name: ClassVar[str] = "tool_calls"
    fields: ClassVar[tuple[SampleField, ...]] = ("turns", "reference_tool_calls")

    mode: Literal["f1", "exact", "in_order", "any_order", "subset"] = Field(
        default="f1",
        description="f1: of precision and recall, each call counted once; exact: the same calls in the same order; "
        "in_order, any_order: part of the expected calls that were made, others allowed; "
        "subset: part of the calls made that were expected, none is fine.",
    )
    arguments: Literal["exact", "subset", "ignore"] = Field(
        default="exact", description="subset: arguments beyond the expected ones are allowed."
    )
    matchers: dict[str, ArgumentMatch] = Field(
        default={}, description="How single arguments compare, by name; regex: the expected value is an expression."
    )
    tolerance: float = Field(default=0.0, ge=0, allow_inf_nan=False, description="Allowed difference of numbers.")

    def score(self, sample: Sample) -> MetricResult:
        expected, made = list(sample.reference.tool_calls or ()), _calls_made(sample)
        if not expected and not made:
            return MetricResult(score=1.0, reason="no tool call expected, none made")
        pairs = self._pair(expected, made)
        match self.mode:
            case "f1":
                score, how = _score_f1(len(pairs), len(expected), len(made))
            case "any_order":
                score, how = _score_part(len(pairs), len(expected), "expected calls made")
            case "subset":
                score, how = _score_part(len(pairs), len(made), "calls made were expected", nothing=1.0)
            case "in_order":
                score, how = _score_part(self._in_order(expected, made), len(expected), "expected calls made in order")
            case "exact":
                alike = len(expected) == len(made) and all(map(self._same, expected, made))
                score, how = float(alike), "the same calls in the same order" if alike else "not the same calls"
        used = set(pairs.values())
        missing = [call for position, call in enumerate(expected) if position not in pairs]
        extra = [call for position, call in enumerate(made) if position not in used]
        reason = "; ".join(
            [f"{self.mode}: {how}", *_list_calls("missing", missing), *_list_calls("not expected", extra)]
        )
        details = {"expected": len(expected), "made": len(made), "matched": len(pairs)}
        return MetricResult(score=score, reason=reason, details=details)

    def _pair(self, expected: Sequence[ToolCall], made: Sequence[ToolCall]) -> dict[int, int]:
        if self._have_keys():
            return _pair_keys([*map(self._key, expected)], [*map(self._key, made)])
        return _pair_calls(expected, made, self._same)

    def _in_order(self, expected: Sequence[ToolCall], made: Sequence[ToolCall]) -> int:
        if self._have_keys():
            return _count_keys_in_order([*map(self._key, expected)], [*map(self._key, made)])
        return _count_in_order(expected, made, self._same)

    def _have_keys(self) -> bool:
        """Return whether two calls are the same just when they have the same key."""
        return self.arguments == "ignore" or (self.arguments == "exact" and not self.matchers and not self.tolerance)

    def _key(self, call: ToolCall) -> str:
        return key_of([call.name, {} if self.arguments == "ignore" else call.args])

    def _same(self, expected: ToolCall, made: ToolCall) -> bool:
        if expected.name != made.name:
            return False
        if self.arguments == "ignore":
            return True
        names = expected.args.keys() if self.arguments == "subset" else expected.args.keys() | made.args.keys()
        return all(self._same_argument(name, expected, made) for name in names)

    def _same_argument(self, name: str, expected: ToolCall, made: ToolCall) -> bool:
        how = self.matchers.get(name, "exact")
        if how == "any":
            return True
        if name not in expected.args or name not in made.args:
            return False
        wanted, found = expected.args[name], made.args[name]
        if how == "casefold" and isinstance(wanted, str) and isinstance(found, str):
            return wanted.casefold() == found.casefold()
        if how == "regex":
            return find(str(wanted), str(found), whole=True) is not None
        return same(wanted, found, tolerance=self.tolerance)


class ForbiddenTools(ComputedMetric):
    """The agent called no forbidden tool."""

    metric_name: ClassVar[str] = "forbidden_tools"
    fields: ClassVar[tuple[SampleField, ...]] = ("turns",)

    tools: list[str] = Field(default=[], description="Names, or patterns such as `delete_*`, that are forbidden.")
    allowed: list[str] | None = Field(default=None, description="Names or patterns; every other tool is forbidden.")

    @model_validator(mode="after")
    def _something_is_forbidden(self) -> Self:
        if not self.tools and self.allowed is None:
            raise ValueError("give tools, allowed or both")
        return self

    def score(self, sample: Sample) -> MetricResult:
        made = _calls_made(sample)
        forbidden = Counter(call.name for call in made if self._forbids(call.name))
        if not forbidden:
            return pass_or_fail(True, f"{len(made)} calls, none of a forbidden tool")
        named = ", ".join(f"{name} ({times} times)" for name, times in forbidden.items())
        return pass_or_fail(False, f"called {named}", forbidden=dict(forbidden))

    def _forbids(self, name: str) -> bool:
        return _matches_any(name, self.tools) or (self.allowed is not None and not _matches_any(name, self.allowed))


class MaxToolCalls(ComputedMetric):
    """The agent called tools at most so many times."""

    metric_name: ClassVar[str] = "max_tool_calls"
    fields: ClassVar[tuple[SampleField, ...]] = ("turns",)

    limit: int = Field(ge=0, description="Calls that are allowed.")
    tool: str | None = Field(default=None, description="Count only this tool; a name or a pattern.")

    def score(self, sample: Sample) -> MetricResult:
        made = [call for call in _calls_made(sample) if self.tool is None or fnmatchcase(call.name, self.tool)]
        what = "tool calls" if self.tool is None else f"calls of {self.tool}"
        return pass_or_fail(len(made) <= self.limit, f"{len(made)} {what}, {self.limit} allowed", made=len(made))


def _calls_made(sample: Sample) -> list[ToolCall]:
    """Return every tool call of the sample's turns, in order."""
    return [call for turn in sample.turns if turn.type == "agent" for call in turn.tool_calls or ()]


def _pair_keys(expected: Sequence[str], made: Sequence[str]) -> dict[int, int]:
    """Return the largest pairing of equal keys, each used once: position expected -> position made."""
    free: defaultdict[str, deque[int]] = defaultdict(deque)
    for position, key in enumerate(made):
        free[key].append(position)
    return {wanted: free[key].popleft() for wanted, key in enumerate(expected) if free.get(key)}


def _count_keys_in_order(expected: Sequence[str], made: Sequence[str]) -> int:
    """Return how many expected keys come in their order, others in between ignored.

    Raises:
        TooMuchEffortError: there are too many.
    """
    from rapidfuzz.distance import LCSseq

    check_product(len(expected), len(made), SUBSEQUENCE_BOUND, "tool calls")
    return LCSseq.similarity(expected, made)


def _pair_calls(expected: Sequence[ToolCall], made: Sequence[ToolCall], same: SameCall) -> dict[int, int]:
    """Return the largest pairing of expected calls with calls made, each used once (position expected -> made).

    A call may fit several expectations, so a greedy choice could waste it; augmenting paths (Kuhn) find the maximum.

    Raises:
        TooMuchEffortError: there are too many.
    """
    check_product(len(expected), len(made), PAIRWISE_BOUND, "tool calls")
    fitting = [[position for position, call in enumerate(made) if same(wanted, call)] for wanted in expected]
    taken_by: dict[int, int] = {}
    for wanted in range(len(expected)):
        _place_call(wanted, fitting, taken_by, set())
    return {wanted: position for position, wanted in taken_by.items()}


def _place_call(wanted: int, fitting: Sequence[Sequence[int]], taken_by: dict[int, int], tried: set[int]) -> bool:
    for position in fitting[wanted]:
        if position in tried:
            continue
        tried.add(position)
        if position not in taken_by or _place_call(taken_by[position], fitting, taken_by, tried):
            taken_by[position] = wanted
            return True
    return False


def _count_in_order(expected: Sequence[ToolCall], made: Sequence[ToolCall], same: SameCall) -> int:
    """Return how many expected calls were made in their order: the longest common subsequence.

    Raises:
        TooMuchEffortError: there are too many.
    """
    check_product(len(expected), len(made), PAIRWISE_BOUND, "tool calls")
    row = [0] * (len(made) + 1)
    for wanted in expected:
        above = 0
        for position, call in enumerate(made, start=1):
            here = row[position]
            row[position] = above + 1 if same(wanted, call) else max(here, row[position - 1])
            above = here
    return row[-1]


def _score_f1(matched: int, expected: int, made: int) -> tuple[float, str]:
    precision = f"precision {matched}/{made}" if made else "precision 0 (no call made)"
    recall = f"recall {matched}/{expected}" if expected else "recall 0 (no call expected)"
    return 2 * matched / (expected + made), f"{precision}, {recall}, F1 = 2*{matched}/({expected}+{made})"


def _score_part(matched: int, of: int, what: str, nothing: float = 0.0) -> tuple[float, str]:
    return (matched / of if of else nothing), f"{matched} of {of} {what}"


def _list_calls(word: str, calls: Sequence[ToolCall]) -> list[str]:
    if not calls:
        return []
    more = len(calls) - CALLS_SHOWN
    shown = ", ".join(f"{call.name}({_arguments(call.args)})" for call in calls[:CALLS_SHOWN])
    return [f"{word}: {shown}" + (f" and {more} more" if more > 0 else "")]


def _arguments(arguments: dict[str, Any]) -> str:
    text = json.dumps(arguments, ensure_ascii=False, sort_keys=True, default=str)
    return text if len(text) <= 100 else text[:99] + "…"


def _matches_any(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
