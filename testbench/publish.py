"""Phase 4: sends the scores of an evaluated experiment to an OpenTelemetry collector, and says whether they arrived."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from testbench import defaults
from testbench.cli.options import Seconds, accept_stale, option
from testbench.cli.phase import Outcome, main, phase, run_async


@phase("publish")
@click.argument("workflow_name")
@click.argument("execution_id")
@click.argument("execution_number", type=click.IntRange(min=0))
@option("--input", type=click.Path(path_type=Path), default=defaults.EVALUATED_FILE, help="What evaluate wrote.")
@option("--per-step/--no-per-step", default=True, help="A point for every step and metric, or aggregates only.")
@option(
    "--timeout",
    type=Seconds(),
    show_default="OTEL_EXPORTER_OTLP_TIMEOUT, or 10",
    help="Seconds for one request with its retries.",
)
@accept_stale
def command(**options: Any) -> Outcome:
    """Publish scores as gauges, and evaluations as events, over OTLP/HTTP.

    The OTEL_EXPORTER_OTLP_* variables say where (http://localhost:4318 if none does), with which headers, compression
    and certificates. Exit code 3 if anything did not arrive.
    """
    from testbench.errors import InputError
    from testbench.invocation import format_command
    from testbench.schema.chain import append_note, read_input
    from testbench.schema.models import EvaluatedExperiment
    from testbench.telemetry.points import Execution
    from testbench.telemetry.publication import PublishSettings, publish

    if not options["workflow_name"].strip() or not options["execution_id"].strip():
        hint = f"See {format_command('publish', '--help')}"
        raise InputError("WORKFLOW_NAME and EXECUTION_ID must not be empty", hint=hint)
    experiment, note = read_input(
        options["input"], EvaluatedExperiment, made_by="evaluate", accept_stale=options["accept_stale"]
    )
    execution = Execution(options["workflow_name"], options["execution_id"], options["execution_number"])
    settings = PublishSettings(per_step=options["per_step"], timeout_s=options["timeout"])
    done = run_async(publish(experiment, execution, settings, os.environ))
    events = f" and {done.events.items} events" if done.events else ""
    lost = done.evaluations.errors + done.evaluations.skipped
    without = f"; {lost} evaluations have no score" if lost else ""
    what = f"{done.scores} scores, {done.aggregates} aggregates{events}"
    return Outcome(
        append_note(f"{what} delivered to {done.metrics.endpoint}{without}", note),
        {
            "endpoint": done.metrics.endpoint,
            "scores": done.scores,
            "aggregates": done.aggregates,
            "events": done.events.items if done.events else None,
            "errors": done.evaluations.errors,
            "skipped": done.evaluations.skipped,
            "requests": done.metrics.requests + (done.events.requests if done.events else 0),
            "bytes": done.metrics.sent_bytes + (done.events.sent_bytes if done.events else 0),
        },
    )


if __name__ == "__main__":
    sys.exit(main(command))
