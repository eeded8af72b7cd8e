"""The verdict: reads the evaluated experiment, writes verdict.json and junit.xml, and exits with what it found.

With a baseline it also asks whether the agent is worse than in that run. A baseline that was asked for and cannot be
had or compared is never a pass.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from testbench import defaults
from testbench.cli.options import accept_stale, gate_policy, option, read_policy
from testbench.cli.phase import Outcome, main, phase
from testbench.errors import ExitCode, InputError

if TYPE_CHECKING:
    from testbench.results.comparison import Baseline
    from testbench.results.verdict import Policy, Verdict

BASELINE_HINT = "--baseline takes what evaluate wrote in an earlier run: a path, or s3://bucket/key."


@phase("gate")
@option("--input", type=click.Path(path_type=Path), default=defaults.EVALUATED_FILE, help="What evaluate wrote.")
@option("--output", type=click.Path(path_type=Path), default=defaults.VERDICT_FILE, help="The verdict as JSON.")
@option("--junit", type=click.Path(path_type=Path), default=defaults.JUNIT_FILE, help="The verdict for test systems.")
@option("--summary", type=click.Path(path_type=Path), help="The verdict in Markdown, for a pull request or a job.")
@accept_stale
@gate_policy
def command(**options: Any) -> Outcome:
    """Say whether the agent is good enough, and end with exit code 0 for pass and 1 for fail.

    An empty run, or one that could not be judged, is neither: exit codes 4 and 3.
    """
    from testbench.gating.decision import reach_verdict
    from testbench.gating.junit import render_junit
    from testbench.gating.markdown import render_markdown
    from testbench.results.selection import apply_policy, check_policy_matches
    from testbench.schema.chain import append_note, read_input
    from testbench.schema.files import refuse_to_write_over, remove_file, write_bytes, write_model
    from testbench.schema.models import EvaluatedExperiment

    written = {f"--{name}": options[name] for name in ("output", "junit", "summary") if options[name] is not None}
    refuse_to_write_over({"--input": options["input"], "--baseline": options["baseline"]}, written)
    for of_an_earlier_run in written.values():
        remove_file(of_an_earlier_run)
    policy = read_policy(options)
    experiment, note = read_input(
        options["input"], EvaluatedExperiment, made_by="evaluate", accept_stale=options["accept_stale"]
    )
    check_policy_matches(experiment, policy)
    baseline = read_baseline(options["baseline"], policy) if options["baseline"] else None
    verdict = reach_verdict(experiment, policy, baseline)
    workflow = experiment.run.workflow_name if experiment.run else defaults.WORKFLOW_NAME
    judged = apply_policy(experiment, policy)
    write_bytes(options["junit"], render_junit(judged, verdict, workflow))
    if options["summary"] is not None:
        write_bytes(options["summary"], render_markdown(verdict, judged, workflow).encode())
    write_model(options["output"], verdict)
    if not options["as_json"]:
        _show(verdict)
    return Outcome(append_note(verdict.sentence, note), verdict.model_dump(mode="json"), ExitCode(verdict.exit_code))


def _show(verdict: Verdict) -> None:
    from testbench.gating.terminal import render_lines

    for line in render_lines(verdict):
        click.echo(line)


def read_baseline(location: str, policy: Policy) -> Baseline:
    """Return the earlier run that `location` names, as far as the policy selects it.

    Raises:
        InputError: it is not there, or no evaluated experiment.
        StoreError: it is there, or may be, and cannot be read.
    """
    from testbench.results.comparison import to_baseline
    from testbench.results.selection import apply_policy
    from testbench.schema.evaluated_file import read_without_texts
    from testbench.sources.location import parse_location

    place = parse_location(location)
    with _on_this_machine(location) as path:
        try:
            experiment = read_without_texts(path)
        except InputError as error:
            raise InputError(error.message.replace(str(path), place.shown), hint=BASELINE_HINT) from error
    return to_baseline(apply_policy(experiment, policy), place.shown)


@contextmanager
def _on_this_machine(location: str) -> Iterator[Path]:
    """Hold the path of a file, or of a copy of what lies elsewhere, while the block lasts."""
    from testbench.sources.download import open_dataset
    from testbench.sources.location import FileLocation, parse_location

    place = parse_location(location)
    if isinstance(place, FileLocation):
        yield place.path
        return
    with open_dataset(place, os.environ) as remote, tempfile.NamedTemporaryFile(suffix=".json") as copy:
        while piece := remote.content.read(1 << 20):
            copy.write(piece)
        copy.flush()
        yield Path(copy.name)


if __name__ == "__main__":
    sys.exit(main(command))
