"""Excel workbooks into rows: the first sheet, its first row the header, each cell as the text that it shows.

pandas reads them, and is imported only then. A workbook is small beside what it unpacks to, so its unpacked size is
bounded before that.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from typing import Any, Final

from testbench.errors import InputError
from testbench.sources.formats.dataset_format import DatasetFile, DatasetFormat, Row, Table, check_header

MAX_UNPACKED_BYTES: Final = 512 * 1024 * 1024


def read_excel(file: DatasetFile) -> Table:
    """Return the table on the first sheet of `file`.

    Raises:
        InputError: it is not a workbook, or a broken one, or one that is larger than can be meant.
    """
    import pandas as pd  # here: it takes longer to import than most datasets to read

    _check_unpacked_size(file)
    try:
        sheet = pd.read_excel(file.content, header=None, dtype=str, keep_default_na=False, na_filter=False)
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise _broken_workbook(file.origin, error) from error
    if sheet.empty:
        return Table(file.origin, iter(()), (), cells_are_text=True)
    columns = check_header(file.origin, (str(name) for name in sheet.iloc[0]))
    return Table(file.origin, _read_rows(sheet, columns), tuple(filter(None, columns)), cells_are_text=True)


def _check_unpacked_size(file: DatasetFile) -> None:
    try:
        with zipfile.ZipFile(file.content) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except zipfile.BadZipFile as error:
        raise _broken_workbook(file.origin, error) from error
    finally:
        file.content.seek(0)
    if unpacked > MAX_UNPACKED_BYTES:
        raise InputError(f"{file.origin}: unpacks to {unpacked:,} bytes", hint="Save so large a dataset as Parquet.")


def _read_rows(sheet: Any, columns: tuple[str, ...]) -> Iterator[Row]:
    number = 0
    for line, cells in enumerate(sheet.iloc[1:].itertuples(index=False, name=None), start=2):
        if any(cells):
            number += 1
            yield Row(number, {name: cell for name, cell in zip(columns, cells, strict=True) if name}, line)


def _broken_workbook(origin: str, error: Exception) -> InputError:
    return InputError(f"{origin}: not an Excel workbook that can be read: {error}", hint="Save it anew as .xlsx.")


EXCEL: Final = DatasetFormat(
    name="Excel",
    read=read_excel,
    suffixes=(".xlsx",),
    media_types=("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",),
)
