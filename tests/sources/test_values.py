"""Values of every format become plain JSON data; what is missing leaves no trace."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbench.sources.formats.dataset_format import CellError
from testbench.sources.values import MAX_DEPTH, to_data, to_plain_data, to_text, to_texts
from tests.support.setup_phase import law


@pytest.mark.parametrize("value", [None, "", "  \n", float("nan"), np.float64("nan"), pd.NaT, Decimal("NaN")])
def test_an_empty_value_is_missing(value: Any) -> None:
    assert to_plain_data(value) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("nan", "nan"),
        ("None", "None"),
        (True, True),
        (0, 0),
        (1.5, 1.5),
        (float("inf"), "Infinity"),
        (float("-inf"), "-Infinity"),
        (Decimal("12"), 12),
        (Decimal("0.25"), 0.25),
        (datetime(2026, 1, 2, 3, 4, tzinfo=UTC), "2026-01-02T03:04:00+00:00"),
        (date(2026, 1, 2), "2026-01-02"),
        (time(3, 4), "03:04:00"),
        (timedelta(minutes=2), 120.0),
        (pd.Timestamp("2026-01-02"), "2026-01-02T00:00:00"),
        (b"caf\xc3\xa9", "café"),
        (b"\xff\x00", "/wA="),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (np.int64(3), 3),
        (np.array(["a", "b"]), ["a", "b"]),
        (("a", [float("nan"), ""]), ["a", [None, ""]]),
        ({"a": {1: np.array([1])}}, {"a": {"1": [1]}}),
    ],
)
def test_a_value_becomes_plain_data(value: Any, expected: Any) -> None:
    assert (to_plain_data(value), type(to_plain_data(value))) == (expected, type(expected))


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@law
@given(any_json)
def test_plain_data_is_json_and_stays_as_it_is(value: Any) -> None:
    try:
        once = to_plain_data(value)
    except CellError:
        assert any(0xD800 <= ord(character) <= 0xDFFF for character in str(value))
        return
    assert to_plain_data(json.loads(json.dumps(once, allow_nan=False))) == once


def test_nesting_has_an_end() -> None:
    value: Any = "x"
    for _ in range(MAX_DEPTH + 2):
        value = [value]
    with pytest.raises(CellError, match="nested deeper"):
        to_plain_data(value)


@pytest.mark.parametrize("value", ["half \ud800", ["half \udfff"], {"\ud800": 1}])
def test_half_a_character_is_an_error(value: Any) -> None:
    with pytest.raises(CellError, match="surrogate"):
        to_plain_data(value)


def test_what_is_no_data_is_an_error() -> None:
    with pytest.raises(CellError, match="type object"):
        to_plain_data(object())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("one text", ("one text",)),
        ("['a', 'b']", ("a", "b")),
        ("[1] a footnote", ("[1] a footnote",)),
        (["a", None, "", 5], ("a", "5")),
        ([], ()),
        ("[]", ()),
        (7, ("7",)),
    ],
)
def test_a_list_of_texts(value: Any, expected: tuple[str, ...]) -> None:
    assert to_texts(value) == expected


@pytest.mark.parametrize("value", [[["a"]], [{"a": 1}], {"a": 1}, "[Paris, London]", "['cut off"])
def test_what_is_no_list_of_texts_is_an_error(value: Any) -> None:
    with pytest.raises(CellError):
        to_texts(value)


@pytest.mark.parametrize(("value", "expected"), [("a", "a"), (5, "5"), (True, "true"), (2.5, "2.5")])
def test_a_text(value: Any, expected: str) -> None:
    assert to_text(value) == expected


@pytest.mark.parametrize("value", [["a"], {"a": 1}])
def test_a_list_is_no_text(value: Any) -> None:
    with pytest.raises(CellError, match="a text is expected"):
        to_text(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("['a']", ["a"]), ('{"a": [1]}', {"a": [1]}), ("[see below]", "[see below]"), ("5", "5"), ("{curly}", "{curly}")],
)
def test_a_cell_of_the_users_own_is_data_where_it_can_be_and_text_else(text: str, expected: Any) -> None:
    assert to_data(text) == expected
