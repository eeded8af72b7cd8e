"""Tool-call metrics: the numbers of every mode, the reasons they can be computed from again, and the laws they obey."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbench.errors import InputError
from testbench.metrics.builtin.adapter import BuiltinAdapter
from testbench.metrics.effort import TooMuchEffortError
from testbench.metrics.protocol import MetricResult
from testbench.schema.models import Reference, ToolCall
from tests.support.metric_samples import calls, sample

PARIS = ("get_weather", {"city": "Paris"})
ROME = ("get_weather", {"city": "Rome"})
TIME = ("get_time", {"city": "Paris"})


async def judged(expected: tuple[ToolCall, ...], made: tuple[ToolCall, ...], **parameters: Any) -> MetricResult:
    call = BuiltinAdapter().create("tool_calls", parameters, None)
    return await call(sample(made=made, reference=Reference(tool_calls=expected)))


CASES = [
    # expected, made, then f1, exact, in_order, any_order, subset
    ((PARIS,), (PARIS,), 1, 1, 1, 1, 1),
    ((PARIS, TIME), (TIME, PARIS), 1, 0, 1 / 2, 1, 1),
    ((PARIS,), (PARIS, TIME), 2 / 3, 0, 1, 1, 1 / 2),
    ((PARIS,), (PARIS, PARIS), 2 / 3, 0, 1, 1, 1 / 2),
    ((PARIS, TIME), (PARIS,), 2 / 3, 0, 1 / 2, 1 / 2, 1),
    ((PARIS, TIME), (PARIS, ROME, TIME), 4 / 5, 0, 1, 1, 2 / 3),
    ((PARIS,), (ROME,), 0, 0, 0, 0, 0),
    ((PARIS,), (), 0, 0, 0, 0, 1),
    ((), (PARIS,), 0, 0, 0, 0, 0),
    ((), (), 1, 1, 1, 1, 1),
]


@pytest.mark.parametrize(("expected", "made", "f1", "exact", "in_order", "any_order", "subset"), CASES)
async def test_every_mode(
    expected: Any, made: Any, f1: float, exact: float, in_order: float, any_order: float, subset: float
) -> None:
    for mode, score in {
        "f1": f1,
        "exact": exact,
        "in_order": in_order,
        "any_order": any_order,
        "subset": subset,
    }.items():
        result = await judged(calls(*expected), calls(*made), mode=mode)
        assert result.score == pytest.approx(score), mode


async def test_the_reason_lets_the_score_be_computed_again() -> None:
    result = await judged(calls(PARIS, TIME), calls(PARIS, ROME))
    assert result.reason == (
        'f1: precision 1/2, recall 1/2, F1 = 2*1/(2+2); missing: get_time({"city": "Paris"}); '
        'not expected: get_weather({"city": "Rome"})'
    )
    assert result.details == {"expected": 2, "made": 2, "matched": 1}


@pytest.mark.parametrize(
    ("expected", "made", "parameters", "score"),
    [
        ({"n": 1}, {"n": 1.0}, {}, 1.0),
        ({"n": 1}, {"n": "1"}, {}, 0.0),
        ({"n": 1}, {"n": True}, {}, 0.0),
        ({"n": 1.0}, {"n": 1.05}, {"tolerance": 0.1}, 1.0),
        ({"a": [1, {"b": None}]}, {"a": [1, {"b": None}]}, {}, 1.0),
        ({"a": 1}, {"a": 1, "b": 2}, {}, 0.0),
        ({"a": 1}, {"a": 1, "b": 2}, {"arguments": "subset"}, 1.0),
        ({"a": 1}, {"b": 2}, {"arguments": "ignore"}, 1.0),
        ({"a": "Paris"}, {"a": "PARIS"}, {"matchers": {"a": "casefold"}}, 1.0),
        ({"a": "Par.*"}, {"a": "Paris"}, {"matchers": {"a": "regex"}}, 1.0),
        ({"a": "Par"}, {"a": "Paris"}, {"matchers": {"a": "regex"}}, 0.0),
        ({"a": 1}, {"a": 2}, {"matchers": {"a": "any"}}, 1.0),
        ({"a": 1}, {}, {"matchers": {"a": "any"}}, 1.0),
    ],
)
async def test_arguments(expected: Any, made: Any, parameters: dict[str, Any], score: float) -> None:
    assert (await judged(calls(("t", expected)), calls(("t", made)), **parameters)).score == score


async def test_a_call_that_fits_two_expectations_is_given_to_the_one_that_needs_it() -> None:
    loose, strict = ("t", {"a": ".*"}), ("t", {"a": "x"})
    result = await judged(calls(loose, strict), calls(("t", {"a": "x"}), ("t", {"a": "y"})), matchers={"a": "regex"})
    assert result.score == 1.0


names = st.lists(st.sampled_from(["a", "b", "c"]), max_size=6)


@pytest.mark.parametrize("mode", ["f1", "in_order", "any_order", "subset", "exact"])
async def test_thousands_of_calls_are_told_apart_at_once(mode: str) -> None:
    expected = tuple(ToolCall(name="t", args={"n": n}) for n in range(3000))
    assert (await judged(expected, expected, mode=mode)).score == 1.0
    half = await judged(expected, expected[1500:], mode=mode)
    assert half.score == {"f1": pytest.approx(2 / 3), "subset": 1.0, "exact": 0.0}.get(mode, 0.5)


@pytest.mark.parametrize("mode", ["f1", "in_order"])
async def test_an_agent_that_calls_in_a_loop_is_judged(mode: str) -> None:
    result = await judged(calls(PARIS, TIME), calls(*[PARIS] * 20_000), mode=mode)
    assert result.score == pytest.approx({"f1": 2 / 20_002, "in_order": 1 / 2}[mode])


@pytest.mark.parametrize(
    "parameters", [{"arguments": "subset"}, {"tolerance": 0.1}, {"matchers": {"city": "casefold"}}]
)
async def test_too_many_calls_that_must_be_compared_with_each_other_are_an_error(parameters: dict[str, Any]) -> None:
    assert (await judged(calls(PARIS), calls(*[PARIS] * 1000), **parameters)).score == pytest.approx(2 / 1001)
    with pytest.raises(TooMuchEffortError, match="1,000 and 1,000 tool calls"):
        await judged(calls(*[PARIS] * 1000), calls(*[PARIS] * 1000), **parameters)


@given(names, names, st.sampled_from(["f1", "in_order", "any_order", "subset"]))
async def test_calls_by_their_keys_score_as_calls_compared_one_by_one(
    expected: list[str], made: list[str], mode: str
) -> None:
    one_by_one = await judged(calls(*expected), calls(*made), mode=mode, matchers={"none": "casefold"})
    assert (await judged(calls(*expected), calls(*made), mode=mode)).score == one_by_one.score


@given(names, names)
async def test_laws_of_the_modes(expected: list[str], made: list[str]) -> None:
    scores = {
        mode: (await judged(calls(*expected), calls(*made), mode=mode)).score or 0.0
        for mode in ("f1", "exact", "in_order", "any_order")
    }
    mirrored = (await judged(calls(*made), calls(*expected))).score
    assert scores["f1"] == pytest.approx(mirrored)
    assert scores["exact"] <= scores["in_order"] <= scores["any_order"]
    assert (scores["f1"] == 1.0) == (sorted(expected) == sorted(made))
    assert (scores["exact"] == 1.0) == (expected == made)


@pytest.mark.parametrize(
    ("parameters", "score"),
    [
        ({"tools": ["delete_file"]}, 0.0),
        ({"tools": ["delete_*"]}, 0.0),
        ({"tools": ["Delete_*"]}, 1.0),
        ({"allowed": ["read_*", "delete_file"]}, 1.0),
        ({"allowed": ["read_*"]}, 0.0),
        ({"allowed": []}, 0.0),
    ],
)
async def test_forbidden_tools(parameters: dict[str, Any], score: float) -> None:
    call = BuiltinAdapter().create("forbidden_tools", parameters, None)
    result = await call(sample(made=calls("read_file", "delete_file")))
    assert result.score == score
    assert (score == 1.0) or "delete_file" in (result.reason or "")


@pytest.mark.parametrize(
    ("parameters", "score"),
    [({"limit": 3}, 1.0), ({"limit": 2}, 0.0), ({"limit": 0}, 0.0), ({"limit": 2, "tool": "a*"}, 1.0)],
)
async def test_max_tool_calls(parameters: dict[str, Any], score: float) -> None:
    call = BuiltinAdapter().create("max_tool_calls", parameters, None)
    assert (await call(sample(made=calls("ab", "ac", "b")))).score == score


def test_a_rule_that_forbids_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="tools, allowed or both"):
        BuiltinAdapter().create("forbidden_tools", {}, None)
