"""Write the weather dataset as CSV and Parquet, from the JSON file that people edit.

    python -m testbench.samples.generate

Needed after a change of `weather.json` only; the files are committed, and a test holds them in step.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from testbench.samples.locate import sample_path

if TYPE_CHECKING:
    import pyarrow as pa

Row = Mapping[str, Any]
"""One question; a column without a value is None, which is not the same as an empty list."""

COLUMNS: Final = (
    "user_input",
    "retrieved_contexts",
    "reference",
    "reference_tool_calls",
    "reference_topics",
    "category",
)


def main() -> None:
    """Write both files anew, in place."""
    import pyarrow.parquet

    rows = json.loads(sample_path("weather.json").read_text(encoding="utf-8"))
    sample_path("weather.csv").write_text(csv_text(rows), encoding="utf-8", newline="")
    pyarrow.parquet.write_table(parquet_table(rows), sample_path("weather.parquet"))


def csv_text(rows: Sequence[Row]) -> str:
    """The rows as CSV: a list is a JSON array in a quoted cell, no value is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([_cell(row[column]) for column in COLUMNS])
    return text.getvalue()


def parquet_table(rows: Sequence[Row]) -> pa.Table:
    """The rows as a table whose lists are lists and whose tool calls are structs."""
    import pyarrow as pa

    texts = pa.list_(pa.string())
    call = pa.struct([("name", pa.string()), ("args", pa.struct([("city", pa.string())]))])
    types = {"retrieved_contexts": texts, "reference_topics": texts, "reference_tool_calls": pa.list_(call)}
    schema = pa.schema([(column, types.get(column, pa.string())) for column in COLUMNS])
    return pa.Table.from_pylist([dict(row) for row in rows], schema=schema)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else str(value)


if __name__ == "__main__":
    main()
