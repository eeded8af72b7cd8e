"""The law of setup: the same rows make the same experiment, in whichever format they are written."""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbench.schema.models import ToolCall
from tests.support.setup_phase import law, loaded

Row = dict[str, Any]

COLUMNS = (
    "user_input",
    "retrieved_contexts",
    "reference",
    "reference_tool_calls",
    "reference_topics",
    "scenario",
    "own",
)


def json_cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list) else value


def write_csv(path: Path, rows: list[Row], cell: Callable[[Any], Any] = json_cell) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows({column: cell(value) for column, value in row.items()} for row in rows)


def write_python_csv(path: Path, rows: list[Row]) -> None:
    write_csv(path, rows, lambda value: value)  # lists as str() writes them


def write_json(path: Path, rows: list[Row]) -> None:
    path.write_text(json.dumps([{"user_input": None} | row for row in rows], ensure_ascii=False), encoding="utf-8")


def write_json_lines(path: Path, rows: list[Row]) -> None:
    path.write_text("\n".join(json.dumps(row) for row in rows))


def write_parquet(path: Path, rows: list[Row]) -> None:
    call = pa.struct({"name": pa.string(), "args": pa.map_(pa.string(), pa.string())})
    types = {
        "retrieved_contexts": pa.list_(pa.string()),
        "reference_topics": pa.list_(pa.string()),
        "reference_tool_calls": pa.list_(call),
    }
    schema = pa.schema([(column, types.get(column, pa.string())) for column in COLUMNS])
    pq.write_table(pa.Table.from_pylist(rows, schema), path)


FORMATS: dict[str, Callable[[Path, list[Row]], None]] = {
    "json.csv": write_csv,
    "python.csv": write_python_csv,
    "rows.jsonl": write_json_lines,
    "rows.parquet": write_parquet,
}

# a lone carriage return inside a cell is what CSV itself cannot tell from a line end in every program
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1, max_size=30)
spoken = texts.filter(str.strip)
own = spoken.filter(lambda text: text.strip()[0] not in "[{")
calls = st.lists(
    st.builds(lambda name, args: {"name": name, "args": args}, spoken, st.dictionaries(texts, texts, max_size=2))
)
rows = st.lists(
    st.fixed_dictionaries(
        {"user_input": spoken},
        optional={
            "retrieved_contexts": st.lists(spoken, max_size=3),
            "reference": spoken,
            "reference_tool_calls": calls,
            "reference_topics": st.lists(texts, max_size=3),
            "scenario": st.sampled_from(["one", "two"]),
            "own": own,
        },
    ),
    min_size=1,
    max_size=6,
)


@law
@given(rows=rows)
def test_rows_make_the_same_experiment_in_every_format(rows: list[Row]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / "rows.json", rows)
        expected = loaded(Path(folder) / "rows.json")
        for name, write in FORMATS.items():
            write(Path(folder) / name, rows)
            assert loaded(Path(folder) / name) == expected, name
    assert sum(len(scenario.steps) for scenario in expected.scenarios) == len(rows)


@pytest.mark.parametrize("name", FORMATS)
def test_one_row_reads_as_it_was_written(tmp_path: Path, name: str) -> None:
    row = {
        "user_input": 'Weather in "Paris", please?\nNow',
        "retrieved_contexts": ["it's 18", 'say "18"'],
        "reference_tool_calls": [{"name": "get_weather", "args": {"city": "Paris"}}],
        "own": "5",
    }
    FORMATS[name](tmp_path / name, [row])
    (scenario,) = loaded(tmp_path / name).scenarios
    (step,) = scenario.steps
    assert scenario.name == 'Weather in "Paris", please? Now'
    assert step.input == row["user_input"]
    assert step.custom_values == {"retrieved_contexts": ["it's 18", 'say "18"'], "own": "5"}
    assert step.reference is not None
    assert step.reference.tool_calls == (ToolCall(name="get_weather", args={"city": "Paris"}),)
