"""Metrics over JSON answers, numbers and time."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbench.errors import InputError
from testbench.metrics.builtin.adapter import BuiltinAdapter
from testbench.metrics.builtin.json_answers import key_of, same
from testbench.metrics.builtin.numbers import numbers_in
from testbench.metrics.protocol import MetricResult
from testbench.schema.models import Reference
from tests.support.metric_samples import sample

SCHEMA = {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}}


async def judged(name: str, answer: str, reference: str | None = None, **parameters: Any) -> MetricResult:
    call = BuiltinAdapter().create(name, parameters, None)
    return await call(sample(answer, reference=Reference(response=reference)))


@pytest.mark.parametrize(
    ("answer", "score", "told"),
    [
        ('{"city": "Paris"}', 1.0, "fits"),
        ('```json\n{"city": "Paris"}\n```', 1.0, "fits"),
        ('{"city": 1}', 0.0, "$.city"),
        ("{}", 0.0, "city"),
        ("It is sunny", 0.0, "not JSON"),
        ('{"city": NaN}', 0.0, "NaN"),
        ("[" * 100_000, 0.0, "not JSON"),
    ],
)
async def test_json_schema(answer: str, score: float, told: str) -> None:
    result = await judged("json_schema", answer, schema=SCHEMA)
    assert result.score == score
    assert told in (result.reason or "")


async def test_a_schema_cannot_make_us_fetch_another(attempts_to_leave: list[str]) -> None:
    with pytest.raises(Exception, match="Unresolvable"):
        await judged("json_schema", "{}", schema={"$ref": "http://example.com/schema.json"})
    assert attempts_to_leave == []


@pytest.mark.parametrize(
    ("schema", "answer", "score"),
    [
        ({"type": "string", "pattern": "^P"}, '"Paris"', 1.0),
        ({"type": "string", "pattern": "^P"}, '"Rome"', 0.0),
        ({"pattern": "^P"}, "1", 1.0),
        ({"patternProperties": {"^n_": {"type": "number"}}}, '{"n_a": 1, "b": "x"}', 1.0),
        ({"patternProperties": {"^n_": {"type": "number"}}}, '{"n_a": "x"}', 0.0),
        ({"patternProperties": {"^n_": {}}, "additionalProperties": False}, '{"n_a": 1}', 1.0),
        ({"patternProperties": {"^n_": {}}, "additionalProperties": False}, '{"b": 1}', 0.0),
        ({"properties": {"a": {}}, "additionalProperties": {"type": "string"}}, '{"a": 1, "b": "x"}', 1.0),
        ({"properties": {"a": {}}, "additionalProperties": {"type": "string"}}, '{"a": 1, "b": 2}', 0.0),
        ({"additionalProperties": True}, '{"a": 1}', 1.0),
    ],
)
async def test_expressions_in_a_schema(schema: dict[str, Any], answer: str, score: float) -> None:
    assert (await judged("json_schema", answer, schema=schema)).score == score


@pytest.mark.parametrize("keyword", ["pattern", "patternProperties", "additionalProperties"])
async def test_an_expression_in_a_schema_that_takes_for_ever_is_an_error(
    keyword: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("testbench.metrics.effort.REGEX_TIME_LIMIT_S", 0.05)
    endless, text = "(a|aa)+$", "a" * 60 + "b"
    schemas: dict[str, dict[str, Any]] = {
        "pattern": {"pattern": endless},
        "patternProperties": {"patternProperties": {endless: {}}},
        "additionalProperties": {"patternProperties": {endless: {}}, "additionalProperties": False},
    }
    answer = json.dumps(text if keyword == "pattern" else {text: 1})
    result = await judged("json_schema", answer, schema=schemas[keyword])
    assert result.score is None
    assert result.error is not None
    assert result.error.kind == "timeout"


async def test_an_answer_of_blank_lines_does_not_keep_us_busy() -> None:
    assert (await judged("json_schema", "```\n" + "\n" * 300_000 + "x", schema=SCHEMA)).score == 0.0


def test_a_schema_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="not a JSON Schema"):
        BuiltinAdapter().create("json_schema", {"schema": {"type": "strange"}}, None)


@pytest.mark.parametrize(
    ("answer", "parameters", "score"),
    [
        ('{"a": 1, "b": [1, 2]}', {"value": {"b": [1, 2], "a": 1.0}}, 1.0),
        ('{"a": 1}', {"value": {"a": True}}, 0.0),
        ('{"a": 1.04}', {"value": {"a": 1}, "tolerance": 0.05}, 1.0),
        ("null", {"value": None}, 1.0),
        ("[1]", {"value": [1, 2]}, 0.0),
        ("no JSON", {"value": 1}, 0.0),
    ],
)
async def test_json_equality(answer: str, parameters: dict[str, Any], score: float) -> None:
    assert (await judged("json_equality", answer, **parameters)).score == score


async def test_json_equality_with_the_reference() -> None:
    assert (await judged("json_equality", '{"a": 1}', '{"a": 1}')).score == 1.0
    differing = await judged("json_equality", '{"a": 2, "c": 0}', '{"a": 1, "b": 0}')
    assert differing.reason == "a: expected 1, found 2; b: missing; c: not expected"
    assert (await judged("json_equality", '{"a": 1}', "sunny")).skipped


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


few_values = st.recursive(
    st.sampled_from([None, True, 0, 1, 1.0, 1.5, -0.0, 2**60, float(2**60), 10**400, math.nan, math.inf, "1", "", "a"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
    max_leaves=4,
)


@given(few_values, few_values)
def test_equal_keys_are_the_same_values(one: Any, other: Any) -> None:
    assert (key_of(one) == key_of(other)) == same(one, other)


@given(json_values, json_values)
def test_json_sameness_is_an_equivalence(one: Any, other: Any) -> None:
    assert same(one, one)
    assert same(one, other) == same(other, one)


@pytest.mark.parametrize(
    ("text", "decimal", "numbers"),
    [
        ("It is 18 degrees", ".", [18]),
        ("-3.5 and +2", ".", [-3.5, 2]),
        ("\u22124 C", ".", [-4]),
        ("1,234.5 or 1,2", ".", [1234.5, 1, 2]),
        ("1.234,5", ",", [1234.5]),
        ("12 345,67", ",", [12, 345.67]),
        ("2024-05-06", ".", [2024, 5, 6]),
        ("COVID-19, v2, 3rd", ".", [19, 3]),
        ("6.02e23 and 1e999", ".", [6.02e23]),
        ("18.", ".", [18]),
        ("", ".", []),
    ],
)
def test_numbers_in_a_text(text: str, decimal: Any, numbers: list[float]) -> None:
    assert numbers_in(text, decimal) == numbers


@given(st.floats(allow_nan=False, allow_infinity=False).filter(lambda value: "e" not in repr(value)))
def test_a_number_is_found_as_it_was_written(value: float) -> None:
    assert numbers_in(f"it is {value!r} now") == [value]


@pytest.mark.parametrize(
    ("parameters", "score"),
    [
        ({"value": 18}, 1.0),
        ({"value": 17.5, "tolerance": 0.5}, 1.0),
        ({"value": 17.4, "tolerance": 0.5}, 0.0),
        ({"value": 20, "relative": 0.1}, 1.0),
        ({"value": 5, "pick": "first"}, 0.0),
        ({"value": 5, "pick": "last"}, 1.0),
        ({"value": 18, "pick": "only"}, 0.0),
        ({"value": 99}, 0.0),
    ],
)
async def test_numeric(parameters: dict[str, Any], score: float) -> None:
    assert (await judged("numeric", "18 degrees on May 5", **parameters)).score == score


async def test_numeric_tolerance_is_not_spoilt_by_binary_fractions() -> None:
    assert (await judged("numeric", "0.3", value=0.4, tolerance=0.1)).score == 1.0
    assert (await judged("numeric", "0.29", value=0.4, tolerance=0.1)).score == 0.0


async def test_numeric_needs_one_number_in_the_reference() -> None:
    assert (await judged("numeric", "18 degrees", "about 18")).score == 1.0
    assert "2 numbers" in ((await judged("numeric", "18", "18 or 19")).skipped or "")


@pytest.mark.parametrize(("took", "score"), [(99.0, 1.0), (100.0, 1.0), (101.0, 0.0)])
async def test_latency(took: float, score: float) -> None:
    call = BuiltinAdapter().create("latency", {"max_ms": 100}, None)
    assert (await call(sample(latency_ms=took))).score == score
