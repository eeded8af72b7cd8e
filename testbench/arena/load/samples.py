"""One sample for each turn that was sent, kept raw: percentiles do not average, so every worker hands on all it saw.

Workers write Parquet parts; the reducer reads them as one table. Times are seconds from the common start of the test.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from testbench.errors import StoreError

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_OF_A_PART: Final = 50_000


@dataclass(frozen=True, slots=True)
class Sample:
    """One turn of one conversation.

    `intended_s` is when it was due, `sent_s` when the generator got round to it. A turn without an answer has an
    `error` and no `first_token_s`; `ended_s` is when that was known.
    """

    arrival: int
    worker: int
    scenario: str
    system: str
    turn: int
    intended_s: float
    sent_s: float
    first_token_s: float | None
    ended_s: float
    error: str | None
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None


COLUMNS: Final = tuple(field.name for field in fields(Sample))


def part_of(samples: Iterable[Sample]) -> bytes:
    """The samples as one Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = tuple(samples)
    table = pa.table({name: [getattr(sample, name) for sample in found] for name in COLUMNS}, schema=_schema())
    target = io.BytesIO()
    pq.write_table(table, target, compression="zstd")
    return target.getvalue()


def table_of(parts: Iterable[bytes]) -> pa.Table:
    """All samples of all parts, an arrival that a worker recorded twice counted once.

    Raises:
        StoreError: a part is no Parquet file of these columns.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        tables = [pq.read_table(pa.BufferReader(part)).select(list(COLUMNS)).cast(_schema()) for part in parts]
    except (pa.ArrowException, KeyError, ValueError, OSError) as error:
        raise StoreError(
            f"a part of the samples cannot be read: {type(error).__name__}", hint="Run the load test again."
        ) from error
    table = pa.concat_tables([_schema().empty_table(), *tables])
    return _once(table)


def samples_by_worker(table: pa.Table) -> dict[int, int]:
    """How many samples of each worker are there."""
    import pyarrow.compute as pc

    return {entry["values"]: entry["counts"] for entry in pc.value_counts(table["worker"].combine_chunks()).to_pylist()}


def _once(table: pa.Table) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    numbered = table.append_column("row", pa.array(range(len(table)), pa.int64()))
    first = numbered.group_by(["arrival", "turn"]).aggregate([("row", "min")])["row_min"].combine_chunks()
    return table if len(first) == len(table) else table.take(first.take(pc.array_sort_indices(first)))


def _schema() -> pa.Schema:
    import pyarrow as pa

    kinds: dict[str, Any] = {
        "arrival": pa.int64(),
        "worker": pa.int32(),
        "scenario": pa.string(),
        "system": pa.string(),
        "turn": pa.int32(),
        "intended_s": pa.float64(),
        "sent_s": pa.float64(),
        "first_token_s": pa.float64(),
        "ended_s": pa.float64(),
        "error": pa.string(),
        "input_tokens": pa.int64(),
        "output_tokens": pa.int64(),
        "cost_usd": pa.float64(),
    }
    return pa.schema([pa.field(name, kinds[name]) for name in COLUMNS])
