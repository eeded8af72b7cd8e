"""What every script of Testbench does the same way: options, signals, errors, the last line and the exit code.

A script decorates one function with `phase`, which returns an `Outcome`, and ends with `sys.exit(main(command))`.
stdout carries the result, stderr everything else. The last line says the same as the exit code, e.g.
`run: done (exit 0): 12 of 12 steps answered`.
"""

from __future__ import annotations

import asyncio
import errno
import io
import json
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from testbench import __version__, defaults
from testbench.cli import logs
from testbench.errors import ExitCode, InputError, Interrupted, TestbenchError, WorkError
from testbench.safe_text import printable, redact_arguments

if TYPE_CHECKING:
    from testbench.results.verdict import Policy

T = TypeVar("T")
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

WORDS: Mapping[int, str] = {
    ExitCode.DONE: "done",
    ExitCode.VERDICT_FAIL: "verdict is fail",
    ExitCode.BAD_INPUT: "bad input",
    ExitCode.NOT_DONE: "could not be done",
    ExitCode.NOTHING_TO_DO: "nothing to do",
    ExitCode.STOPPED: "stopped before the end",
    ExitCode.NO_COMMON_START: "did not begin together",
    ExitCode.CONFIGURATION: "bad configuration",
    ExitCode.INTERRUPTED: "interrupted",
    ExitCode.TERMINATED: "terminated",
}

STDOUT_FAULTS = (errno.EPIPE, errno.ENOSPC, errno.EIO)
"""What printing can end with."""


@dataclass(frozen=True)
class Outcome:
    """How a phase ended: one sentence, what `--json` prints, and the exit code."""

    sentence: str
    data: Mapping[str, Any] = field(default_factory=dict)
    exit_code: ExitCode = ExitCode.DONE
    as_json: bool = False
    """Whether `--json` was asked for; `phase` sets it."""


option = partial(click.option, show_default=True, show_envvar=True)
"""An option that shows its default and its environment variable in `--help`."""

AUTO = "auto"


class Concurrency(click.IntRange):
    """How much at once: a number, or `auto` where that is found out (`testbench.net.pacing`)."""

    name = "concurrency"

    def __init__(self) -> None:
        super().__init__(1, 1000)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return AUTO if str(value).strip().lower() == AUTO else super().convert(value, param, ctx)


POLICY_OPTIONS = (
    "min_pass_rate", "max_error_rate", "min_coverage", "threshold", "only", "baseline", "tolerance", "alpha",
)  # fmt: skip
"""What `gate_policy` adds."""


def gate_policy(function: FunctionT) -> FunctionT:
    """The options of whoever needs the verdict: the gate itself, and the report that must agree with it."""
    proportion = click.FloatRange(0, 1)
    options = (
        option(
            "--min-pass-rate",
            type=proportion,
            default=defaults.MIN_PASS_RATE,
            help="Proportion that must pass; what could not be judged has not passed.",
        ),
        option(
            "--max-error-rate",
            type=proportion,
            default=defaults.MAX_ERROR_RATE,
            help="Proportion that may stay unjudged; more is no verdict.",
        ),
        option(
            "--min-coverage",
            type=proportion,
            default=defaults.MIN_COVERAGE,
            help="Proportion of all steps that must be judged, also of those without a gating metric.",
        ),
        option("--threshold", multiple=True, metavar="METRIC=VALUE", help="Instead of the file's; again for more."),
        option("--only", multiple=True, metavar="TAG", help="Only scenarios with this tag; again for more."),
        option("--baseline", metavar="FILE", help="An earlier evaluated experiment, also s3://…: no worse than that."),
        option(
            "--tolerance",
            type=proportion,
            default=defaults.TOLERANCE,
            help="How much worse than the baseline is good enough.",
        ),
        option(
            "--alpha",
            type=click.FloatRange(0, 1, min_open=True, max_open=True),
            default=defaults.ALPHA,
            help="How often an unchanged agent may be called worse.",
        ),
    )
    for add in reversed(options):
        function = add(function)
    return function


def policy_of(options: Mapping[str, Any]) -> Policy:
    """What the options of `gate_policy` ask for.

    Raises:
        InputError: a threshold is not METRIC=VALUE.
    """
    from testbench.results.verdict import Policy

    names = ("min_pass_rate", "max_error_rate", "min_coverage", "only", "tolerance", "alpha")
    thresholds = dict(map(_threshold, options["threshold"]))
    if len(thresholds) < len(options["threshold"]):
        raise InputError("--threshold names a metric twice", hint="Give each metric one threshold.")
    return Policy(**{name: options[name] for name in names}, thresholds=thresholds)


def _threshold(text: str) -> tuple[str, float]:
    name, _, value = text.rpartition("=")
    try:
        threshold = float(value)
    except ValueError:
        threshold = -1.0
    if not (name and 0 <= threshold <= 1):
        raise InputError(
            f"--threshold {text!r} is not METRIC=VALUE with a value from 0 to 1",
            hint="For example --threshold builtin.similarity=0.7",
        )
    return name, threshold


class PhaseGroup(click.Group):
    """Several commands behind one script; `script` is its path, as users call it."""

    def __init__(self, name: str, *, script: str, description: str) -> None:
        super().__init__(name, help=description, context_settings={"max_content_width": 110})
        self.script = script

    def phase(self, name: str) -> Callable[[Callable[..., Outcome]], click.Command]:
        """Make a function a command of the group; its options are `TESTBENCH_<GROUP>_<NAME>_<OPTION>` too."""

        def decorate(function: Callable[..., Outcome]) -> click.Command:
            made = phase(name, within=self.name)(function)
            self.add_command(made)
            return made

        return decorate


