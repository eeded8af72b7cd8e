"""The report: reads the evaluated experiment and writes one HTML file that opens without any network."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from testbench import defaults
from testbench.cli.options import accept_stale, gate_policy, option, read_policy
from testbench.cli.phase import Outcome, main, phase
from testbench.errors import ExitCode, InputError
from testbench.invocation import suggest_rerun

if TYPE_CHECKING:
    from testbench.results.verdict import Verdict


@phase("visualize")
@click.argument("workflow_name")
@click.argument("execution_id")
@click.argument("execution_number", type=int)
@option("--input", type=click.Path(path_type=Path), default=defaults.EVALUATED_FILE, help="What evaluate wrote.")
@option("--output", type=click.Path(path_type=Path), default=defaults.REPORT_FILE, help="The report.")
@option("--trace-url", help="Link to a trace, with {trace_id} and, if wanted, {span_id}: https://…/{trace_id}.")
@option("--verdict", type=click.Path(path_type=Path), help="What gate wrote, instead of what it takes.")
@accept_stale
@gate_policy
def command(**options: Any) -> Outcome:
    """Write one HTML file that a team lead reads, an engineer searches and an auditor prints.

    The verdict on its top is the gate's; the exit code is not: a report on a bad agent is a good report.
    """
    from testbench.gc_policy import no_cycle_collection
    from testbench.schema.chain import append_note
    from testbench.schema.files import refuse_to_write_over, write_bytes

    read = {f"--{name}": options[name] for name in ("input", "baseline", "verdict")}
    refuse_to_write_over(read, {"--output": options["output"]})
    with no_cycle_collection():
        content, verdict, samples, note = _report(options)
    write_bytes(options["output"], content)
    data = {"report": str(options["output"]), "bytes": len(content), "verdict": verdict.verdict}
    sentence = f"{options['output']} ({len(content) / 1e6:.1f} MB) says {verdict.sentence}"
    return Outcome(append_note(sentence, note), data, ExitCode.DONE if samples else ExitCode.NOTHING_TO_DO)


def _report(options: Mapping[str, Any]) -> tuple[bytes, Verdict, int, str]:
    """Return the page, the verdict that it shows, the number of its steps, and what the chain of files has to say."""
    from testbench.gate import read_baseline
    from testbench.gating.decision import reach_verdict
    from testbench.report.render import ReportBuilder
    from testbench.report.report_rows import TraceLinks
    from testbench.report.view import Labels, read_verdict
    from testbench.results.selection import check_policy_matches, is_selected, regrade
    from testbench.schema.chain import check_input
    from testbench.schema.evaluated_file import EvaluatedFile, without_texts

    policy = read_policy(options)
    links = TraceLinks.from_template(options["trace_url"])
    labels = Labels(options["workflow_name"], options["execution_id"], options["execution_number"])
    baseline = read_baseline(options["baseline"], policy) if options["baseline"] else None
    builder = ReportBuilder(labels, baseline=baseline, links=links)
    file, everything, shown = EvaluatedFile(options["input"]), [], []
    for scenario in file.scenarios():
        everything.append(without_texts(scenario))
        if is_selected(scenario, policy.only):
            judged = regrade(scenario, policy.thresholds)
            builder.add(judged)
            shown.append(without_texts(judged))
    note = check_input(options["input"], file.frame(), accept_stale=options["accept_stale"])
    check_policy_matches(file.frame(tuple(everything)), policy)
    experiment = file.frame(tuple(shown))
    if options["verdict"]:
        verdict = read_verdict(options["verdict"], experiment)
        if reach_verdict(file.frame(tuple(everything)), verdict.policy).checks != verdict.checks:
            raise InputError(
                f"{options['verdict']}: is about another run of this experiment", hint=suggest_rerun("gate")
            )
    else:
        verdict = reach_verdict(experiment, policy, baseline)
    steps = sum(len(scenario.steps) for scenario in shown)
    return builder.build(experiment, verdict), verdict, steps, note


if __name__ == "__main__":
    sys.exit(main(command))
