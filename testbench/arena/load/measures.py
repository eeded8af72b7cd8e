"""What a load test measured: exact percentiles over all workers, rates, errors by kind, and a series by the second.

    Sample of each turn -> parts (Parquet) -> one table -> Measures -> summary, report, limits

Samples are kept raw: percentiles do not average, so every worker hands on all it saw.

A latency runs from the moment at which the turn was due to the end of the answer, so that waiting for a generator or a
system that is behind counts. Percentiles are nearest-rank: always a value that was measured. Turns without an answer
have no latency; they are in `error_rate`, and without any answer there is no latency at all.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field

from testbench.arena.plan.model import PlanModel
from testbench.errors import StoreError
from testbench.results.percentiles import nearest_rank

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

PERCENTILES: Final = (50, 90, 95, 99)
SLIP_LIMIT_MS: Final = 50.0
SLIP_PART_OF_MEDIAN: Final = 0.1
RATE_LIMITED: Final = "rate_limited"
DROPPED: Final = "dropped"
"""A turn that the generator did not send because too many were in flight."""


class Distribution(PlanModel):
    """Times in milliseconds; percentiles are values that were measured."""

    count: int
    avg: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float


class Second(PlanModel):
    """One second of the test, by when its turns were due."""

    second: int
    due: int
    answered: int
    errors: int
    p50_ms: float | None
    p95_ms: float | None


class Measures(PlanModel):
    """A load test in numbers; rates are turns a second, or proportions where the name says so."""

    turns: int
    answered: int
    errors: Mapping[str, int] = Field(description="Turns without an answer, by kind.")
    rps_target: float | None
    rps_achieved: float | None = Field(description="Turns sent a second, while the target was planned.")
    error_rate: float | None = Field(description="Proportion of turns without an answer; absent where none was sent.")
    rate_limit_rate: float | None
    latency_ms: Distribution | None
    ttft_ms: Distribution | None = Field(description="Time to the first token, from when the turn was due.")
    slip_ms: Distribution | None = Field(description="How late the generator itself sent.")
    input_tokens: int | None
    output_tokens: int | None
    total_cost: float | None = Field(description="USD, absent where any answered turn has no known cost.")
    by_system: Mapping[str, Distribution | None] = Field(default={}, description="Latency of each system.")
    series: tuple[Second, ...] = ()

    @property
    def generator_slipped(self) -> bool:
        """Whether the generator was too late to be believed: p99 over 50 ms and over a tenth of the median latency."""
        if self.slip_ms is None:
            return False
        median = self.latency_ms.p50 if self.latency_ms is not None else 0.0
        return self.slip_ms.p99 > max(SLIP_LIMIT_MS, SLIP_PART_OF_MEDIAN * median)


def measure(table: pa.Table, rps_target: float | None, plateau: tuple[float, float] | None = None) -> Measures:
    """Return the measures of a table of samples.

    `plateau` is when the target rate was planned, from and to; without it the achieved rate is that of the whole test.
    """
    import numpy as np

    columns = {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}
    due, sent, ended = columns["intended_s"], columns["sent_s"], columns["ended_s"]
    answered = np.array(table["error"].is_null().to_numpy(zero_copy_only=False), dtype=bool)
    latency, first = (ended - due) * 1000, (columns["first_token_s"] - due) * 1000
    turns, errors = len(table), _count_errors(table)
    return Measures(
        turns=turns,
        answered=int(answered.sum()),
        errors=errors,
        rps_target=rps_target,
        rps_achieved=_compute_rate(table, sent, plateau),
        error_rate=sum(errors.values()) / turns if turns else None,
        rate_limit_rate=errors.get(RATE_LIMITED, 0) / turns if turns else None,
        latency_ms=describe_times(latency[answered]),
        ttft_ms=describe_times(first[answered & ~np.isnan(first)]),
        slip_ms=describe_times((sent - due)[columns["turn"] == 0] * 1000),
        input_tokens=_sum_column(table, "input_tokens"),
        output_tokens=_sum_column(table, "output_tokens"),
        total_cost=_sum_cost(table),
        by_system={
            name: describe_times(latency[answered & (columns["system"] == name)])
            for name in sorted(set(columns["system"]))
        },
        series=_make_series(due, latency, answered),
    )


def _compute_rate(table: pa.Table, sent: NDArray[np.float64], plateau: tuple[float, float] | None) -> float | None:
    """Turns that were sent, by the second."""
    import numpy as np
    import pyarrow.compute as pc

    dropped = pc.fill_null(pc.equal(table["error"], DROPPED), False).to_numpy(zero_copy_only=False)
    times = sent[~np.array(dropped, dtype=bool)]
    if not len(times):
        return None
    begin, end = plateau or (float(times.min()), float(times.max()))
    if end <= begin:
        return None
    within = len(times) if plateau is None else int(((times >= begin) & (times < end)).sum())
    return round(within / (end - begin), 3)


def describe_times(milliseconds: NDArray[np.float64]) -> Distribution | None:
    """Return the distribution of some times, or None where there are none."""
    import numpy as np

    count = len(milliseconds)
    if not count:
        return None
    ordered = np.sort(milliseconds)
    values = {f"p{percent}": ordered[nearest_rank(count, percent)] for percent in PERCENTILES}
    values |= {"avg": milliseconds.mean(), "max": ordered[-1]}
    return Distribution(count=count, **{name: round(float(value), 3) for name, value in values.items()})


def _count_errors(table: pa.Table) -> dict[str, int]:
    import pyarrow.compute as pc

    counted = pc.value_counts(table["error"].drop_null().combine_chunks()).to_pylist()
    return {entry["values"]: entry["counts"] for entry in sorted(counted, key=lambda entry: str(entry["values"]))}


def _sum_column(table: pa.Table, column: str) -> int | None:
    import pyarrow.compute as pc

    total = pc.sum(table[column]).as_py()
    return None if total is None else int(total)


def _sum_cost(table: pa.Table) -> float | None:
    """Return the sum, if every answered turn has one: a sum over some would look like a bargain."""
    import pyarrow.compute as pc

    answered = table.filter(pc.is_null(table["error"]))
    if not len(answered) or answered["cost_usd"].null_count:
        return None
    total = pc.sum(table["cost_usd"]).as_py()
    return None if total is None else round(float(total), 9)


def _make_series(
    due: NDArray[np.float64], latency: NDArray[np.float64], answered: NDArray[np.bool_]
) -> tuple[Second, ...]:
    import numpy as np

    if not len(due):
        return ()
    order = np.argsort(due, kind="stable")
    seconds = np.floor(due[order]).astype(int)
    borders = np.searchsorted(seconds, np.arange(seconds[0], seconds[-1] + 2))
    found = []
    for offset, (start, end) in enumerate(pairwise(borders)):
        rows = order[start:end]
        of_answers = describe_times(latency[rows][answered[rows]])
        found.append(
            Second(
                second=int(seconds[0]) + offset,
                due=len(rows),
                answered=int(answered[rows].sum()),
                errors=int((~answered[rows]).sum()),
                p50_ms=of_answers.p50 if of_answers else None,
                p95_ms=of_answers.p95 if of_answers else None,
            )
        )
    return tuple(found)


@dataclass(frozen=True, slots=True)
class TurnSample:
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


COLUMNS: Final = tuple(field.name for field in fields(TurnSample))


def encode_samples(samples: Iterable[TurnSample]) -> bytes:
    """Return the samples as one Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = tuple(samples)
    table = pa.table({name: [getattr(sample, name) for sample in found] for name in COLUMNS}, schema=_make_schema())
    target = io.BytesIO()
    pq.write_table(table, target, compression="zstd")
    return target.getvalue()


