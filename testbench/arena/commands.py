"""`testbench arena`: ArenaJobs on this machine, `testbench arena run job.yaml --source DIR`; and what pods call.

A shell like those of the phases: each command reads its inputs, calls one function and says how it ended. Pods call
`plan-run`, `work` and `reduce`, or `run-all` where one pod does it all.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from testbench.arena.runs.options import (
    awaited,
    executing,
    gathered,
    in_pod,
    job_inputs,
    judging,
    progress,
    run_options,
    sharded,
    telling,
)
from testbench.cli.options import option
from testbench.cli.phase import Outcome, PhaseGroup, run_async
from testbench.errors import Interrupted
from testbench.safe_text import printable

if TYPE_CHECKING:
    from testbench.arena.bundle.bundle import Bundle
    from testbench.arena.conclusion import Conclusion
    from testbench.arena.manifest.job import ArenaJob
    from testbench.arena.plan.model import Plan
    from testbench.arena.runs.opening import Inputs, OpenedRun

command = PhaseGroup(
    "arena",
    "Evaluation, load test and data generation from one manifest, an ArenaJob, on this machine.",
)


@command.phase("validate")
@job_inputs
def validate(**options: Any) -> Outcome:
    """Check MANIFEST, its bundle and every metric, without sending anything.

    MANIFEST is a file with an ArenaJob and the resources that it refers to, or a folder of such files.
    """
    plan = _checked_plan(_inputs(options))
    for warning in plan.warnings:
        click.echo(f"warning: {printable(warning)}", err=True)
    scenarios, tested = len(plan.scenarios), len(plan.systems)
    sentence = f"{scenarios} scenarios and {tested} under test are as they should be"
    return Outcome(sentence, {"job": plan.job, "digest": plan.digest, "warnings": list(plan.warnings)})


@command.phase("plan")
@job_inputs
def plan_job(*, as_json: bool, **options: Any) -> Outcome:
    """Show what MANIFEST would do: every item, who meets whom, and how many calls that makes.

    MANIFEST is a file with an ArenaJob and the resources that it refers to, or a folder of such files.
    """
    from testbench.arena.plan.text import count_calls, format_plan

    inputs = _inputs(options)
    plan = _checked_plan(inputs)
    if plan.type == "datagen":
        return _planned_generation(inputs.job, inputs.bundle, plan, as_json=as_json)
    judged = _judged_evaluations(plan)
    if not as_json:
        click.echo(format_plan(plan))
    calls = count_calls(plan)
    data = plan.model_dump(mode="json", exclude_none=True) | {"calls": vars(calls) | {"judged_evaluations": judged}}
    sentence = f"{len(plan.items):,} items, {calls.messages:,} messages, {judged:,} evaluations by a judge"
    return Outcome(sentence, data)


# --- commands that execute ------------------------------------------------------------------------------------------


@command.phase("run")
@executing
@judging
@option("--workers", type=click.IntRange(1, 256), help="Processes [default: 1, or what the rate of a load test needs].")
@option("--resume", metavar="RUN", help="Take up the run of this name.")
@option("--retry-errors", "earlier", metavar="RUN", help="A new run that does again what was an error in this one.")
@click.option("--dry-run", is_flag=True, help="Check everything, show the plan, and ask nobody.")
def run_job(
    *, workers: int | None, resume: str | None, earlier: str | None, dry_run: bool, as_json: bool, **options: Any
) -> Outcome:
    """Run MANIFEST on this machine, and end with its verdict: exit code 0 for pass and 1 for fail.

    Stopped or killed, `--resume RUN` goes on where it was. After an outage, `--retry-errors RUN` makes a new run that
    keeps what was answered and judged, and does the rest again. Nothing of an earlier run is ever written over.
    """
    from testbench.arena.runs.local import begin_run, execute_run
    from testbench.arena.runs.opening import prepare_run

    run = prepare_run(run_options(options), resume)
    judged = _judged_evaluations(run.plan)
    if dry_run:
        return _dry_run(run, judged, as_json=as_json)
    begin_run(run, resume=resume is not None, earlier=earlier)
    click.echo(f"run {run.run_id} -> {run.store.url()}", err=True)
    try:
        conclusion = execute_run(run, workers or _workers(run), progress(silent=as_json), earlier=earlier)
    except Interrupted as error:
        again = f"Take it up again with the same command and --resume {run.run_id}"
        error.hint = "A load test begins again from the start." if run.job.spec.type == "loadtest" else again
        raise
    return _concluded(conclusion)


def _workers(run: OpenedRun) -> int:
    """One process; a load test gets as many as its rate needs, within what the manifest allows."""
    if run.job.spec.type != "loadtest":
        return 1
    from testbench.arena.load.traffic import count_workers

    return count_workers(run.job)


@command.phase("demo")
def run_demo(*, as_json: bool, **options: Any) -> Outcome:
    """Start the sample weather agent and run the sample ArenaJob against it, with a report below ./data/arena."""
    from testbench.samples.demo import ARENA_FOLDER, arena_manifest, running_agent

    with running_agent() as agent_url, tempfile.TemporaryDirectory(prefix="testbench-arena-") as folder:
        click.echo(f"The sample agent answers at {agent_url}\n", err=as_json)
        manifest = Path(folder) / "job.yaml"
        manifest.write_text(arena_manifest(agent_url), encoding="utf-8")
        arguments = [str(manifest), "--source", str(ARENA_FOLDER), *(["--json"] if as_json else [])]
        try:
            with run_job.make_context("run", arguments) as context:
                outcome: Outcome = run_job.invoke(context)
        except Interrupted as error:
            error.hint = ""  # the manifest is gone with its folder: the demo begins anew
            raise
        return outcome


@command.phase("render")
@executing
def render(*, as_json: bool, **options: Any) -> Outcome:
    """Show the Kubernetes objects that the operator would make of MANIFEST; to be read, not applied."""
    from testbench.arena.runs.opening import prepare_run
    from testbench.arena.runs.rendering import render_objects

    run = prepare_run(run_options(options))
    text = render_objects(run)
    if not as_json:
        click.echo(text)
    amount = text.count("\napiVersion: ") + 1
    return Outcome(f"{amount} objects, none was made", {"objects": text})


def _begun(run_id: str, options: dict[str, Any]) -> OpenedRun:
    """A run with every metric of it checked, and its plan in the output."""
    from testbench.arena.runs.local import begin_run
    from testbench.arena.runs.opening import prepare_run

    run = prepare_run(run_options(options), run_id)
    _judged_evaluations(run.plan)
    begin_run(run)
    return run


@command.phase("plan-run")
@executing
@in_pod
def plan_run(*, run_id: str, termination_message: Path | None, **options: Any) -> Outcome:
    """Begin a run: check everything, and write its plan into the output. For a cluster's pods."""
    from testbench.arena.runs.pod import report_to_cluster

    with report_to_cluster(termination_message) as say:
        run = _begun(run_id, options)
        plan = run.plan
        counts = {"items": len(plan.items), "scenarios": len(plan.scenarios), "systems": len(plan.systems)}
        say({"digest": plan.digest, **counts})
    return Outcome(f"{len(plan.items):,} items -> {run.store.url()}", {"digest": plan.digest, **counts})


