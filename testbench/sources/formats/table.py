"""Rows as the readers hand them on, and the words for a fault in one of them.

A reader (`csv_rows`, `excel_rows`, `json_rows`, `parquet_rows`) makes a `Table`; `testbench.sources.columns` turns
its rows into steps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from testbench.errors import InputError


@dataclass(frozen=True)
class Row:
    """One row. `number` counts data rows from 1; `line` is where it begins in the file, if the file has lines."""

    number: int
    values: Mapping[str, Any]
    line: int | None = None


@dataclass(frozen=True)
class Table:
    """The rows of a dataset, read as they are asked for.

    `columns` is None where every row brings its own keys. `cells_are_text` is true of a format that knows no other
    type, so that a list arrives as text.
    """

    origin: str
    rows: Iterator[Row]
    columns: tuple[str, ...] | None = None
    cells_are_text: bool = False


def checked_columns(origin: str, names: Iterable[str]) -> tuple[str, ...]:
    """The columns of a header; one without a name stays empty, and is left out by the reader.

    Raises:
        InputError: two columns have the same name, so that one would hide the other.
    """
    columns = tuple(name.strip() for name in names)
    twice = [name for name, times in Counter(columns).items() if name and times > 1]
    if twice:
        raise InputError(f"{origin}: more than one column is named {twice[0]!r}", hint="Rename or remove one of them.")
    return columns


class CellError(ValueError):
    """A value that cannot be what its column says; `row_fault` adds the place."""

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def row_fault(origin: str, row: Row, error: CellError, column: str | None = None) -> InputError:
    """The error that a user sees: file, row, line and column, what is wrong, and what to do."""
    line = f" (line {row.line})" if row.line is not None else ""
    where = f", column {column!r}" if column is not None else ""
    return InputError(f"{origin}: row {row.number}{line}{where}: {error.message}", hint=error.hint)