def read_samples(parts: Iterable[bytes]) -> pa.Table:
    """Return all samples of all parts, an arrival that a worker recorded twice counted once.

    Raises:
        StoreError: a part is no Parquet file of these columns.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        tables = [pq.read_table(pa.BufferReader(part)).select(list(COLUMNS)).cast(_make_schema()) for part in parts]
    except (pa.ArrowException, KeyError, ValueError, OSError) as error:
        raise StoreError(
            f"a part of the samples cannot be read: {type(error).__name__}", hint="Run the load test again."
        ) from error
    table = pa.concat_tables([_make_schema().empty_table(), *tables])
    return _drop_repeated(table)


def count_samples(table: pa.Table) -> dict[int, int]:
    """Return how many samples of each worker are there."""
    import pyarrow.compute as pc

    return {entry["values"]: entry["counts"] for entry in pc.value_counts(table["worker"].combine_chunks()).to_pylist()}


def _drop_repeated(table: pa.Table) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    numbered = table.append_column("row", pa.array(range(len(table)), pa.int64()))
    first = numbered.group_by(["arrival", "turn"]).aggregate([("row", "min")])["row_min"].combine_chunks()
    return table if len(first) == len(table) else table.take(first.take(pc.array_sort_indices(first)))


def _make_schema() -> pa.Schema:
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
