"""What every command of Testbench does the same way: signals, errors, the last line and the exit code.

A script decorates one function with `phase`, which returns an `Outcome`, and ends with `sys.exit(main(command))`; the
console command (`testbench.__main__`) calls the same. stdout carries the result, stderr everything else. The last line
says the same as the exit code, e.g. `run: done (exit 0): 12 of 12 steps answered`.
"""

from __future__ import annotations

import asyncio
import errno
import io
import itertools
import json
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import wraps
from pathlib import Path
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


class PhaseCommand(click.Command):
    """A phase. Where `produces` is set, a later phase reads the file that it makes; of what was typed, which one."""

    produces: Callable[[Mapping[str, Any]], Path | None] | None = None

    def find_output(self, arguments: Sequence[str]) -> Path | None:
        """Return the file that a command line means to make which could not be understood as a whole."""
        option = next((one for one in self.params if one.name == "output"), None)
        if self.produces is None or option is None:
            return None
        typed = [after for word, after in itertools.pairwise(arguments) if word == "--output"]
        typed += [word.partition("=")[2] for word in arguments if word.startswith("--output=")]
        prefix = self.context_settings.get("auto_envvar_prefix")
        given = typed[-1] if typed else os.environ.get(f"{prefix}_OUTPUT")
        return Path(given) if given else self.produces({"output": option.default})


def phase(
    name: str, *, within: str | None = None, produces: Callable[[Mapping[str, Any]], Path | None] | None = None
) -> Callable[[Callable[..., Outcome]], PhaseCommand]:
    """Make a function that returns an `Outcome` the command of a phase.

    Every option can also be given as `TESTBENCH_<NAME>_<OPTION>`. `produces` names, from the options, the file that
    later phases read; until the function has returned there is a mark beside it that keeps them from it
    (`testbench.schema.chain`).
    """
    prefix = f"TESTBENCH_{name if within is None else f'{within}_{name}'}".upper().replace("-", "_")

    def decorate(function: Callable[..., Outcome]) -> PhaseCommand:
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
            with _marked(name, produces(options) if produces is not None else None):
                outcome = function(**options)
            return replace(outcome, as_json=options["as_json"])

        command = click.command(name, cls=PhaseCommand, context_settings=settings)(run)
        command.produces = produces
        return command

    return decorate


def main(command: click.Command, argv: Sequence[str] | None = None) -> int:
    """Run a phase's command and return its exit code; never raises, and shows no traceback without `--debug`."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments or bool(os.environ.get("TESTBENCH_DEBUG"))
    logs.configure()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that the terminal's encoding lacks is shown all the same
        sys.stdout.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, _terminate)
    _typed_now.set((command, tuple(arguments)))
    try:
        outcome = command.main(args=arguments, prog_name=_typed(command), standalone_mode=False)
        if not isinstance(outcome, Outcome):
            return int(outcome or 0)  # --help and --version have printed what they had to say
        _finish(command, outcome)
        return int(outcome.exit_code)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the outermost guard: a fault of our own is told too
        if debug and not isinstance(error, click.UsageError | click.Abort | Interrupted):
            traceback.print_exc()
        reported = _as_reported(error, command, arguments)
        if isinstance(error, click.UsageError):
            _mark_refused(command, arguments, reported)
        return _report(command, reported)


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


_typed_now: ContextVar[tuple[click.Command, tuple[str, ...]] | None] = ContextVar("typed_now", default=None)
"""The command that `main` was called with, for the marks of the phases that it performs."""


@contextmanager
def _marked(name: str, output: Path | None) -> Iterator[None]:
    """Keep the mark of a phase beside its output while the block works, and leave it there where that fails."""
    if output is None or not _has_place(output):
        yield
        return
    from testbench.schema.chain import mark_unfinished

    typed = _typed_now.get()
    repeat = _repeat(*typed) if typed is not None else format_command(name)
    with mark_unfinished(output, name, repeat, _explain):
        yield


def _has_place(output: Path) -> bool:
    """Return whether a file can lie there already; in a folder that is not there, there is nothing to protect from."""
    return bool(output.name) and output.parent.is_dir() and not output.is_dir()


def _explain(error: BaseException) -> str:
    return error.message if isinstance(error, TestbenchError) else f"{type(error).__name__}: {error}"


def _mark_refused(command: click.Command, arguments: Sequence[str], error: TestbenchError) -> None:
    """Leave the mark of a phase whose command line was refused, where there is anything that it could protect from."""
    output = command.find_output(arguments) if isinstance(command, PhaseCommand) else None
    if output is None or not _has_place(output):
        return
    from testbench.schema.chain import leave_mark

    with suppress(TestbenchError):  # what cannot be written has been told no less by the exit code
        leave_mark(output, str(command.name), _repeat(command, arguments), error.message)


def _typed(command: click.Command, *arguments: str) -> str:
    """Return the command line that calls a command with these arguments."""
    names = () if command.name == PROGRAM else (str(command.name),)
    return format_command(*names, *arguments)


def _resume_hint(command: click.Command, arguments: Sequence[str]) -> str:
    return f"Take it up again with: {_repeat(command, arguments)}"


def _repeat(command: click.Command, arguments: Sequence[str]) -> str:
    """Return the command line that goes on where this one ended, secrets left out."""
    return _typed(command, *redact_arguments([argument for argument in arguments if argument != "--fresh"]))


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
