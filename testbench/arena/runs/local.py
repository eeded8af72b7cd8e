"""A job on this machine: planned, worked on by one process or several, and reduced; with the functions of the cluster.

    plan -> run folder -> shards (this process, or `testbench arena work` as processes) -> reduce -> Conclusion

Called by the commands `run` and `run-all`. A run that was stopped, or of which a worker failed, is not reduced: it can
be taken up again, and nothing that it has is asked for twice.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

from testbench.arena.conclusion import Conclusion
from testbench.arena.evaluation.reducer import take_over
from testbench.arena.runs.context import JobContext
from testbench.arena.runs.job_types import load_functions, run_in_this_process
from testbench.arena.runs.opening import OpenedRun, check_same_plan, open_context
from testbench.arena.runs.records import check_manifest, read_plan, write_plan, write_shape
from testbench.cli.phase import run_async
from testbench.errors import ExitCode, InputError, NothingToDo, WorkError
from testbench.safe_text import printable
from testbench.schema.progress import Progress, ShowProgress, hide_progress
from testbench.schema.shards import Shard

MOST_STARTS: Final = 3
GRACE_S: Final = 20.0
"""Seconds that a worker has to write down what it has finished."""
ANSWERED, FAILED, READY = b"item answered", b"item failed", b"ready"
"""What a worker says on its stdout: an item is done, or it waits for the common start."""
LEAD_S: Final = 1.0
"""From when all workers of a load test are ready to their common start."""
SHOWN_LINES: Final = 6


@dataclass
class StartBarrier:
    """The workers of a load test begin together: the file appears when all of them wait for it."""

    file: Path
    waiting_for: int
    ready: set[int] = field(default_factory=set)

    def is_ready(self, index: int, run: OpenedRun) -> None:
        self.ready.add(index)
        if len(self.ready) == self.waiting_for and not self.file.exists():
            start = run.options.clock.now() + timedelta(seconds=LEAD_S)
            whole = self.file.with_suffix(".tmp")
            whole.write_text(json.dumps({"t0": start.isoformat()}))
            whole.replace(self.file)


async def work_in_processes(run: OpenedRun, shards: int, round_: int, show_progress: ShowProgress) -> None:
    """All shards of a run, each in a process of its own.

    Raises:
        InputError: a worker cannot work with this configuration.
        WorkError: a worker could not do its work.
    """
    # of other types of jobs only the workers know how much there is to do
    show = show_progress if run.job.spec.type == "evaluation" else hide_progress
    opened: AbstractContextManager[Progress] = show("arena", len(run.plan.items), 0)
    with tempfile.TemporaryDirectory(prefix="testbench-arena-") as folder, opened as progress:
        barrier = StartBarrier(Path(folder) / "start.json", shards) if run.job.spec.type == "loadtest" else None
        workers = [_WorkerProcess(run, index, shards, round_, progress, barrier) for index in range(shards)]
        tasks = [asyncio.create_task(worker.work()) for worker in workers]
        try:
            faults = [fault for fault in await asyncio.gather(*tasks) if fault is not None]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    if faults:
        worst = max(faults, key=lambda fault: isinstance(fault, InputError))
        worst.message = f"{len(faults)} of {shards} workers did not finish: {worst.message}"
        raise worst


class _WorkerProcess:
    """One shard's process, as often as it has to be started."""

    def __init__(
        self, run: OpenedRun, index: int, count: int, round_: int, progress: Progress, barrier: StartBarrier | None
    ) -> None:
        self._run = run
        self._index = index
        self._progress = progress
        self._barrier = barrier
        self._command = build_worker_command(run, index, count, round_)
        if barrier is not None:
            self._command += ["--start-file", str(barrier.file)]

    async def work(self) -> InputError | WorkError | None:
        """Return why the shard is not done, or None."""
        starts = (
            1 if self._barrier is not None else MOST_STARTS
        )  # a load that begins again is not the one that was planned
        for _ in range(starts):
            code, said = await self._once()
            if code == ExitCode.DONE:
                return None
            if code >= 0:
                return self._fault(code, said)
        return WorkError(f"worker {self._index} was killed {starts} times", hint="Look for a lack of memory.")

    async def _once(self) -> tuple[int, Sequence[str]]:
        """Return the exit code of the process, below 0 where a signal ended it, and its last lines on stderr."""
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in a terminal is ours to pass on
        )
        if process.stdout is None or process.stderr is None:
            raise WorkError("a worker has no output", hint="This is a fault in Testbench.")
        try:
            said, _ = await asyncio.gather(process.stderr.read(), self._listen(process.stdout))
            return await process.wait(), said.decode(errors="replace").splitlines()[-SHOWN_LINES:]
        finally:
            await _end_process(process)

    async def _listen(self, stdout: asyncio.StreamReader) -> None:
        while line := await stdout.readline():
            word = line.strip()
            if word in (ANSWERED, FAILED):
                self._progress.advance(failed=word == FAILED)
            elif word == READY and self._barrier is not None:
                self._barrier.is_ready(self._index, self._run)

    def _fault(self, code: int, said: Sequence[str]) -> InputError | WorkError:
        found = {
            key: line.removeprefix(f"{key}: ") for line in said for key in ("error", "hint") if line.startswith(key)
        }
        message = f"worker {self._index}: {printable(found.get('error', f'exit code {code}'))}"
        hint = printable(found.get("hint", "The same run with --debug says more."))
        return InputError(message, hint=hint) if code == ExitCode.CONFIGURATION else WorkError(message, hint=hint)


