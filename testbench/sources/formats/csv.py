"""CSV into rows, one at a time; comma, semicolon or tab, UTF-8 with or without a byte order mark.

The standard library's reader is used and not pandas', which fills up a row that is too short and does not say so, and
which cannot tell in which line of the file a row began. Blank lines are passed over. A column without a name (what
pandas' `to_csv` makes of its index) is left out.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Final, NoReturn, Protocol, TextIO

from testbench.errors import InputError
from testbench.sources.formats.dataset_format import (
    INPUT_COLUMNS,
    CellError,
    DatasetFile,
    DatasetFormat,
    Row,
    Table,
    check_header,
    row_fault,
)

SEPARATORS: Final = (",", ";", "\t")
MAX_CELL_CHARACTERS: Final = 64 * 1024 * 1024


class _CsvReader(Protocol):
    """What `csv.reader` returns, whose type has no public name."""

    @property
    def line_num(self) -> int: ...

    def __next__(self) -> list[str]: ...

    def __iter__(self) -> Iterator[list[str]]: ...


def read_csv(file: DatasetFile) -> Table:
    """Return the table in `file`. Its header is read at once, its rows as they are asked for.

    Raises:
        InputError: the header cannot be read; later, a row that is broken, or longer or shorter than the header.
    """
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    text = file.text(newline="")
    separator = _choose_separator(text, file.origin)
    text.seek(0)
    reader = csv.reader(text, delimiter=separator, strict=True)
    header = _read_cells(reader, file.origin, 0) or []
    columns = check_header(file.origin, header)
    named = tuple(name for name in columns if name)
    return Table(file.origin, _read_rows(reader, columns, file.origin), named, cells_are_text=True)


def _choose_separator(text: TextIO, origin: str) -> str:
    """Return the separator whose header names the user's input, else the one that makes the most columns."""

    def worth(separator: str) -> tuple[bool, int]:
        text.seek(0)
        try:
            header = next(csv.reader(text, delimiter=separator, strict=True), [])
        except csv.Error:
            return False, 0
        except UnicodeDecodeError:
            _refuse_other_encoding(origin, 0)
        return any(name.strip() in INPUT_COLUMNS for name in header), len(header)

    return max(SEPARATORS, key=worth)


def _read_rows(reader: _CsvReader, columns: tuple[str, ...], origin: str) -> Iterator[Row]:
    number = 0
    while True:
        line = reader.line_num + 1
        cells = _read_cells(reader, origin, number)
        if cells is None:
            return
        if not any(cells):
            continue
        number += 1
        row = Row(number, {name: cell for name, cell in zip(columns, cells, strict=False) if name}, line)
        if len(cells) != len(columns):
            raise row_fault(origin, row, _ragged_row_error(len(cells), len(columns)))
        yield row


def _read_cells(reader: _CsvReader, origin: str, rows_before: int) -> list[str] | None:
    try:
        return next(reader, None)
    except csv.Error as error:
        raise InputError(
            f"{origin}: row {rows_before + 1} (up to line {reader.line_num}): not valid CSV: {error}",
            hint='A quote opens and ends a cell; inside one it is written twice, e.g. "say ""hello""".',
        ) from error
    except UnicodeDecodeError:
        _refuse_other_encoding(origin, rows_before)


def _refuse_other_encoding(origin: str, rows_before: int) -> NoReturn:
    raise InputError(f"{origin}: is not UTF-8 text after row {rows_before}", hint="Save the file as UTF-8.") from None


def _ragged_row_error(cells: int, columns: int) -> CellError:
    return CellError(
        f"has {cells} cells where the header has {columns}",
        hint="Put quotes around a cell that holds the separator; an empty cell keeps its separator.",
    )


def _names_the_input(start: bytes) -> bool:
    """Return whether the first line, cut at any of the separators, names the user's input."""
    first_line = start.partition(b"\n")[0]
    names = {name.strip(b' "\r') for separator in SEPARATORS for name in first_line.split(separator.encode())}
    return any(name.encode() in names for name in INPUT_COLUMNS)


CSV: Final = DatasetFormat(
    name="CSV",
    read=read_csv,
    suffixes=(".csv", ".tsv"),
    media_types=("text/csv", "application/csv", "text/tab-separated-values"),
    recognize=_names_the_input,
)
