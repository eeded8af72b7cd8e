"""What every script of Testbench does the same way: options, signals, errors, the last line and the exit code.

A script decorates one function with `phase`, which returns an `Outcome`, and ends with `sys.exit(main(command))`.
stdout carries the result, stderr everything else. The last line says the same as the exit code, e.g.
`run: done (exit 0): 12 of 12 steps answered`.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import click

from testbench import __version__, defaults, logs
from testbench.errors import ExitCode, InputError, Interrupted, TestbenchError
from testbench.printable import printable
from testbench.redaction import shown_arguments

T = TypeVar("T")
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

WORDS: Mapping[int, str] = {
    ExitCode.DONE: "done",
    ExitCode.VERDICT_FAIL: "verdict is fail",
    ExitCode.BAD_INPUT: "bad input",
    ExitCode.NOT_DONE: "could not be done",
    ExitCode.NOTHING_TO_DO: "nothing to do",
    ExitCode.INTERRUPTED: "interrupted",
    ExitCode.TERMINATED: "terminated",
}


@dataclass(frozen=True)
class Outcome:
    """How a phase ended: one sentence, what `--json` prints, and the exit code."""

    sentence: str
    data: Mapping[str, Any] = field(default_factory=dict)
    exit_code: ExitCode = ExitCode.DONE


option = partial(click.option, show_default=True, show_envvar=True)
"""An option that shows its default and its environment variable in `--help`."""


def gate_policy(function: FunctionT) -> FunctionT:
    """The options of whoever needs the verdict: the gate itself, and the report that must agree with it."""
    for add in (
        option(
            "--max-error-rate",
            type=click.FloatRange(0, 1),
            default=defaults.MAX_ERROR_RATE,
            help="Proportion that may stay unjudged; more is no verdict.",
        ),
        option(
            "--min-pass-rate",
            type=click.FloatRange(0, 1),
            default=defaults.MIN_PASS_RATE,
            help="Proportion that must pass; what could not be judged has not passed.",
        ),
    ):
        function = add(function)
    return function


def phase(name: str) -> Callable[[Callable[..., Outcome]], click.Command]:
    """Make a function that returns an `Outcome` the command of a phase.

    Every option can also be given as `TESTBENCH_<NAME>_<OPTION>`.
    """

    def decorate(function: Callable[..., Outcome]) -> click.Command:
        settings = {"auto_envvar_prefix": f"TESTBENCH_{name.upper()}", "max_content_width": 110}
        for shared in (
            click.version_option(__version__, prog_name="testbench"),
            click.option("--debug", is_flag=True, help="Show the traceback of an error."),
            click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout, and nothing else."),
        ):
            function = shared(function)
        return click.command(name, context_settings=settings)(function)

    return decorate


def main(command: click.Command, argv: Sequence[str] | None = None) -> int:
    """Run a phase's command and return its exit code; never raises, and shows no traceback without `--debug`."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in arguments
    debug = "--debug" in arguments or bool(os.environ.get("TESTBENCH_DEBUG"))
    logs.configure()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        outcome = command.main(args=arguments, prog_name=_program(command), standalone_mode=False)
    except click.UsageError as error:
        usage = f"{_program(command)} --help"
        return _report(command, InputError(error.format_message(), hint=f"See {usage}"))
    except click.Abort:
        return _report(command, Interrupted(ExitCode.INTERRUPTED, hint=_again(command, arguments)))
    except Interrupted as error:
        error.hint = error.hint or _again(command, arguments)
        return _report(command, error)
    except TestbenchError as error:
        if debug:
            traceback.print_exc()
        return _report(command, error)
    except Exception as error:  # noqa: BLE001 - the outermost guard: a fault of our own is told too
        if debug:
            traceback.print_exc()
        hint = "This is a fault in Testbench: please report it with the output of --debug."
        return _report(command, TestbenchError(f"{type(error).__name__}: {error}", hint=hint))
    if not isinstance(outcome, Outcome):
        return int(outcome or 0)  # --help and --version have printed what they had to say
    _finish(command, outcome, as_json)
    return int(outcome.exit_code)


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
    return f"testbench/{command.name}.py"


def _again(command: click.Command, arguments: Sequence[str]) -> str:
    kept = [argument for argument in arguments if argument != "--fresh"]
    return f"Take it up again with: python {shlex.join([_program(command), *shown_arguments(kept)])}"


def _finish(command: click.Command, outcome: Outcome, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"phase": command.name, "exit_code": int(outcome.exit_code), **outcome.data}, default=str))
    print(last_line(command, outcome), file=sys.stderr if as_json else sys.stdout, flush=True)


def _report(command: click.Command, error: TestbenchError) -> int:
    code = int(error.exit_code)
    print(f"error: {printable(error.message)}", file=sys.stderr)
    print(f"hint: {printable(error.hint)}", file=sys.stderr)
    print(f"{command.name}: {WORDS[code]} (exit {code})", file=sys.stderr, flush=True)
    return code
