"""The console command `testbench`, and `python -m testbench`: every phase, and what runs in a cluster, by its name.

The commands are those of the scripts. One is imported when it is asked for, so that `--help` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import click

from testbench import __version__
from testbench.cli import phase
from testbench.invocation import PROGRAM


def _setup() -> click.Command:
    from testbench.setup import command

    return command


def _run() -> click.Command:
    from testbench.run import command

    return command


def _evaluate() -> click.Command:
    from testbench.evaluate import command

    return command


def _publish() -> click.Command:
    from testbench.publish import command

    return command


def _visualize() -> click.Command:
    from testbench.visualize import command

    return command


def _gate() -> click.Command:
    from testbench.gate import command

    return command


def _merge() -> click.Command:
    from testbench.merge import command

    return command


def _pipeline() -> click.Command:
    from testbench.pipeline import command

    return command


def _demo() -> click.Command:
    from testbench.demo import command

    return command


def _arena() -> click.Command:
    from testbench.arena.commands import command

    return command


def _operator() -> click.Command:
    from testbench.arena.operator.command import command

    return command


COMMANDS: Final[Mapping[str, Callable[[], click.Command]]] = {
    "setup": _setup,
    "run": _run,
    "evaluate": _evaluate,
    "publish": _publish,
    "visualize": _visualize,
    "gate": _gate,
    "merge": _merge,
    "pipeline": _pipeline,
    "demo": _demo,
    "arena": _arena,
    "operator": _operator,
}
"""What loads each command, in the order in which `--help` lists them."""


class _Program(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return COMMANDS[cmd_name]() if cmd_name in COMMANDS else None


program = click.version_option(__version__, prog_name=PROGRAM)(
    _Program(
        PROGRAM,
        help="""Decide whether an AI agent is good enough to ship.

        setup, run, evaluate, visualize and gate are the phases, in their order; pipeline is all of them in one go.
        """,
        context_settings=dict(phase.CONTEXT),
    )
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names, and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in COMMANDS:
        return phase.main(COMMANDS[arguments[0]](), arguments[1:])
    return phase.main(program, arguments)


if __name__ == "__main__":
    sys.exit(main())
