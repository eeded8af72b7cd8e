"""A load test's reducer: from the parts of all workers to the verdict and the files that people and machines read.

    parts -> samples, kept conversations -> measures, quality -> limits -> conclusion
          -> results.json samples.parquet report.html [junit.xml] [results.csv] -> summary.json, the last one

Called by `load`. The files of a test with missing workers have a folder of their own: a worker may still be at work,
and no file is ever written over.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from pydantic import ValidationError

from testbench import __version__
from testbench.arena.conclusion import OUTPUT_FAILED, SUCCEEDED, Conclusion, failed, summary_bytes
from testbench.arena.load.arrivals import RateProfile
from testbench.arena.load.conversations import draws_of, profile, settings_of
from testbench.arena.load.levels import pass_rate
from testbench.arena.load.limits import LIMIT_MISSED, TIMES, LimitResult, check_limits, conclude_load
from testbench.arena.load.measures import Distribution, Measures, measure
from testbench.arena.load.outcome import (
    END_FILE,
    KeptScenario,
    LoadEnd,
    LoadResults,
    began_together,
    limits_junit,
    series_csv,
    stopped_by,
)
from testbench.arena.load.quality import judge_kept
from testbench.arena.load.samples import samples_by_worker, table_of
from testbench.arena.manifest.job import LoadTestSettings, seconds
from testbench.arena.runs.context import SHARDS, SUMMARY_FILE, JobContext, shard_folder
from testbench.arena.runs.parts import checksum, is_done, parts_of
from testbench.arena.stores import writer_of
from testbench.errors import StoreError
from testbench.report.load_report import (
    LevelRow,
    LimitRow,
    LoadNumbers,
    LoadView,
    SecondRow,
    TimesRow,
    format_milliseconds,
    render_load_report,
)
from testbench.report.page import format_money, format_percent
from testbench.schema.shards import all_shards

if TYPE_CHECKING:
    import pyarrow as pa

RATES = ("error_rate", "pass_rate", "rate_limit_rate")


def load_report(
    results: LoadResults, settings: LoadTestSettings, arrivals: RateProfile | None, mean_turns: float
) -> bytes:
    """The page that people read.

    Raises:
        StoreError: Chart.js is not installed.
    """
    measures = results.measures
    view = LoadView(
        job=results.job,
        run_id=results.run_id,
        verdict=_verdict(results.reason),
        reason=results.reason,
        message=results.message,
        systems=tuple(measures.by_system),
        workers=results.workers,
        missing_workers=len(results.missing_workers),
        started_at=results.started_at,
        ramp_s=None if arrivals is None else arrivals.ramp_s,
        duration_s=seconds(settings.duration),
        testbench_version=__version__,
        numbers=_numbers(results),
        limits=tuple(map(_limit, results.limits)),
        times=_times(
            ("Latency", measures.latency_ms),
            ("Time to first token", measures.ttft_ms),
            ("Slip of the generator", measures.slip_ms),
        ),
        by_system=_times(*measures.by_system.items()),
        errors=tuple(sorted(measures.errors.items(), key=lambda entry: (-entry[1], entry[0]))),
        levels=tuple(
            LevelRow(level.name, None if level.rate is None else level.rate * mean_turns, level.judged, level.passed)
            for level in results.levels
        ),
        seconds=_seconds(measures, arrivals, mean_turns),
    )
    return render_load_report(view)


def _verdict(reason: str) -> Literal["pass", "fail", "error"]:
    return "pass" if reason == SUCCEEDED else "fail" if reason == LIMIT_MISSED else "error"


def _numbers(results: LoadResults) -> LoadNumbers:
    measures = results.measures
    latency, ttft, slip = measures.latency_ms, measures.ttft_ms, measures.slip_ms
    return LoadNumbers(
        turns=measures.turns,
        answered=measures.answered,
        error_rate=measures.error_rate,
        rps_target=measures.rps_target,
        rps_achieved=measures.rps_achieved,
        latency_p50=latency.p50 if latency else None,
        latency_p95=latency.p95 if latency else None,
        ttft_p95=ttft.p95 if ttft else None,
        slip_p99=slip.p99 if slip else None,
        slipped=measures.generator_slipped,
        pass_rate=results.pass_rate,
        input_tokens=measures.input_tokens,
        output_tokens=measures.output_tokens,
        cost_usd=measures.total_cost,
    )


def _limit(limit: LimitResult) -> LimitRow:
    measured = None if limit.measured is None else _shown(limit.metric, limit.measured)
    return LimitRow(limit.metric, f"{limit.operator} {_shown(limit.metric, limit.limit)}", measured, limit.kept)


def _shown(metric: str, value: float) -> str:
    if metric.startswith(TIMES):
        return format_milliseconds(value)
    if metric in RATES:
        return format_percent(value)
    return format_money(value)


def _times(*found: tuple[str, Distribution | None]) -> tuple[TimesRow, ...]:
    return tuple(TimesRow(name=name, **one.model_dump()) for name, one in found if one is not None)


def _seconds(measures: Measures, arrivals: RateProfile | None, mean_turns: float) -> tuple[SecondRow, ...]:
    return tuple(
        SecondRow(
            second=one.second,
            planned=None if arrivals is None else round(arrivals.rate_at(one.second + 0.5) * mean_turns, 2),
            due=one.due,
            errors=one.errors,
            p50_ms=one.p50_ms,
            p95_ms=one.p95_ms,
        )
        for one in measures.series
    )


def mean_turns(inputs: Sequence[Sequence[str]]) -> float:
    """Turns of a conversation, on average over what is drawn."""
    return sum(map(len, inputs)) / len(inputs)


RESULTS_FILE: Final = "results.json"
SAMPLES_FILE: Final = "samples.parquet"
REPORT_FILE: Final = "report.html"
CSV_FILE: Final = "results.csv"
JUNIT_FILE: Final = "junit.xml"


@dataclass(frozen=True)
class _Found:
    """What the workers left: `ends` by worker, of those alone that are done and of which every sample is there."""

    table: pa.Table
    kept: Sequence[KeptScenario]
    ends: Mapping[int, LoadEnd]
    missing: tuple[int, ...]


async def conclude_and_write(context: JobContext) -> Conclusion:
    """See `load.reduce_load`."""
    found = _found(context)
    results, conclusion = await _concluded(context, found)
    workers = context.shard.count
    folder = f"incomplete-{len(found.ends)}-of-{workers}-workers" if found.missing else ""
    conclusion = conclusion.model_copy(update={"url": context.store.url(folder)})
    write = writer_of(context.store, folder)
    try:
        for name, content in _files(context, results, conclusion, found.table):
            write(name, content)
        write(SUMMARY_FILE, summary_bytes(conclusion))
    except StoreError as error:
        return failed(conclusion, OUTPUT_FAILED, f"{error.message}.")
    return conclusion


def _found(context: JobContext) -> _Found:
    """All that is in the store.

    Raises:
        StoreError: the store did not answer, or a part cannot be read.
    """
    samples, lines, checksums = list[bytes](), list[bytes](), dict[str, str]()
    for name, content in parts_of(context.store, SHARDS):
        checksums[name] = checksum(content)
        if name.endswith(".parquet"):
            samples.append(content)
        else:
            lines += content.splitlines()
    shards = all_shards(context.shard.count)
    done = [shard.index for shard in shards if is_done(context.store, context.plan, shard, checksums)]
    table = table_of(samples)
    counted = samples_by_worker(table)
    ends = {
        index: end
        for index in done
        if (end := _end(context, index)) is not None and end.samples == counted.get(index, 0)
    }
    kept = [one for line in lines if (one := _kept(line)) is not None]
    missing = tuple(index for index in range(context.shard.count) if index not in ends)
    return _Found(table, kept, ends, missing)


def _end(context: JobContext, index: int) -> LoadEnd | None:
    content = context.store.read(f"{shard_folder(index)}/{END_FILE}")
    try:
        return None if content is None else LoadEnd.model_validate_json(content)
    except ValidationError:
        return None


def _kept(line: bytes) -> KeptScenario | None:
    """A line that was cut belongs to a worker that was stopped, which is missing anyway."""
    try:
        return KeptScenario.model_validate_json(line)
    except ValidationError:
        return None


async def _concluded(context: JobContext, found: _Found) -> tuple[LoadResults, Conclusion]:
    settings, ends = settings_of(context.job), list(found.ends.values())
    arrivals = profile(context.job, draws_of(context.plan))
    plateau = None
    if arrivals is not None and arrivals.duration_s > arrivals.ramp_s:
        plateau = arrivals.ramp_s, arrivals.duration_s
    measures = measure(found.table, settings.target_rps, plateau)
    levels = await judge_kept(context, found.kept)
    rate = pass_rate(levels)
    limits = check_limits(settings, measures, rate)
    stop = stopped_by(ends)
    conclusion = conclude_load(measures, limits, found.missing, stop, together=began_together(ends))
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


def _files(
    context: JobContext, results: LoadResults, conclusion: Conclusion, table: pa.Table
) -> Iterator[tuple[str, bytes]]:
    settings, draws = settings_of(context.job), draws_of(context.plan)
    evaluation = context.job.spec.evaluation
    formats = set(evaluation.output_formats) if evaluation is not None else set()
    yield RESULTS_FILE, results.model_dump_json(indent=2).encode() + b"\n"
    yield SAMPLES_FILE, _parquet(table)
    if "csv" in formats:
        yield CSV_FILE, series_csv(results.measures)
    if "junit" in formats:
        yield JUNIT_FILE, limits_junit(context.plan.job, conclusion, results.limits)
    mean = mean_turns([draw.inputs for draw in draws])
    yield REPORT_FILE, load_report(results, settings, profile(context.job, draws), mean)


def _parquet(table: pa.Table) -> bytes:
    import pyarrow.parquet as pq

    target = io.BytesIO()
    pq.write_table(table, target, compression="zstd")
    return target.getvalue()
