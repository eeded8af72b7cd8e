"""CSV into rows, one at a time; comma, semicolon or tab, UTF-8 with or without a byte order mark.

The standard library's reader is used and not pandas', which fills up a row that is too short and does not say so, and
which cannot tell in which line of the file a row began. Blank lines are passed over. A column without a name (what
pandas' `to_csv` makes of its index) is left out.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import NoReturn, Protocol, TextIO

from testbench.errors import InputError
from testbench.sources.columns import INPUTS
from testbench.sources.dataset_file import DatasetFile
from testbench.sources.formats.table import CellError, Row, Table, checked_columns, row_fault

SEPARATORS = (",", ";", "\t")
MAX_CELL_CHARACTERS = 64 * 1024 * 1024


class _Reader(Protocol):
    """What `csv.reader` returns, whose type has no public name."""

    @property
    def line_num(self) -> int: ...

    def __next__(self) -> list[str]: ...

    def __iter__(self) -> Iterator[list[str]]: ...


def csv_table(file: DatasetFile) -> Table:
    """The table in `file`. Its header is read at once, its rows as they are asked for.

    Raises:
        InputError: the header cannot be read; later, a row that is broken, or longer or shorter than the header.
    """
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    text = file.text(newline="")
    separator = _separator(text, file.origin)
    text.seek(0)
    reader = csv.reader(text, delimiter=separator, strict=True)
    header = _next_cells(reader, file.origin, 0) or []
    columns = checked_columns(file.origin, header)
    named = tuple(name for name in columns if name)
    return Table(file.origin, _rows(reader, columns, file.origin), named, cells_are_text=True)


def _separator(text: TextIO, origin: str) -> str:
    """The separator whose header names the user's input, else the one that makes the most columns."""

    def worth(separator: str) -> tuple[bool, int]:
        text.seek(0)
        try:
            header = next(csv.reader(text, delimiter=separator, strict=True), [])
        except csv.Error:
            return False, 0
        except UnicodeDecodeError:
            _raise_no_unicode(origin, 0)
        return any(name.strip() in INPUTS for name in header), len(header)

    return max(SEPARATORS, key=worth)


def _rows(reader: _Reader, columns: tuple[str, ...], origin: str) -> Iterator[Row]:
    number = 0
    while True:
        line = reader.line_num + 1
        cells = _next_cells(reader, origin, number)
        if cells is None:
            return
        if not any(cells):
            continue
        number += 1
        row = Row(number, {name: cell for name, cell in zip(columns, cells, strict=False) if name}, line)
        if len(cells) != len(columns):
            raise row_fault(origin, row, _ragged(len(cells), len(columns)))
        yield row


def _next_cells(reader: _Reader, origin: str, rows_before: int) -> list[str] | None:
    try:
        return next(reader, None)
    except csv.Error as error:
        raise InputError(
            f"{origin}: row {rows_before + 1} (up to line {reader.line_num}): no valid CSV: {error}",
            hint='A quote opens and ends a cell; inside one it is written twice, e.g. "say ""hello""".',
        ) from error
    except UnicodeDecodeError:
        _raise_no_unicode(origin, rows_before)


def _raise_no_unicode(origin: str, rows_before: int) -> NoReturn:
    raise InputError(f"{origin}: is no UTF-8 text after row {rows_before}", hint="Save the file as UTF-8.") from None


def _ragged(cells: int, columns: int) -> CellError:
    return CellError(
        f"has {cells} cells where the header has {columns}",
        hint="Put quotes around a cell that holds the separator; an empty cell keeps its separator.",
    )
