"""A load test's reducer: from the parts of all workers to the verdict and the files that people and machines read.

    parts -> samples, kept conversations -> measures, quality -> limits -> conclusion
          -> results.json samples.parquet report.html [junit.xml] [results.csv] -> summary.json, the last one

The files of a test with missing workers have a folder of their own: a worker may still be at work,
and no file is ever written over.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from testbench.arena.conclusion import Conclusion
from testbench.arena.load.generator import Stopped
from testbench.arena.load.limits import check_limits, conclude_load
from testbench.arena.load.measures import count_samples, measure, read_samples
from testbench.arena.load.outputs import LoadResults, encode_limits, encode_series, render_report
from testbench.arena.load.quality import compute_pass_rate, judge_kept
from testbench.arena.load.recording import END_FILE, KeptScenario, LoadEnd
from testbench.arena.load.traffic import compute_mean_turns, get_load_settings, list_draws, make_profile
from testbench.arena.runs.context import SHARDS, JobContext, name_shard_folder
from testbench.arena.runs.parts import compute_checksum, is_done, read_parts
from testbench.arena.runs.records import write_outputs
from testbench.schema.shards import all_shards

if TYPE_CHECKING:
    import pyarrow as pa


RESULTS_FILE: Final = "results.json"
SAMPLES_FILE: Final = "samples.parquet"
REPORT_FILE: Final = "report.html"
CSV_FILE: Final = "results.csv"
JUNIT_FILE: Final = "junit.xml"
TOGETHER_S: Final = 1.0
"""How far apart the starts of workers may be that should have begun at the same time."""
STOPS_FIRST: Final[tuple[Stopped, ...]] = ("cancelled", "unpriced", "budget")


@dataclass(frozen=True)
class _LoadParts:
    """What the workers left: `ends` by worker, of those alone that are done and of which every sample is there."""

    table: pa.Table
    kept: Sequence[KeptScenario]
    ends: Mapping[int, LoadEnd]
    missing: tuple[int, ...]


async def reduce_load(context: JobContext) -> Conclusion:
    """Return the end of the test, with its outputs written. What went wrong is its reason, not an exception.

    Raises:
        StoreError: the parts cannot be read.
    """
    found = _read_found(context)
    results, conclusion = await _conclude(context, found)
    folder = f"incomplete-{len(found.ends)}-of-{context.shard.count}-workers" if found.missing else ""
    files = _make_files(context, results, conclusion, found.table)
    return await write_outputs(context.store, conclusion, files, folder=folder)


def _read_found(context: JobContext) -> _LoadParts:
    """Return all that is in the store.

    Raises:
        StoreError: the store did not answer, or a part cannot be read.
    """
    samples, lines, checksums = list[bytes](), list[bytes](), dict[str, str]()
    for name, content in read_parts(context.store, SHARDS):
        checksums[name] = compute_checksum(content)
        if name.endswith(".parquet"):
            samples.append(content)
        else:
            lines += content.splitlines()
    shards = all_shards(context.shard.count)
    done = [shard.index for shard in shards if is_done(context.store, context.plan, shard, checksums)]
    table = read_samples(samples)
    counted = count_samples(table)
    ends = {
        index: end
        for index in done
        if (end := _read_end(context, index)) is not None and end.samples == counted.get(index, 0)
    }
    kept = [one for line in lines if (one := _read_kept(line)) is not None]
    missing = tuple(index for index in range(context.shard.count) if index not in ends)
    return _LoadParts(table, kept, ends, missing)


def _read_end(context: JobContext, index: int) -> LoadEnd | None:
    content = context.store.read(f"{name_shard_folder(index)}/{END_FILE}")
    try:
        return None if content is None else LoadEnd.model_validate_json(content)
    except ValidationError:
        return None


def _read_kept(line: bytes) -> KeptScenario | None:
    """Return a kept conversation; a line that was cut belongs to a worker that was stopped, which is missing anyway."""
    try:
        return KeptScenario.model_validate_json(line)
    except ValidationError:
        return None


async def _conclude(context: JobContext, found: _LoadParts) -> tuple[LoadResults, Conclusion]:
    settings, ends = get_load_settings(context.job), list(found.ends.values())
    arrivals = make_profile(context.job, list_draws(context.plan))
    plateau = None
    if arrivals is not None and arrivals.duration_s > arrivals.ramp_s:
        plateau = arrivals.ramp_s, arrivals.duration_s
    measures = measure(found.table, settings.target_rps, plateau)
    levels = await judge_kept(context, found.kept)
    rate = compute_pass_rate(levels)
    limits = check_limits(settings, measures, rate)
    stop = find_stop(ends)
    conclusion = conclude_load(measures, limits, found.missing, stop, together=have_begun_together(ends))
    if rate is not None:
        conclusion = conclusion.model_copy(update={"summary": {**conclusion.summary, "pass_rate": f"{rate:g}"}})
    results = LoadResults(
        job=context.plan.job,
        run_id=context.run_id,
        plan_digest=context.plan.digest,
        workers=context.shard.count,
        missing_workers=found.missing,
        started_at=min((end.started_at for end in ends), default=None),
        stopped_by=stop,
        reason=conclusion.reason,
        message=conclusion.message,
        limits=limits,
        pass_rate=rate,
        levels=levels,
        measures=measures,
    )
    return results, conclusion


def _make_files(
    context: JobContext, results: LoadResults, conclusion: Conclusion, table: pa.Table
) -> Iterator[tuple[str, bytes]]:
    settings, draws = get_load_settings(context.job), list_draws(context.plan)
    evaluation = context.job.spec.evaluation
    formats = set(evaluation.output_formats) if evaluation is not None else set()
    yield RESULTS_FILE, results.model_dump_json(indent=2).encode() + b"\n"
    yield SAMPLES_FILE, _encode_table(table)
    if "csv" in formats:
        yield CSV_FILE, encode_series(results.measures)
    if "junit" in formats:
        yield JUNIT_FILE, encode_limits(context.plan.job, conclusion, results.limits)
    yield REPORT_FILE, render_report(results, settings, make_profile(context.job, draws), compute_mean_turns(draws))


def _encode_table(table: pa.Table) -> bytes:
    import pyarrow.parquet as pq

    target = io.BytesIO()
    pq.write_table(table, target, compression="zstd")
    return target.getvalue()


def find_stop(ends: Sequence[LoadEnd]) -> Stopped:
    """Return what ended the test: the gravest of what the workers say."""
    said = {end.stopped_by for end in ends}
    return next((stop for stop in STOPS_FIRST if stop in said), "duration")


def have_begun_together(ends: Sequence[LoadEnd]) -> bool:
    """Return whether all workers count from the same start."""
    starts = [end.started_at for end in ends]
    return not starts or (max(starts) - min(starts)).total_seconds() <= TOGETHER_S
