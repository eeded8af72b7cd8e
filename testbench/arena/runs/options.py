"""The options that the commands of `testbench arena` share, and what they make of them.

Imported by every `--help`, so that only click is loaded with it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from testbench import defaults
from testbench.cli.options import option

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from datetime import datetime

    from testbench.arena.runs.context import CommonStart
    from testbench.arena.runs.opening import RunOptions
    from testbench.net.clock import Clock
    from testbench.schema.progress import Progress

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])
ResultT = TypeVar("ResultT")


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


def executing(function: FunctionT) -> FunctionT:
    """What every command needs that talks to somebody, or keeps results."""
    folder = click.Path(path_type=Path)
    for add in (
        option("--judge-cache", type=folder, help="Folder of the judge's earlier answers."),
        option("--judge-model", help="Model that judges, where no entry of the job does."),
        option(
            "--concurrency",
            type=click.IntRange(1, 1000),
            default=defaults.AGENT_CONCURRENCY,
            help="Conversations in flight of one worker.",
        ),
        option("--credentials", type=folder, metavar="DIR", help="Keys as DIR/<namespace>_<provider>/<key>."),
        option(
            "--output", type=folder, metavar="DIR", help="Where results are kept, instead of the manifest's output."
        ),
    ):
        function = add(function)
    return job_inputs(function)


def judging(function: FunctionT) -> FunctionT:
    """What a verdict needs, and what is made of it."""
    proportion = click.FloatRange(0, 1)
    for add in (
        option("--trace-url", metavar="URL", help="Link to a trace, with {trace_id}."),
        option("--publish", is_flag=True, help="Publish the scores over OTLP as well."),
        option("--min-coverage", type=proportion, default=defaults.MIN_COVERAGE, help="As of gate."),
        option("--max-error-rate", type=proportion, default=defaults.MAX_ERROR_RATE, help="As of gate."),
        option("--min-pass-rate", type=proportion, default=defaults.MIN_PASS_RATE, help="As of gate."),
    ):
        function = add(function)
    return function


def in_pod(function: FunctionT) -> FunctionT:
    """What the pods of a run have in common."""
    for add in (
        option("--termination-message", type=click.Path(path_type=Path), metavar="FILE", help="For its last word."),
        option("--run-id", required=True, metavar="RUN", help="The run's name: its folder in the output."),
    ):
        function = add(function)
    return function


def sharded(function: FunctionT) -> FunctionT:
    """How a run's work is cut."""
    for add in (
        option("--round", "round_number", type=click.IntRange(1), default=1, help="Round of a data generation."),
        option("--count", type=click.IntRange(1), required=True, help="Number of shards."),
    ):
        function = add(function)
    return function


def run_options(options: dict[str, Any]) -> RunOptions:
    """Return what a command of `executing` was given.

    Raises:
        InputError: an option does not fit.
    """
    from testbench.arena.runs.context import Outputs
    from testbench.arena.runs.opening import RunOptions
    from testbench.results.verdict import Policy

    rates = {name: options[name] for name in ("min_pass_rate", "max_error_rate", "min_coverage") if name in options}
    return RunOptions(
        manifest=options["manifest"],
        job=options["job_name"],
        source=options["source"],
        only=options["only"],
        output=options["output"],
        credentials=options["credentials"],
        concurrency=options["concurrency"],
        judge_model=options["judge_model"],
        judge_cache=options["judge_cache"],
        outputs=Outputs(Policy(**rates), options.get("publish", False), options.get("trace_url")),
    )


def progress(*, silent: bool) -> Callable[[str, int, int], AbstractContextManager[Progress]]:
    """Progress for people."""
    from testbench.cli.progress import open_progress

    return lambda title, total, kept: open_progress(title, total, kept=kept, unit="items", silent=silent)


class _Telling:
    """A line on stdout for each item."""

    def __enter__(self) -> _Telling:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def advance(self, *, failed: bool = False) -> None:
        click.echo("item failed" if failed else "item answered")


def telling(title: str, total: int, kept: int) -> _Telling:
    """Progress for the process that started this one."""
    lines = _Telling()
    for _ in range(kept):
        lines.advance()
    return lines


def gathered(start_file: Path, clock: Clock, *, tell: bool) -> CommonStart:
    """Says that this worker is ready, and waits for the others."""

    async def common_start() -> datetime:
        from testbench.arena.runs.pod import wait_for_start

        if tell:
            click.echo("ready")
        return await wait_for_start(start_file, clock)

    return common_start


async def awaited(work: Awaitable[ResultT]) -> ResultT:
    """What any awaitable comes to, as a coroutine."""
    return await work
