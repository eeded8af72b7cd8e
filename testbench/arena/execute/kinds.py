"""The functions of each type of job, under one name; each module is loaded only for its own type."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Final, NamedTuple

from testbench.arena.conclusion import BELOW_THRESHOLD, NO_ITEMS, SUCCEEDED, Conclusion
from testbench.arena.datagen.rounds import INSUFFICIENT_UNIQUE
from testbench.arena.execute.context import JobContext
from testbench.arena.load.limits import BUDGET_EXCEEDED, LIMIT_MISSED, NO_REQUESTS
from testbench.arena.manifest import JobType
from testbench.errors import ExitCode

MODULES: Final[dict[JobType, str]] = {"evaluation": "evaluation", "loadtest": "load", "datagen": "datagen"}

EXIT_CODES: Final[dict[str, ExitCode]] = {
    SUCCEEDED: ExitCode.DONE,
    BELOW_THRESHOLD: ExitCode.VERDICT_FAIL,
    LIMIT_MISSED: ExitCode.VERDICT_FAIL,
    BUDGET_EXCEEDED: ExitCode.VERDICT_FAIL,
    INSUFFICIENT_UNIQUE: ExitCode.VERDICT_FAIL,
    NO_ITEMS: ExitCode.NOTHING_TO_DO,
    NO_REQUESTS: ExitCode.NOTHING_TO_DO,
}
"""Every other reason is work that could not be done."""


class JobFunctions(NamedTuple):
    """What `context` says that a type of job has."""

    work: Callable[[JobContext], Awaitable[None]]
    reduce: Callable[[JobContext], Awaitable[Conclusion | None]]
    run: Callable[[JobContext], Awaitable[Conclusion]]


def functions_of(kind: JobType) -> JobFunctions:
    """The functions of a type of job."""
    name = MODULES[kind]
    module = import_module(f"testbench.arena.execute.{name}")
    return JobFunctions(*(getattr(module, f"{what}_{name}") for what in JobFunctions._fields))


def exit_code_of(conclusion: Conclusion) -> ExitCode:
    """What a process says that ends with this conclusion: only a success is 0."""
    code = EXIT_CODES.get(conclusion.reason, ExitCode.NOT_DONE)
    return ExitCode.NOT_DONE if code is ExitCode.DONE and conclusion.phase != "Succeeded" else code
