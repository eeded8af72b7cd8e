"""What every command of Testbench does the same way: signals, errors, the last line and the exit code.

A script decorates one function with `phase`, which returns an `Outcome`, and ends with `sys.exit(main(command))`; the
console command (`testbench.__main__`) calls the same. stdout carries the result, stderr everything else. The last line
says the same as the exit code, e.g. `run: done (exit 0): 12 of 12 steps answered`.
"""

from __future__ import annotations

import asyncio
import errno
import io
import json
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any, Final, TypeVar

import click

from testbench import __version__
from testbench.cli import logs
from testbench.errors import ExitCode, InputError, Interrupted, TestbenchError, WorkError
from testbench.invocation import PROGRAM, format_command
from testbench.safe_text import printable, redact_arguments

T = TypeVar("T")

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

CONTEXT: Final[Mapping[str, Any]] = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
"""Settings of every command, for click."""
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


class PhaseGroup(click.Group):
    """A command whose phases are commands of their own, e.g. `testbench arena run`."""

    def __init__(self, name: str, description: str) -> None:
        super().__init__(name, help=description, context_settings=dict(CONTEXT))

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
        settings = {**CONTEXT, "auto_envvar_prefix": prefix}
        for shared in (
            click.version_option(__version__, prog_name="testbench"),
            click.option("--debug", is_flag=True, help="Show the traceback of an error."),
            click.option(
                "--json",
                "as_json",
                is_flag=True,
                envvar=f"{prefix}_JSON",
                show_envvar=True,
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
        outcome = command.main(args=arguments, prog_name=_typed(command), standalone_mode=False)
        if not isinstance(outcome, Outcome):
            return int(outcome or 0)  # --help and --version have printed what they had to say
        _finish(command, outcome)
        return int(outcome.exit_code)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the outermost guard: a fault of our own is told too
        if debug and not isinstance(error, click.UsageError | click.Abort | Interrupted):
            traceback.print_exc()
        return _report(command, _as_reported(error, command, arguments))


def last_line(command: click.Command, outcome: Outcome) -> str:
    """Return the line that says the same as the exit code."""
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


def _typed(command: click.Command, *arguments: str) -> str:
    """Return the command line that calls a command with these arguments."""
    names = () if command.name == PROGRAM else (str(command.name),)
    return format_command(*names, *arguments)


def _resume_hint(command: click.Command, arguments: Sequence[str]) -> str:
    kept = [argument for argument in arguments if argument != "--fresh"]
    return f"Take it up again with: {_typed(command, *redact_arguments(kept))}"


def _as_reported(error: BaseException, command: click.Command, arguments: Sequence[str]) -> TestbenchError:
    """Return what ended a command as the error that its user reads."""
    match error:
        case click.exceptions.NoArgsIsHelpError():
            print(error.format_message(), end="\n\n", file=sys.stderr)
            return InputError("no command was given", hint="The first word is one of the commands above.")
        case click.UsageError():
            return InputError(error.format_message(), hint=f"See {_typed(command, '--help')}")
        case click.Abort():
            return Interrupted(ExitCode.INTERRUPTED, hint=_resume_hint(command, arguments))
        case Interrupted():
            error.hint = error.hint or _resume_hint(command, arguments)
            return error
        case TestbenchError():
            return error
        case ModuleNotFoundError(name=str(module)) if not module.startswith(PROGRAM):
            return _missing_package(module.partition(".")[0])
        case SystemExit():  # how click ends where nobody reads what it prints
            return _unprinted(errno.EPIPE)
        case OSError(filename=None, errno=number) if number in STDOUT_FAULTS:
            return _unprinted(number)
        case _:
            hint = "This is a fault in Testbench: please report it with the output of --debug."
            return TestbenchError(f"{type(error).__name__}: {error}", hint=hint)


def _missing_package(module: str) -> InputError:
    """Return the error of a package that is not installed, with the extra that brings it."""
    from importlib.metadata import requires

    package = re.escape(module.replace("_", "-"))
    extras = (
        re.search(rf"^{package}\b(?!-).*extra == ['\"](\w+)", line, re.IGNORECASE) for line in requires(PROGRAM) or ()
    )
    extra = next((found[1] for found in extras if found), None)
    hint = "Install Testbench anew."
    if extra is not None:
        hint = f"Install the extra {extra}: uv sync --extra {extra} in a checkout, else {PROGRAM}[{extra}]."
    return InputError(f"the package {module} is not installed", hint=hint)


def _unprinted(fault: int) -> WorkError:
    """Return the error of a command whose result nobody could read.

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
