"""Phase 2: every scenario through the agent over A2A. Reads experiment.json, writes executed_experiment.json."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from testbench import defaults
from testbench.cli.options import AUTO, Concurrency, ErrorBudget, Header, Seconds, accept_stale, option
from testbench.cli.phase import Outcome, main, phase, run_async
from testbench.errors import ExitCode, InputError
from testbench.safe_text import printable

if TYPE_CHECKING:
    from testbench.a2a_protocol.reply_transport import Streaming
    from testbench.execution.run import RunResult, RunSettings
    from testbench.schema.models import ExecutedExperiment, Experiment


@phase("run", produces=lambda options: Path(options["output"]))
@click.argument("agent_url")
@click.argument("workflow_name", default=defaults.WORKFLOW_NAME)
@option(
    "--concurrency",
    type=Concurrency(),
    default=defaults.AGENT_CONCURRENCY,
    metavar="N|auto",
    help="Scenarios in flight; auto: up to 64, and fewer while the agent answers 429 or 503.",
)
@option("--repeats", type=click.IntRange(1, 1000), default=1, help="How often every scenario is run.")
@option("--shard", metavar="I/N", help="Run the I-th of N parts, e.g. 1/4; merge puts them together.")
@option(
    "--timeout",
    type=Seconds(),
    default=defaults.AGENT_TIMEOUT_S,
    help="Seconds that one message may take.",
)
@option(
    "--step-deadline",
    type=Seconds(),
    default=defaults.STEP_DEADLINE_S,
    help="Seconds that one step may take with retries, and with a task that goes on working.",
)
@option(
    "--retries",
    type=click.IntRange(0, 100),
    default=defaults.AGENT_RETRIES,
    help="Further tries of a message that cannot have been delivered.",
)
@option(
    "--header",
    multiple=True,
    type=Header(),
    metavar="'NAME: VALUE'",
    help="Sent with every request; shown and written nowhere. Repeatable; in the variable one a line.",
)
@option(
    "--streaming",
    type=click.Choice(["auto", "on", "off"]),
    default="auto",
    help="Have answers streamed; auto: where the agent's card offers it. The answer is the same.",
)
@option("--on-step-error", type=click.Choice(["skip", "continue"]), default="skip", help="What the later steps do.")
@option(
    "--fail-on-error",
    metavar="N|P",
    help="Exit 3 with more unanswered steps than this: a count, or a part as 0.05 or 5%.",
)
@option("--fresh", is_flag=True, help="Run all anew, whatever an earlier run has left.")
@option("--retry-errors", is_flag=True, help="Run the scenarios again that have failed steps, keep the others.")
@option("--input", type=click.Path(path_type=Path), default=defaults.EXPERIMENT_FILE, help="What setup wrote.")
@option("--output", type=click.Path(path_type=Path), default=defaults.EXECUTED_FILE, help="To write.")
@accept_stale
def command(**options: Any) -> Outcome:
    """Send every scenario to the agent at AGENT_URL, over A2A in protocol 1.0 or 0.3.

    WORKFLOW_NAME goes into traces and the output. A step that fails is recorded as an error, never as an answer.

    Stopped or killed, the same command goes on where it was; with nothing left to do it does not ask the agent again.
    """
    from testbench.execution.run import RunSettings
    from testbench.net.pacing import CEILING
    from testbench.net.retry import RetryPolicy
    from testbench.schema.chain import made_of, read_input
    from testbench.schema.models import Experiment
    from testbench.schema.shards import Shard

    adaptive = options["concurrency"] == AUTO
    budget = ErrorBudget.parse(options["fail_on_error"]) if options["fail_on_error"] else None
    experiment, note = read_input(options["input"], Experiment, made_by="setup", accept_stale=options["accept_stale"])
    settings = RunSettings(
        agent_url=_checked_url(options["agent_url"]),
        output=options["output"],
        workflow_name=options["workflow_name"],
        headers=options["header"],
        concurrency=CEILING if adaptive else options["concurrency"],
        adaptive=adaptive,
        repeats=options["repeats"],
        shard=Shard.parse(options["shard"]) if options["shard"] else None,
        retry=RetryPolicy(retries=options["retries"], deadline_s=options["step_deadline"], patient=adaptive),
        on_step_error=options["on_step_error"],
        fresh=options["fresh"],
        retry_errors=options["retry_errors"],
        made_of=(made_of(options["input"], options["output"]),),
    )
    result = run_async(
        _execute(experiment, settings, options["timeout"], options["streaming"], silent=options["as_json"])
    )
    return _conclude(result, settings, budget, note, as_json=options["as_json"])


async def _execute(
    experiment: Experiment, settings: RunSettings, timeout_s: float, streaming: Streaming, *, silent: bool
) -> RunResult:
    from testbench.cli.progress import open_progress
    from testbench.execution.executor import RunDependencies
    from testbench.execution.run import execute
    from testbench.schema.a2a_client import A2AStepClient, ClientSettings
    from testbench.telemetry.tracing import open_tracing

    gc.freeze()  # what was imported is no garbage: looking through it over and over took a fifth of the CPU
    gc.set_threshold(50_000, 20, 100)
    with open_tracing(workflow_name=settings.workflow_name, agent_url=settings.agent_url) as tracing:
        target = ClientSettings(settings.agent_url, settings.headers, timeout_s, settings.concurrency, streaming)
        agent = A2AStepClient(target, instrument=tracing.instrument)
        try:
            return await execute(
                experiment,
                settings,
                agent,
                RunDependencies(tracer=tracing),
                lambda title, total, kept: open_progress(title, total, kept=kept, silent=silent),
            )
        finally:
            await agent.close()


def _conclude(
    result: RunResult, settings: RunSettings, budget: ErrorBudget | None, note: str, *, as_json: bool
) -> Outcome:
    """Few failed steps are handed on as errors; more than the budget, or nothing but failures, is work not done."""
    from testbench.execution.run_summary import format_summary
    from testbench.schema.chain import append_note, describe_earlier

    statistics = result.statistics
    if not as_json:
        click.echo("\n".join(format_summary(statistics)))
    sentence = f"{statistics.answered} of {statistics.steps} steps answered -> {settings.output}"
    if not statistics.steps:
        sentence = f"shard {settings.shard} has no step to send -> {settings.output}"
    if result.already_complete:
        sentence = f"already complete: {sentence}"
        if result.executed.run is not None:
            began, failed = result.executed.run.started_at, statistics.unanswered
            sentence = append_note(sentence, describe_earlier(began, failed, "unanswered steps"))
    repeats = result.executed.run.repeats if result.executed.run else settings.repeats
    if repeats > settings.repeats:
        sentence += f" (with all {repeats} repetitions that were there)"
    fault = None
    if statistics.steps and not statistics.answered:
        fault = f"the agent answered not a single step{_first_failure(result.executed)}"
    elif budget is not None and not budget.covers(statistics.unanswered, statistics.steps):
        fault = f"{statistics.unanswered} of {statistics.steps} steps unanswered, more than --fail-on-error allows"
    if fault is not None:
        click.echo(f"error: {fault}", err=True)
        click.echo(
            f"hint: {settings.output} says why, step by step; --retry-errors sends what failed once more.", err=True
        )
    data = {
        "output": str(settings.output),
        "already_complete": result.already_complete,
        "scenarios": statistics.scenarios,
        "repeats": repeats,
        "shard": str(settings.shard) if settings.shard else None,
        "steps": statistics.steps,
        "answered": statistics.answered,
        "skipped": statistics.skipped,
        "errors": statistics.errors,
        "latency_p50_ms": statistics.latency_p50_ms,
        "latency_p95_ms": statistics.latency_p95_ms,
        "time_to_first_token_p50_ms": statistics.first_token_p50_ms,
        "time_to_first_token_p95_ms": statistics.first_token_p95_ms,
        "retries": statistics.sending.retries,
        "seconds": statistics.sending.seconds,
        "scenarios_kept": statistics.sending.scenarios_taken_over,
    }
    return Outcome(append_note(sentence, note), data, ExitCode.DONE if fault is None else ExitCode.NOT_DONE)


def _first_failure(executed: ExecutedExperiment) -> str:
    errors = (step.error for scenario in executed.scenarios for step in scenario.steps if step.error is not None)
    return next((f", e.g. {error.kind}: {printable(error.message, 120)}" for error in errors), "")


def _checked_url(url: str) -> str:
    from urllib.parse import urlsplit

    import httpx

    hint = "Give the agent's address as http://HOST:PORT or https://HOST/PATH."
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port, httpx.URL(url), (host or "").encode("idna")
    except (ValueError, httpx.InvalidURL) as error:
        raise InputError("the agent's address is not a URL", hint=hint) from error
    if parts.scheme not in ("http", "https") or not host:
        raise InputError("the agent's address is not an http or https URL", hint=hint)
    return url


if __name__ == "__main__":
    sys.exit(main(command))
