"""What each type of job does: its worker, its reducer, and both in one process; and the exit code that a conclusion is.

The dictionary is where a type of job is added. Each package is loaded only for its own type.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from testbench.arena.conclusion import BELOW_THRESHOLD, NO_ITEMS, SUCCEEDED, Conclusion
from testbench.arena.datagen.rounds import INSUFFICIENT_UNIQUE
from testbench.arena.load.limits import BUDGET_EXCEEDED, LIMIT_MISSED, NO_REQUESTS
from testbench.arena.manifest.job import JobType
from testbench.arena.runs.context import JobContext
from testbench.errors import ExitCode

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


def _load_evaluation() -> JobFunctions:
    from testbench.arena.evaluation.reducer import reduce_evaluation
    from testbench.arena.evaluation.worker import run_evaluation, work_evaluation

    return JobFunctions(work_evaluation, reduce_evaluation, run_evaluation)


def _load_load_test() -> JobFunctions:
    from testbench.arena.load import worker

    return JobFunctions(worker.work_load, worker.reduce_load, worker.run_load)


def _load_data_generation() -> JobFunctions:
    from testbench.arena.datagen import worker

    return JobFunctions(worker.work_datagen, worker.reduce_datagen, worker.run_datagen)


JOB_TYPES: Final[dict[JobType, Callable[[], JobFunctions]]] = {
    "evaluation": _load_evaluation,
    "loadtest": _load_load_test,
    "datagen": _load_data_generation,
}


def functions_of(job_type: JobType) -> JobFunctions:
    """Return the functions of a type of job."""
    return JOB_TYPES[job_type]()


def exit_code_of(conclusion: Conclusion) -> ExitCode:
    """Return what a process says that ends with this conclusion: only a success is 0."""
    code = EXIT_CODES.get(conclusion.reason, ExitCode.NOT_DONE)
    return ExitCode.NOT_DONE if code is ExitCode.DONE and conclusion.phase != "Succeeded" else code