@command.phase("work")
@executing
@in_pod
@sharded
@option("--index", type=click.IntRange(0), required=True, help="Which shard, from 0.")
@option("--start-file", type=click.Path(path_type=Path), help="Appears when all workers of a load test are ready.")
@click.option("--tell-items", is_flag=True, hidden=True)
def work(
    *, index: int, count: int, round_number: int, start_file: Path | None, tell_items: bool, **options: Any
) -> Outcome:
    """Work on one shard of a run. For a cluster's pods, and for the processes of `run`."""
    from testbench.arena.runs.job_types import load_functions
    from testbench.arena.runs.opening import open_context, open_run
    from testbench.arena.runs.pod import report_to_cluster
    from testbench.schema.shards import Shard

    with report_to_cluster(options["termination_message"]):
        shard = Shard(index, count)
        run = open_run(run_options(options), options["run_id"])
        common_start = None if start_file is None else gathered(start_file, run.options.clock, tell=tell_items)
        show = telling if tell_items else progress(silent=options["as_json"])
        with open_context(
            run, shard=shard, round_=round_number, common_start=common_start, show_progress=show
        ) as context:
            run_async(awaited(load_functions(run.job.spec.type).work(context)))
    return Outcome(f"shard {index} of {count} of run {run.run_id} is done", {"run_id": run.run_id, "index": index})


