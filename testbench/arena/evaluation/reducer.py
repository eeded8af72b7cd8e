"""An evaluation's reducer: from the parts of all shards to the verdict and the files that people and machines read.

    parts -> reduction -> experiment -> verdict -> results.json verdict.json report.html [junit.xml] [results.csv]
                                                -> conclusion -> summary.json, the last one

    parts of an earlier run -> results without errors -> parts of a new run (`take_over`)

Called by the commands `reduce`, `run` and `run-all` of `testbench arena`. All files follow from the parts, times
included, so that a reducer that is started again writes the same ones. Those of an incomplete run have a folder of
their own: it may still be completed, and no file is ever written over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from testbench import __version__
from testbench.arena.conclusion import Conclusion
from testbench.arena.evaluation.results import ItemResult, Reduction, build_experiment, reduce_parts
from testbench.arena.evaluation.rows import (
    ItemRow,
    build_row,
    build_rows,
    conclude_evaluation,
    encode_csv,
    encode_junit,
)
from testbench.arena.plan.model import Plan
from testbench.arena.runs.context import JobContext, RunFolder, name_part
from testbench.arena.runs.parts import compute_checksum, is_done, read_counted_parts, read_done_markers
from testbench.arena.runs.records import write_outputs
from testbench.arena.stores import write_once
from testbench.errors import NothingToDo
from testbench.gating.decision import reach_verdict
from testbench.results.verdict import Verdict
from testbench.safe_text import redact_url
from testbench.schema.models import EvaluatedExperiment, EvaluationRecord, RunRecord
from testbench.schema.shards import all_shards

RESULTS_FILE: Final = "results.json"
VERDICT_FILE: Final = "verdict.json"
REPORT_FILE: Final = "report.html"
CSV_FILE: Final = "results.csv"
JUNIT_FILE: Final = "junit.xml"


async def reduce_evaluation(context: JobContext) -> Conclusion:
    """Return the end of the run, with its outputs written. What went wrong is its reason, not an exception.

    Raises:
        StoreError: the parts cannot be read.
    """
    plan, checksums = context.plan, dict[str, str]()
    reduction = reduce_parts(plan, _read_parts(context, checksums))
    shards = all_shards(context.shard.count)
    missing = [shard.index for shard in shards if not is_done(context.store, plan, shard, checksums)]
    experiment = _build_experiment(context, reduction)
    verdict = reach_verdict(experiment, context.outputs.policy)
    found = list(build_rows(plan, experiment))
    conclusion = conclude_evaluation(verdict, reduction, missing, found)
    complete = reduction.complete and not missing
    folder = "" if complete else f"incomplete-{len(reduction.results)}-of-{len(plan.items)}"
    files = _make_files(context, experiment, verdict, found)
    publish = partial(_publish, context, experiment) if context.outputs.publish else None
    return await write_outputs(context.store, conclusion, files, folder=folder, publish=publish)


def _read_parts(context: JobContext, checksums: dict[str, str]) -> Iterator[bytes]:
    """Yield every part that counts, its checksum noted."""
    for name, content in read_counted_parts(context.store, read_done_markers(context.store, context.plan)):
        checksums[name] = compute_checksum(content)
        yield content


# --- the experiment -------------------------------------------------------------------------------------------------


def _build_experiment(context: JobContext, reduction: Reduction) -> EvaluatedExperiment:
    """Return all items as one experiment, with the records of who was asked, by whom it was judged, and when."""
    plan, found = context.plan, list(reduction.results.values())
    starts = [step.started_at for one in found for step in one.scenario.steps if step.started_at is not None]
    ends = [one.finished_at for one in found]
    started = min(starts or ends, default=context.clock.now())
    seconds = (max(ends, default=started) - started).total_seconds()
    record = EvaluationRecord(
        judge_model=_find_judge_model(plan, reduction),
        testbench_version=__version__,
        started_at=started,
        wall_seconds=max(0.0, seconds),
        identity=plan.digest,
    )
    run = RunRecord(
        agent_url=_find_address(context),
        agent_name=", ".join(system.label for system in plan.systems) or None,
        workflow_name=plan.job,
        testbench_version=__version__,
        started_at=started,
        wall_seconds=max(0.0, seconds),
        identity=plan.digest,
        repeats=max((item.repetition for item in plan.items), default=1),
    )
    return build_experiment(plan, reduction, record).model_copy(update={"run": run})


def _find_judge_model(plan: Plan, reduction: Reduction) -> str | None:
    """Return the model that has judged, as the first item of the plan says that names one."""
    for item in plan.items:
        result = reduction.results.get(item.key)
        model = _get_judge_model(result) if result is not None else None
        if model is not None:
            return model
    return None


def _get_judge_model(result: ItemResult) -> str | None:
    scenario = result.scenario
    judged = [*scenario.evaluations, *(one for step in scenario.steps for one in step.evaluations)]
    return next((one.result.judge_model for one in judged if one.result.judge_model), None)


def _find_address(context: JobContext) -> str:
    """Return the address of the only system under test; several have none in common."""
    systems = context.plan.systems
    if len(systems) != 1:
        return ""
    namespace = context.job.metadata.namespace
    if systems[0].kind == "agent":
        agent = context.documents.agents.named(systems[0].name, namespace)
        endpoint = agent.endpoint() if agent is not None else None
        return redact_url(endpoint.url) if endpoint is not None else ""
    provider = context.documents.providers.named(systems[0].name, namespace)
    return redact_url(provider.spec.base_url or "") if provider is not None else ""


# --- the files ------------------------------------------------------------------------------------------------------


def _make_files(
    context: JobContext, experiment: EvaluatedExperiment, verdict: Verdict, found: Sequence[ItemRow]
) -> Iterator[tuple[str, bytes]]:
    """Yield what is written, one after the other: a run of 100,000 items has large files."""
    settings = context.job.spec.evaluation
    formats = set(settings.output_formats) if settings is not None else set()
    yield RESULTS_FILE, experiment.model_dump_json(exclude_none=True).encode() + b"\n"
    yield VERDICT_FILE, verdict.model_dump_json(indent=2).encode() + b"\n"
    if "csv" in formats:
        yield CSV_FILE, encode_csv(context.plan, context.run_id, found)
    if "junit" in formats:
        yield JUNIT_FILE, encode_junit(context.plan, found)
    yield REPORT_FILE, report(context, experiment, verdict)


def report(context: JobContext, experiment: EvaluatedExperiment, verdict: Verdict) -> bytes:
    """Return the page that people read, with the matrix of systems under test and scenarios."""
    from testbench.gc_policy import no_cycle_collection
    from testbench.report.render import render_report
    from testbench.report.report_rows import TraceLinks
    from testbench.report.view import Labels

    links = TraceLinks.from_template(context.outputs.trace_url)
    with no_cycle_collection():
        return render_report(experiment, verdict, Labels(context.plan.job, context.run_id, 1), links=links)


async def _publish(context: JobContext, experiment: EvaluatedExperiment) -> None:
    """Scores as gauges and events.

    Raises:
        TelemetryError: not all of it has arrived.
        InputError: the environment names no usable endpoint.
    """
    from testbench.telemetry.points import Execution
    from testbench.telemetry.publication import PublishSettings, publish

    with suppress(NothingToDo):  # which the verdict says too
        await publish(
            experiment, Execution(context.plan.job, context.run_id, 1), PublishSettings(), context.environment
        )


def take_over(earlier: RunFolder, run_id: str, new: RunFolder, plan: Plan, shards: int) -> int:
    """Hand the results of the earlier run `run_id` on to the new one, and return how many there are.

    A result is kept if nothing in it is an error, whatever its score. A part that was changed after its shard was done
    is not read, and a run that has begun already keeps what it took.

    Raises:
        StoreError: the parts cannot be read, or not be written.
    """
    results = reduce_parts(plan, _read_intact_parts(earlier, plan)).results
    kept = {
        item.key: results[item.key]
        for item in plan.items
        if item.key in results and build_row(item, results[item.key].scenario).status != "error"
    }
    for shard in all_shards(shards):
        own = [kept[item.key] for item in shard.of(plan.items) if item.key in kept]
        if own:
            lines = [result.model_dump_json(exclude_none=True).encode() + b"\n" for result in own]
            write_once(new, name_part(shard.index, f"of-{run_id}", 1), b"".join(lines))
    return len(kept)


def _read_intact_parts(earlier: RunFolder, plan: Plan) -> Iterator[bytes]:
    """Yield the parts that are what their workers wrote, as far as a marker says so."""
    markers = read_done_markers(earlier, plan)
    digests = {name: digest for marker in markers.values() for name, digest in marker.parts.items()}
    for name, content in read_counted_parts(earlier, markers):
        if name not in digests or digests[name] == compute_checksum(content):
            yield content