async def _end_process(process: asyncio.subprocess.Process) -> None:
    """See that the process has ended, also when nobody waits for it any more."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), GRACE_S)
    except TimeoutError:
        process.kill()
        await process.wait()


def build_worker_command(run: OpenedRun, index: int, count: int, round_: int) -> list[str]:
    """Return how a worker of the run is called."""
    options = run.options
    named = {
        "--job": f"{run.job.metadata.namespace}/{run.job.metadata.name}",
        "--source": options.source,
        "--output": options.output,
        "--credentials": options.credentials,
        "--judge-model": options.judge_model,
        "--judge-cache": options.judge_cache,
    }
    given = [text for name, value in named.items() if value is not None for text in (name, str(value))]
    return [
        *(sys.executable, "-m", "testbench", "arena", "work", str(options.manifest), "--run-id", run.run_id),
        *("--index", str(index), "--count", str(count), "--round", str(round_)),
        *("--concurrency", str(options.concurrency), "--tell-items", "--json"),
        *given,
        *(text for pattern in options.only for text in ("--only", pattern)),
    ]


log = logging.getLogger(__name__)

MOST_ROUNDS = 10
"""Rounds of data generation; its reducer ends them before."""


def check_systems(run: OpenedRun) -> None:
    """See that everybody in the plan can be talked to, and be used for a job of this type, without asking anybody.

    Raises:
        InputError: somebody cannot.
        NothingToDo: the plan of a load test has no item.
    """
    run.clients.check(run.plan)
    if run.job.spec.type == "loadtest":
        from testbench.arena.load.traffic import list_drawn_items

        list_drawn_items(run.plan)
    elif run.job.spec.type == "datagen":
        from testbench.arena.datagen.writers import find_targets

        find_targets(run.clients, run.plan.systems)


def begin_run(run: OpenedRun, *, resume: bool = False, earlier: str | None = None) -> None:
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
    check_systems(run)
    if resume:
        check_same_plan(run.plan, read_plan(run.store), run.run_id)
        check_manifest(run.store, run.job, run.documents, run.run_id)
    if earlier is not None:
        if run.job.spec.type != "evaluation":
            raise InputError("only of an evaluation a part can be done again", hint="Begin another run.")
        check_same_plan(run.plan, read_plan(run.beside(earlier)), earlier)
    write_plan(run.store, run.plan, run.job, run.documents)


def execute_run(run: OpenedRun, workers: int, show_progress: ShowProgress, *, earlier: str | None = None) -> Conclusion:
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
        with open_context(run, show_progress=show_progress) as context:
            return run_async(run_in_this_process(context))
    for round_ in range(1, MOST_ROUNDS + 1):
        run_async(work_in_processes(run, shards, round_, show_progress))
        with open_context(run, shard=Shard(0, shards), round_=round_) as context:
            conclusion = run_async(_reduce(context))
        if conclusion is not None:
            return conclusion
    raise WorkError(f"no end after {MOST_ROUNDS} rounds", hint="This is a fault in Testbench.")


async def _reduce(context: JobContext) -> Conclusion | None:
    return await load_functions(context.job.spec.type).reduce(context)
