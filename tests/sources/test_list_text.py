"""Lists and objects in the text of a cell: JSON, Python's and numpy's way of writing, read and never evaluated."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from testbench.sources.formats.dataset_format import CellError
from testbench.sources.list_text import MAX_LIST_DEPTH, looks_like_list, read_literal
from tests.support.setup_phase import law

texts = st.text(st.characters(codec="utf-8"))
scalars = texts | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False, allow_infinity=False)
literals = st.lists(st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=8))


@law
@given(literals)
def test_a_list_is_read_as_python_writes_it(items: list[Any]) -> None:
    assert read_literal(repr(items)) == items


@law
@given(literals)
def test_a_list_is_read_as_json_writes_it(items: list[Any]) -> None:
    assert read_literal(json.dumps(items)) == items


@law
@given(st.lists(texts, min_size=1, max_size=20))
@example(["it's", 'say "hello"', "", "a\nb", "\\d"])
def test_a_list_is_read_as_numpy_writes_it(items: list[str]) -> None:
    written = str(np.array(items, dtype=object))
    assert read_literal(written) == items


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[]", []),
        (" [ ] ", []),
        ("['a' 'b']", ["a", "b"]),
        ("['a'\n 'b'\n]", ["a", "b"]),
        ("['a', 'b',]", ["a", "b"]),
        ("[1. 2.5 -3]", [1.0, 2.5, -3]),
        ("[nan None true]", [None, None, True]),
        ("[{'name': 'f', 'args': {'x': None}}]", [{"name": "f", "args": {"x": None}}]),
        (r"['C:\data', '\x41\u00e9\'']", [r"C:\data", "Aé'"]),
        ("[" + "9" * 5000 + "]", [float("inf")]),
    ],
)
def test_a_list_is_read(text: str, value: list[Any]) -> None:
    assert read_literal(text) == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[Paris, London]", "without quotes"),
        ("['a' 'b' ... 'z']", "shortened"),
        ("['a', 'b", "no end"),
        ("['a'", "missing"),
        ("['a'] 'b'", "follows"),
        ("['a''b']", "comma"),
        ("[{'a' 1}]", "colon"),
        ("[{1: 2}]", "quoted"),
        ("['a',, 'b']", "missing"),
        ("[__import__('os')]", "missing"),
        ("[open('/etc/passwd').read()]", "without quotes"),
        ("['a' * 1000000000]", "missing"),
        ("[" * (MAX_LIST_DEPTH + 2) + "]" * (MAX_LIST_DEPTH + 2) + "'", "nested"),
        ("[" * 100_000, "nested"),
    ],
)
def test_what_is_no_list_is_an_error_that_says_why(text: str, words: str) -> None:
    with pytest.raises(CellError, match=words):
        read_literal(text)


@pytest.mark.parametrize("text", ["['a']", '["a", "b', " [1] ", "[see below]"])
def test_brackets_say_that_a_list_was_meant(text: str) -> None:
    assert looks_like_list(text)


@pytest.mark.parametrize("text", ["a, b", "[1] Paris is the capital", "Paris [1]", ""])
def test_other_text_is_text(text: str) -> None:
    assert not looks_like_list(text)
