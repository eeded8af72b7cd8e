"""Text metrics: what counts as equal, contained, matching, similar, long enough; and what is refused as a parameter."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbench.errors import InputError
from testbench.metrics.builtin.adapter import BuiltinAdapter
from testbench.metrics.builtin.text import ExactMatch
from testbench.metrics.protocol import MetricResult
from testbench.schema.models import Reference
from tests.support.metric_samples import sample


async def judged(name: str, answer: str, reference: str | None = None, **parameters: Any) -> MetricResult:
    call = BuiltinAdapter().create(name, parameters, None)
    return await call(sample(answer, reference=Reference(response=reference)))


@pytest.mark.parametrize(
    ("answer", "reference", "parameters", "score"),
    [
        ("Paris", "Paris", {}, 1.0),
        (" Paris\n", "Paris", {}, 1.0),
        ("paris", "Paris", {}, 0.0),
        ("PARIS", "Paris", {"casefold": True}, 1.0),
        ("Straße", "STRASSE", {"casefold": True}, 1.0),
        ("10 m\u00b2", "10 m2", {}, 1.0),
        ("10 m\u00b2", "10 m2", {"unicode": False}, 0.0),
        ("a  b", "a b", {"whitespace": False}, 0.0),
        ("Lyon", "Paris", {"text": ["Paris", "Lyon"]}, 1.0),
        ("Paris is", "Paris", {}, 0.0),
    ],
)
async def test_exact_match(answer: str, reference: str, parameters: dict[str, Any], score: float) -> None:
    result = await judged("exact_match", answer, reference, **parameters)
    assert result.score == score
    assert result.reason


@pytest.mark.parametrize(
    ("parameters", "score", "missing"),
    [
        ({"text": "sunny"}, 1.0, []),
        ({"text": ["sunny", "18"]}, 1.0, []),
        ({"text": ["sunny", "rain"]}, 0.0, ["rain"]),
        ({"text": ["sunny", "rain"], "mode": "any"}, 1.0, ["rain"]),
        ({"text": "SUNNY"}, 0.0, ["SUNNY"]),
        ({"text": "SUNNY", "casefold": True}, 1.0, []),
    ],
)
async def test_contains(parameters: dict[str, Any], score: float, missing: list[str]) -> None:
    result = await judged("contains", "It is sunny, 18 degrees", **parameters)
    assert (result.score, result.details["missing"]) == (score, missing)


async def test_contains_takes_the_reference_where_no_text_is_given() -> None:
    assert (await judged("contains", "It is sunny", "sunny")).score == 1.0
    adapter = BuiltinAdapter()
    assert adapter.spec_for("contains", {}).required == ("response", "reference")
    assert adapter.spec_for("contains", {"text": "sunny"}).required == ("response",)


async def test_not_contains() -> None:
    assert (await judged("not_contains", "I do not know", text=["error", "sorry"])).score == 1.0
    found = await judged("not_contains", "error: sorry", text=["error", "none"])
    assert (found.score, found.details["found"]) == (0.0, ["error"])


@pytest.mark.parametrize(
    ("parameters", "score"),
    [
        ({"pattern": r"\d+ degrees"}, 1.0),
        ({"pattern": r"\d+ degrees", "mode": "fullmatch"}, 0.0),
        ({"pattern": r"^second", "absent": True}, 1.0),
        ({"pattern": r"(?m)^second"}, 1.0),
        ({"pattern": "IT IS"}, 0.0),
        ({"pattern": "IT IS", "casefold": True}, 1.0),
        ({"pattern": "rain"}, 0.0),
        ({"pattern": "rain", "absent": True}, 1.0),
    ],
)
async def test_regex(parameters: dict[str, Any], score: float) -> None:
    assert (await judged("regex", "It is 18 degrees\nsecond line", **parameters)).score == score


@pytest.mark.parametrize(("algorithm", "most"), [("levenshtein", max), ("indel", sum)])
@given(st.text(), st.text(min_size=1))
async def test_similarity_can_be_computed_again_from_its_reason(
    algorithm: str, most: Callable[[Iterable[int]], int], answer: str, expected: str
) -> None:
    result = await judged("similarity", answer, expected, algorithm=algorithm, unicode=False, whitespace=False)
    found = re.fullmatch(rf"{algorithm} of (\d+) and (\d+) characters, 1 - (\d+)/(\d+): [\d.]+", result.reason or "")
    assert found is not None
    left, right, edits, of = map(int, found.groups())
    assert (left, right, of) == (len(answer), len(expected), most([len(answer), len(expected)]))
    assert result.score == float(1 - Fraction(edits, of))


async def test_similarity_is_a_part_of_the_letters() -> None:
    result = await judged("similarity", "kitten", "sitting")
    assert result.score == pytest.approx(1 - 3 / 7)
    assert (await judged("similarity", "Paris in France", "France in Paris", algorithm="token_sort")).score == 1.0


async def test_an_expression_that_takes_for_ever_is_an_error_and_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbench.metrics.effort.REGEX_TIME_LIMIT_S", 0.05)
    result = await judged("regex", "a" * 60 + "b", pattern="(a|aa)+$")
    assert result.score is None
    assert result.error is not None
    assert result.error.kind == "timeout"


@pytest.mark.parametrize(
    ("parameters", "score"),
    [({"min": 3}, 1.0), ({"max": 2}, 0.0), ({"min": 1, "max": 3, "unit": "words"}, 1.0), ({"min": 12}, 0.0)],
)
async def test_length(parameters: dict[str, Any], score: float) -> None:
    assert (await judged("length", "one two three"[:11], **parameters)).score == score


@pytest.mark.parametrize(
    ("name", "parameters", "told"),
    [
        ("regex", {"pattern": "("}, "not a regular expression"),
        ("regex", {}, "pattern"),
        ("contains", {"text": []}, "empty"),
        ("contains", {"text": ""}, "empty"),
        ("contains", {"text": "a", "mode": "some"}, "mode"),
        ("length", {}, "min, max"),
        ("length", {"min": 5, "max": 1}, "min is above max"),
        ("exact_match", {"casefold": "perhaps"}, "casefold"),
    ],
)
def test_unfit_parameters_are_named(name: str, parameters: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        BuiltinAdapter().create(name, parameters, None)


@given(st.text(), st.booleans(), st.booleans(), st.booleans())
def test_normalisation_is_idempotent(text: str, casefold: bool, unicode: bool, whitespace: bool) -> None:
    metric = ExactMatch(casefold=casefold, unicode=unicode, whitespace=whitespace)
    once = metric.normalise(text)
    assert metric.normalise(once) == once


@given(st.text(min_size=1).filter(str.strip))
async def test_a_text_equals_itself_under_every_text_metric(text: str) -> None:
    for name in ("exact_match", "contains", "similarity"):
        assert (await judged(name, text, text)).score == 1.0
