"""ArenaJobs on this machine: `python testbench/arena/cli.py plan job.yaml --source DIR`.

A shell like those of the phases: each command reads its inputs, calls one function and says how it ended.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and sys.path[0] == __file__.rpartition("/")[0]:
    del sys.path[0]  # modules of this folder must not be taken for libraries of the same name

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from testbench.command import Outcome, PhaseGroup, main, option

if TYPE_CHECKING:
    from testbench.arena.inputs import Inputs
    from testbench.arena.plan import Plan
    from testbench.schema.models import Metric

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

command = PhaseGroup(
    "arena",
    script="testbench/arena/cli.py",
    description="Evaluation, load test and data generation from one manifest, an ArenaJob, on this machine.",
)


def job_inputs(function: FunctionT) -> FunctionT:
    """The arguments of every command that plans a job."""
    for add in (
        option("--only", multiple=True, metavar="GLOB", help="Only scenario files like this; again for more."),
        option("--source", type=click.Path(path_type=Path), help="The bundle: a folder, a checkout, or an archive."),
        option("--job", "job_name", metavar="NAME", help="Which job, where the manifest has several."),
        click.argument("manifest", type=click.Path(path_type=Path)),
    ):
        function = add(function)
    return function


@command.phase("validate")
@job_inputs
def validate(**options: Any) -> Outcome:
    """Check MANIFEST, its bundle and every metric, without sending anything.

    MANIFEST is a file with an ArenaJob and the resources that it refers to, or a folder of such files.
    """
    plan = _checked_plan(_inputs(options))
    for warning in plan.warnings:
        click.echo(f"warning: {warning}", err=True)
    scenarios, tested = len(plan.scenarios), len(plan.contenders)
    sentence = f"{scenarios} scenarios and {tested} under test are as they should be"
    return Outcome(sentence, {"job": plan.job, "digest": plan.digest, "warnings": list(plan.warnings)})


@command.phase("plan")
@job_inputs
def plan_job(*, as_json: bool, **options: Any) -> Outcome:
    """Show what MANIFEST would do: every item, who meets whom, and how many calls that makes.

    MANIFEST is a file with an ArenaJob and the resources that it refers to, or a folder of such files.
    """
    from testbench.arena.plan_text import calls_of, plan_text

    plan = _checked_plan(_inputs(options))
    judged = _judged_evaluations(plan)
    if not as_json:
        click.echo(plan_text(plan))
    calls = calls_of(plan)
    data = plan.model_dump(mode="json", exclude_none=True) | {"calls": vars(calls) | {"judged_evaluations": judged}}
    sentence = f"{len(plan.items):,} items, {calls.messages:,} messages, {judged:,} evaluations by a judge"
    return Outcome(sentence, data)


def _inputs(options: dict[str, Any]) -> Inputs:
    from testbench.arena.inputs import load_inputs

    return load_inputs(options["manifest"], name=options["job_name"], source=options["source"], only=options["only"])


def _checked_plan(inputs: Inputs) -> Plan:
    """The plan, once it is known that every metric of it exists and takes its parameters."""
    from testbench.arena.planning import make_plan

    plan = make_plan(inputs.job, inputs.documents, inputs.bundle)
    _judged_evaluations(plan)
    return plan


def _judged_evaluations(plan: Plan) -> int:
    """How many evaluations ask a judge.

    Raises:
        InputError: a metric does not exist, or cannot be used like this.
    """
    from testbench.arena.plan_text import metrics_of
    from testbench.errors import InputError
    from testbench.metrics.registry import GenericMetricsRegistry

    registry = GenericMetricsRegistry()
    needs_judge: dict[str, bool] = {}

    def judged(metrics: Iterable[Metric], place: str) -> int:
        found = 0
        for metric in metrics:
            key = metric.model_dump_json(include={"metric_name", "parameters"})
            if key not in needs_judge:
                try:
                    needs_judge[key] = registry.check(metric).needs_judge
                except InputError as error:
                    error.message = f"{place}: {error.message}"
                    raise
            found += needs_judge[key]
        return found

    of_scenario = {planned.id: judged(metrics_of(planned), planned.path) for planned in plan.scenarios}
    return sum(of_scenario[item.scenario_id] for item in plan.items)


if __name__ == "__main__":
    sys.exit(main(command))
