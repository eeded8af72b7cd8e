"""Parquet: list columns, types that JSON does not know, and broken files."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from testbench.errors import InputError, NothingToDo
from testbench.schema.models import Reference, ToolCall
from tests.support.setup_phase import file_of, loaded, parquet_of, steps_of


def test_columns_of_lists_and_objects(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {
            "user_input": "a",
            "retrieved_contexts": ["x", "y"],
            "reference_topics": ["t"],
            "reference_tool_calls": [{"name": "f", "args": {"city": "Paris"}}],
        },
        {
            "user_input": "b",
            "retrieved_contexts": None,
            "reference_topics": None,
            "reference_tool_calls": [{"name": "g", "args": {"zone": "UTC"}}, {"name": "h", "args": None}],
        },
        {"user_input": "c", "retrieved_contexts": [], "reference_topics": None, "reference_tool_calls": []},
    ]
    first, second, third = steps_of(loaded(parquet_of(tmp_path, rows)))
    assert first.reference == Reference(topics=("t",), tool_calls=(ToolCall(name="f", args={"city": "Paris"}),))
    assert second.reference == Reference(tool_calls=(ToolCall(name="g", args={"zone": "UTC"}), ToolCall(name="h")))
    assert third.reference == Reference(tool_calls=())
    contexts = [step.custom_values.get("retrieved_contexts") for step in (first, second, third)]
    assert contexts == [["x", "y"], None, []]


def test_types_that_json_does_not_know_become_plain_data(tmp_path: Path) -> None:
    row = {
        "user_input": "a",
        "price": Decimal("1.50"),
        "at": datetime(2026, 1, 2, tzinfo=UTC),
        "code": b"abc",
        "share": float("nan"),
        "labels": {"k": "v", "none": None},
    }
    schema = pa.schema(
        [
            ("user_input", pa.large_string()),
            ("price", pa.decimal128(5, 2)),
            ("at", pa.timestamp("ns", "UTC")),
            ("code", pa.binary()),
            ("share", pa.float32()),
            ("labels", pa.map_(pa.string(), pa.string())),
        ]
    )
    (step,) = steps_of(loaded(parquet_of(tmp_path, [row], schema)))
    assert step.custom_values == {"price": 1.5, "at": "2026-01-02T00:00:00+00:00", "code": "abc", "labels": {"k": "v"}}


def test_a_frame_that_pandas_wrote_loses_its_index(tmp_path: Path) -> None:
    frame = pd.DataFrame({"user_input": ["a", "b"], "own": [1.0, None]}, index=[7, 9])
    frame.to_parquet(tmp_path / "rows.parquet")
    assert [step.custom_values for step in steps_of(loaded(tmp_path / "rows.parquet"))] == [{"own": 1.0}, {}]


def test_lists_that_are_stored_as_text_are_lists(tmp_path: Path) -> None:
    row = {"user_input": "a", "retrieved_contexts": "['x' 'y']", "own": "['x']"}
    (step,) = steps_of(loaded(parquet_of(tmp_path, [row])))
    assert step.custom_values == {"retrieved_contexts": ["x", "y"], "own": "['x']"}


@pytest.mark.parametrize("content", [b"PAR1 and then nothing of the kind", b"user_input\nno parquet at all\n"])
def test_a_broken_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError, match=r"rows\.parquet: not a Parquet file"):
        loaded(file_of(tmp_path, "rows.parquet", content))


def test_a_file_that_breaks_in_the_middle_is_an_error(tmp_path: Path) -> None:
    path = parquet_of(tmp_path, [{"user_input": f"question {number}"} for number in range(5000)])
    content = bytearray(path.read_bytes())
    content[4:2000] = b"\xff" * 1996
    with pytest.raises(InputError, match=r"rows\.parquet: not a Parquet file"):
        loaded(file_of(tmp_path, "rows.parquet", bytes(content)))


def test_a_table_without_a_question_names_its_columns(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is: question, reference") as caught:
        loaded(parquet_of(tmp_path, [{"question": "a", "reference": "b"}]))
    assert "'question'" in caught.value.hint


def test_a_table_without_rows_is_nothing_to_do(tmp_path: Path) -> None:
    with pytest.raises(NothingToDo):
        loaded(parquet_of(tmp_path, [], pa.schema([("user_input", pa.string())])))
