"""The verdict: reads the evaluated experiment, writes verdict.json and junit.xml, and exits with what it found."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from testbench import defaults
from testbench.command import Outcome, gate_policy, main, option, phase
from testbench.errors import ExitCode


@phase("gate")
@option("--input", type=click.Path(path_type=Path), default=defaults.EVALUATED_FILE, help="What evaluate wrote.")
@option("--output", type=click.Path(path_type=Path), default=defaults.VERDICT_FILE, help="The verdict as JSON.")
@option("--junit", type=click.Path(path_type=Path), default=defaults.JUNIT_FILE, help="The verdict for test systems.")
@gate_policy
def command(**options: Any) -> Outcome:
    """Say whether the agent is good enough, and end with exit code 0 for pass and 1 for fail.

    An empty run, or one that could not be judged, is neither: exit codes 4 and 3.
    """
    from testbench.gating.junit import junit_xml
    from testbench.gating.verdict import reach_verdict
    from testbench.schema.files import read_phase_file, remove, write_bytes, write_model
    from testbench.schema.models import EvaluatedExperiment
    from testbench.schema.verdict import Policy

    for of_an_earlier_run in (options["output"], options["junit"]):
        remove(of_an_earlier_run)
    experiment = read_phase_file(options["input"], EvaluatedExperiment, made_by="testbench/evaluate.py")
    policy = Policy(min_pass_rate=options["min_pass_rate"], max_error_rate=options["max_error_rate"])
    verdict = reach_verdict(experiment, policy)
    workflow = experiment.run.workflow_name if experiment.run else defaults.WORKFLOW_NAME
    write_model(options["output"], verdict)
    write_bytes(options["junit"], junit_xml(experiment, workflow))
    if not options["as_json"]:
        for reason in verdict.reasons:
            click.echo(f"  - {reason}")
    return Outcome(verdict.sentence, verdict.model_dump(mode="json"), ExitCode(verdict.exit_code))


if __name__ == "__main__":
    sys.exit(main(command))