@command.phase("reduce")
@executing
@judging
@in_pod
@sharded
def reduce_run(
    *, count: int, round_number: int, run_id: str, termination_message: Path | None, **options: Any
) -> Outcome:
    """Make the results of a run from what its workers left, and end with its verdict. For a cluster's pods."""
    from testbench.arena.runs.job_types import load_functions
    from testbench.arena.runs.opening import open_context, open_run
    from testbench.arena.runs.pod import report_to_cluster
    from testbench.schema.shards import Shard

    with report_to_cluster(termination_message) as say:
        run = open_run(run_options(options), run_id)
        with open_context(run, shard=Shard(0, count), round_=round_number) as context:
            conclusion = run_async(awaited(load_functions(run.job.spec.type).reduce(context)))
        if conclusion is None:
            message = f"round {round_number} was not enough"
            say({"next": "again", "message": message})
            return Outcome(message, {"next": "again"})
        say(conclusion)
    return _concluded(conclusion)


@command.phase("run-all")
@executing
@judging
@in_pod
def run_all(*, run_id: str, termination_message: Path | None, **options: Any) -> Outcome:
    """Plan, work and reduce in one process, or go on with that. For a cluster's pods."""
    from testbench.arena.runs.local import execute_run
    from testbench.arena.runs.pod import report_to_cluster

    with report_to_cluster(termination_message) as say:
        run = _begun(run_id, options)
        conclusion = execute_run(run, 1, progress(silent=options["as_json"]))
        say(conclusion)
    return _concluded(conclusion)


def _dry_run(run: OpenedRun, judged: int, *, as_json: bool) -> Outcome:
    """The plan, once it is known that everybody in it can be talked to."""
    from testbench.arena.plan.text import count_calls, format_plan
    from testbench.arena.runs.local import check_systems

    check_systems(run)
    if run.plan.type == "datagen" and run.bundle is not None:
        return _planned_generation(run.job, run.bundle, run.plan, as_json=as_json)
    if not as_json:
        click.echo(format_plan(run.plan))
    calls = count_calls(run.plan)
    sentence = f"dry run: {calls.messages:,} messages and {judged:,} evaluations by a judge, none was sent"
    return Outcome(sentence, {"digest": run.plan.digest, "calls": vars(calls) | {"judged_evaluations": judged}})


def _planned_generation(job: ArenaJob, bundle: Bundle, plan: Plan, *, as_json: bool) -> Outcome:
    from testbench.arena.datagen.rounds import estimate_generation, format_estimate
    from testbench.arena.plan.text import format_plan

    estimate = estimate_generation(job, bundle, plan)
    if not as_json:
        click.echo(format_plan(plan, format_estimate(estimate)))
    sentence = f"{estimate.items:,} items in {estimate.requests:,} requests, none was sent"
    return Outcome(sentence, plan.model_dump(mode="json", exclude_none=True) | {"generation": vars(estimate)})


def _concluded(conclusion: Conclusion) -> Outcome:
    from testbench.arena.runs.job_types import get_exit_code

    place = f" -> {conclusion.url}" if conclusion.url else ""
    sentence = f"{conclusion.reason}: {conclusion.message}{place}"
    return Outcome(sentence, conclusion.model_dump(mode="json", exclude_none=True), get_exit_code(conclusion))


# --- inputs ---------------------------------------------------------------------------------------------------------


def _inputs(options: dict[str, Any]) -> Inputs:
    from testbench.arena.runs.opening import load_inputs

    return load_inputs(options["manifest"], name=options["job_name"], source=options["source"], only=options["only"])


def _checked_plan(inputs: Inputs) -> Plan:
    """The plan, once it is known that every metric of it exists and takes its parameters."""
    from testbench.arena.plan.build import make_plan

    plan = make_plan(inputs.job, inputs.documents, inputs.bundle)
    _judged_evaluations(plan)
    return plan


def _judged_evaluations(plan: Plan) -> int:
    """How many evaluations ask a judge.

    Raises:
        InputError: a metric does not exist, or cannot be used like this.
    """
    from testbench.arena.plan.text import list_metrics
    from testbench.metrics.registry import GenericMetricsRegistry

    placed = [(planned, metric) for planned in plan.scenarios for metric in list_metrics(planned)]
    specs = GenericMetricsRegistry().check_all((planned.path, metric) for planned, metric in placed)
    of_scenario = Counter(planned.id for (planned, _), spec in zip(placed, specs, strict=True) if spec.needs_judge)
    return sum(of_scenario[item.scenario_id] for item in plan.items)
