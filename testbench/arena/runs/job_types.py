"""What each type of job does: its worker, its reducer, and both in one process; and the exit code that a conclusion is.

The dictionary is where a type of job is added. Each package is loaded only for its own type.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
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
    """What every type of job has.

    `work` does the shard `context.shard` in `shards/<index>/`. `reduce` makes the outputs of the run from all shards'
    files; None: data generation needs another round first.
    """

    work: Callable[[JobContext], Awaitable[None]]
    reduce: Callable[[JobContext], Awaitable[Conclusion | None]]


def _load_evaluation() -> JobFunctions:
    from testbench.arena.evaluation.reducer import reduce_evaluation
    from testbench.arena.evaluation.worker import work_evaluation

    return JobFunctions(work_evaluation, reduce_evaluation)


def _load_load_test() -> JobFunctions:
    from testbench.arena.load.reducer import reduce_load
    from testbench.arena.load.worker import work_load

    return JobFunctions(work_load, reduce_load)


def _load_data_generation() -> JobFunctions:
    from testbench.arena.datagen.reducer import reduce_datagen
    from testbench.arena.datagen.worker import work_datagen

    return JobFunctions(work_datagen, reduce_datagen)


JOB_TYPES: Final[dict[JobType, Callable[[], JobFunctions]]] = {
    "evaluation": _load_evaluation,
    "loadtest": _load_load_test,
    "datagen": _load_data_generation,
}


def load_functions(job_type: JobType) -> JobFunctions:
    """Return the functions of a type of job."""
    return JOB_TYPES[job_type]()


async def run_in_this_process(context: JobContext) -> Conclusion:
    """Return the end of a job after all of its work and rounds; what an earlier process has done is not done again."""
    functions = load_functions(context.job.spec.type)
    while True:
        await functions.work(context)
        conclusion = await functions.reduce(context)
        if conclusion is not None:
            return conclusion
        context = replace(context, round=context.round + 1)


def get_exit_code(conclusion: Conclusion) -> ExitCode:
    """Return what a process says that ends with this conclusion: only a success is 0."""
    code = EXIT_CODES.get(conclusion.reason, ExitCode.NOT_DONE)
    return ExitCode.NOT_DONE if code is ExitCode.DONE and conclusion.phase != "Succeeded" else code
