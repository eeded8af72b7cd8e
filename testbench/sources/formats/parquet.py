"""Parquet into rows, one batch at a time; list columns arrive as lists. Arrow reads them, and is imported only then.

A key that is null in a struct is left out: Parquet gives every row of a struct column the keys of all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from testbench.errors import InputError
from testbench.sources.formats.dataset_format import DatasetFile, DatasetFormat, Row, Table

BATCH_ROWS: Final = 1024

_PANDAS_INDEX: Final = "__index_level_"


def read_parquet(file: DatasetFile) -> Table:
    """Return the table in `file`; its columns are known at once, its rows are read as they are asked for.

    Raises:
        InputError: it is not a Parquet file, or a broken one; also from the rows.
    """
    import pyarrow as pa  # here: it takes longer to import than most datasets to read
    import pyarrow.parquet as pq

    try:
        parquet = pq.ParquetFile(file.content)
    except (pa.ArrowException, OSError) as error:
        raise _broken_file(file.origin, error) from error
    columns = tuple(name for name in parquet.schema_arrow.names if not name.startswith(_PANDAS_INDEX))
    return Table(file.origin, _read_rows(parquet, columns, file.origin), columns)


def _read_rows(parquet: Any, columns: tuple[str, ...], origin: str) -> Iterator[Row]:
    import pyarrow as pa

    number = 0
    try:
        for batch in parquet.iter_batches(batch_size=BATCH_ROWS, columns=list(columns)):
            for values in batch.to_pylist(maps_as_pydicts="lossy"):
                number += 1
                yield Row(number, {name: _without_nulls(value) for name, value in values.items()})
    except (pa.ArrowException, OSError) as error:
        raise _broken_file(origin, error) from error


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def _broken_file(origin: str, error: Exception) -> InputError:
    return InputError(
        f"{origin}: not a Parquet file that can be read: {str(error).partition(chr(10))[0]}",
        hint="Check that the file is complete.",
    )


PARQUET: Final = DatasetFormat(
    name="Parquet",
    read=read_parquet,
    suffixes=(".parquet", ".pq"),
    media_types=("application/vnd.apache.parquet", "application/parquet", "application/x-parquet"),
    magic=b"PAR1",
)