def phase(name: str, *, within: str | None = None) -> Callable[[Callable[..., Outcome]], click.Command]:
    """Make a function that returns an `Outcome` the command of a phase.

    Every option can also be given as `TESTBENCH_<NAME>_<OPTION>`.
    """
    prefix = f"TESTBENCH_{name if within is None else f'{within}_{name}'}".upper().replace("-", "_")

    def decorate(function: Callable[..., Outcome]) -> click.Command:
        settings = {"auto_envvar_prefix": prefix, "max_content_width": 110}
        for shared in (
            click.version_option(__version__, prog_name="testbench"),
            click.option("--debug", is_flag=True, help="Show the traceback of an error."),
            click.option(
                "--json",
                "as_json",
                is_flag=True,
                envvar=f"{prefix}_JSON",
                help="Print one JSON object on stdout, and nothing else.",
            ),
        ):
            function = shared(function)

        @wraps(function)
        def run(**options: Any) -> Outcome:
            return replace(function(**options), as_json=options["as_json"])

        return click.command(name, context_settings=settings)(run)

    return decorate


def main(command: click.Command, argv: Sequence[str] | None = None) -> int:
    """Run a phase's command and return its exit code; never raises, and shows no traceback without `--debug`."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments or bool(os.environ.get("TESTBENCH_DEBUG"))
    logs.configure()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that the terminal's encoding lacks is shown all the same
        sys.stdout.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, _terminate)
    try:
        outcome = command.main(args=arguments, prog_name=_program(command), standalone_mode=False)
        if not isinstance(outcome, Outcome):
            return int(outcome or 0)  # --help and --version have printed what they had to say
        _finish(command, outcome)
        return int(outcome.exit_code)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the outermost guard: a fault of our own is told too
        if debug and not isinstance(error, click.UsageError | click.Abort | Interrupted):
            traceback.print_exc()
        return _report(command, _as_told(error, command, arguments))


def last_line(command: click.Command, outcome: Outcome) -> str:
    """The line that says the same as the exit code."""
    code = outcome.exit_code
    return f"{command.name}: {WORDS[code]} (exit {int(code)}): {printable(outcome.sentence)}"


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a phase's coroutine; SIGTERM and Ctrl-C cancel it, so that it can flush and close what it opened.

    Raises:
        Interrupted: a signal asked for it; with the exit code that says which.
    """

    outcome: list[T] = []

    async def supervised() -> None:
        task = asyncio.ensure_future(work)
        received: list[signal.Signals] = []

        def stop(number: signal.Signals) -> None:
            received.append(number)
            task.cancel()

        loop = asyncio.get_running_loop()
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in before:
            loop.add_signal_handler(number, stop, number)
        try:
            outcome.append(await task)
        except asyncio.CancelledError:
            if not received:
                raise
            terminated = received[0] is signal.SIGTERM
            raise Interrupted(ExitCode.TERMINATED if terminated else ExitCode.INTERRUPTED, hint="") from None
        finally:
            for number, handler in before.items():
                loop.remove_signal_handler(number)
                signal.signal(number, handler)

    # not by asyncio.run: Python 3.11 formats the main task's result as text, twice, and a result may be megabytes
    asyncio.run(supervised())
    return outcome[0]


def _terminate(number: int, frame: object) -> None:
    raise Interrupted(ExitCode.TERMINATED, hint="")


def _program(command: click.Command) -> str:
    return command.script if isinstance(command, PhaseGroup) else f"testbench/{command.name}.py"


def _again(command: click.Command, arguments: Sequence[str]) -> str:
    kept = [argument for argument in arguments if argument != "--fresh"]
    return f"Take it up again with: python {shlex.join([_program(command), *redact_arguments(kept)])}"


def _as_told(error: BaseException, command: click.Command, arguments: Sequence[str]) -> TestbenchError:
    """Whatever ended a command, as a user is told of it."""
    match error:
        case click.UsageError():
            return InputError(error.format_message(), hint=f"See {_program(command)} --help")
        case click.Abort():
            return Interrupted(ExitCode.INTERRUPTED, hint=_again(command, arguments))
        case Interrupted():
            error.hint = error.hint or _again(command, arguments)
            return error
        case TestbenchError():
            return error
        case SystemExit():  # how click ends where nobody reads what it prints
            return _unprinted(errno.EPIPE)
        case OSError(filename=None, errno=number) if number in STDOUT_FAULTS:
            return _unprinted(number)
        case _:
            hint = "This is a fault in Testbench: please report it with the output of --debug."
            return TestbenchError(f"{type(error).__name__}: {error}", hint=hint)


def _unprinted(fault: int) -> WorkError:
    """The end of a command whose result nobody could read.

    What stdout still holds is dropped: another try when the interpreter ends would decide about the exit code.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    said = f"stdout cannot be written: {os.strerror(fault)}"
    return WorkError(said, hint="Look where it goes: to a full disk, or to a reader that has gone.")


def _finish(command: click.Command, outcome: Outcome) -> None:
    if outcome.as_json:
        result = {"phase": command.name, "exit_code": int(outcome.exit_code), **outcome.data}
        print(json.dumps(result, default=str), flush=True)
    print(last_line(command, outcome), file=sys.stderr if outcome.as_json else sys.stdout, flush=True)


def _report(command: click.Command, error: TestbenchError) -> int:
    code = int(error.exit_code)
    print(f"error: {printable(error.message)}", file=sys.stderr)
    print(f"hint: {printable(error.hint)}", file=sys.stderr)
    print(f"{command.name}: {WORDS[code]} (exit {code})", file=sys.stderr, flush=True)
    return code
