"""A job on this machine: planned, worked on by one process or several, and reduced; with the functions of the cluster.

    plan -> run folder -> shards (this process, or `cli.py work` as processes) -> reduce -> Conclusion

Called by `cli.py run` and `cli.py run-all`. A run that was stopped, or of which a worker failed, is not reduced: it can
be taken up again, and nothing that it has is asked for twice.
"""

from __future__ import annotations

import logging

from testbench.arena.conclusion import Conclusion
from testbench.arena.execute.context import JobContext, ShardPlace, ShowProgress
from testbench.arena.execute.kinds import functions_of
from testbench.arena.execute.opening import OpenedRun, check_same, opened_context, worker_name
from testbench.arena.execute.processes import work_in_processes
from testbench.arena.execute.records import check_manifest, read_plan, write_plan, write_shape
from testbench.arena.execute.taking_over import take_over
from testbench.command import run_async
from testbench.errors import InputError, NothingToDo, WorkError

log = logging.getLogger(__name__)

MOST_ROUNDS = 10
"""Rounds of data generation; its reducer ends them before."""


def check(run: OpenedRun) -> None:
    """See that everybody in the plan can be talked to, and be used for a job of this type, without asking anybody.

    Raises:
        InputError: somebody cannot.
        NothingToDo: the plan of a load test has no item.
    """
    run.clients.check(run.plan)
    if run.job.spec.type == "loadtest":
        from testbench.arena.load.draws import drawn_items

        drawn_items(run.plan)
    elif run.job.spec.type == "datagen":
        from testbench.arena.execute.writers import targets_of

        targets_of(run.clients, run.plan.contenders)


def begin(run: OpenedRun, *, resume: bool = False, earlier: str | None = None) -> None:
    """Write down what the run is, or see that it is the one that is to be taken up again.

    Raises:
        InputError: somebody in the plan cannot be talked to; or the run to resume, or the one whose results are kept,
            is not there or had another plan.
        NothingToDo: the plan has no item, or the job is cancelled.
        StoreError: the store does not take the plan.
    """
    if run.job.spec.cancelled:
        raise NothingToDo("the job is cancelled", hint="Take spec.cancelled out of the manifest to run it.")
    if run.job.spec.type != "datagen" and not run.plan.items:
        raise NothingToDo("the plan has no item", hint="Look at scenarios.include and at the bundle.")
    check(run)
    if resume:
        check_same(run.plan, read_plan(run.store), run.run_id)
        check_manifest(run.store, run.job, run.documents, run.run_id)
    if earlier is not None:
        if run.job.spec.type != "evaluation":
            raise InputError("only of an evaluation a part can be done again", hint="Begin another run.")
        check_same(run.plan, read_plan(run.beside(earlier)), earlier)
    write_plan(run.store, run.plan, run.job, run.documents)


def execute(run: OpenedRun, workers: int, show_progress: ShowProgress, *, earlier: str | None = None) -> Conclusion:
    """Work on a run that was begun, and end it. What the run `earlier` has answered and judged is not done again.

    Raises:
        Interrupted: a signal asked for it; the run can be taken up again.
        TestbenchError: a worker could not do its work; so can this one.
    """
    shards = write_shape(run.store, workers)
    if earlier is not None:
        kept = take_over(run.beside(earlier), earlier, run.store, run.plan, shards)
        log.info("%d of %d results are those of run %s", kept, len(run.plan.items), earlier)
    if shards == 1:
        with opened_context(run, show_progress=show_progress) as context:
            return run_async(_whole(context))
    for round_ in range(1, MOST_ROUNDS + 1):
        run_async(work_in_processes(run, shards, round_, show_progress))
        place = ShardPlace(0, shards, worker_name())
        with opened_context(run, place=place, round_=round_) as context:
            conclusion = run_async(_reduced(context))
        if conclusion is not None:
            return conclusion
    raise WorkError(f"no end after {MOST_ROUNDS} rounds", hint="This is a fault in Testbench.")


async def _whole(context: JobContext) -> Conclusion:
    return await functions_of(context.job.spec.type).run(context)


async def _reduced(context: JobContext) -> Conclusion | None:
    return await functions_of(context.job.spec.type).reduce(context)
