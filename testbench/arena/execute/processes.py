"""Workers as processes of this machine: each does one shard with the command that a cluster's pod calls.

    shard -> python -m testbench.arena.cli work … --index I -> its lines -> progress; its exit code -> done, or why not

Called by `local`. A worker that is killed is started again, and goes on with what is missing; one that says why it
cannot work is not. When this process is told to stop, so are they, and nothing is left behind.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

from testbench.arena.execute.context import Progress, ShowProgress, silent_progress
from testbench.arena.execute.opening import OpenedRun
from testbench.errors import ExitCode, InputError, WorkError
from testbench.printable import printable

MOST_STARTS: Final = 3
GRACE_S: Final = 20.0
"""Seconds that a worker has to write down what it has finished."""
ANSWERED, FAILED, READY = b"item answered", b"item failed", b"ready"
"""What a worker says on its stdout: an item is done, or it waits for the common start."""
LEAD_S: Final = 1.0
"""From when all workers of a load test are ready to their common start."""
SHOWN_LINES: Final = 6


@dataclass
class _Gang:
    """The workers of a load test begin together: the file appears when all of them wait for it."""

    file: Path
    waiting_for: int
    ready: set[int] = field(default_factory=set)

    def is_ready(self, index: int, run: OpenedRun) -> None:
        self.ready.add(index)
        if len(self.ready) == self.waiting_for and not self.file.exists():
            start = run.told.clock.now() + timedelta(seconds=LEAD_S)
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
    show = show_progress if run.job.spec.type == "evaluation" else silent_progress
    opened: AbstractContextManager[Progress] = show("arena", len(run.plan.items), 0)
    with tempfile.TemporaryDirectory(prefix="testbench-arena-") as folder, opened as progress:
        gang = _Gang(Path(folder) / "start.json", shards) if run.job.spec.type == "loadtest" else None
        workers = [_Worker(run, index, shards, round_, progress, gang) for index in range(shards)]
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


class _Worker:
    """One shard's process, as often as it has to be started."""

    def __init__(
        self, run: OpenedRun, index: int, count: int, round_: int, progress: Progress, gang: _Gang | None
    ) -> None:
        self._run = run
        self._index = index
        self._progress = progress
        self._gang = gang
        self._command = worker_command(run, index, count, round_)
        if gang is not None:
            self._command += ["--start-file", str(gang.file)]

    async def work(self) -> InputError | WorkError | None:
        """Why the shard is not done, or None."""
        starts = (
            1 if self._gang is not None else MOST_STARTS
        )  # a load that begins again is not the one that was planned
        for _ in range(starts):
            code, said = await self._once()
            if code == ExitCode.DONE:
                return None
            if code >= 0:
                return self._fault(code, said)
        return WorkError(f"worker {self._index} was killed {starts} times", hint="Look for a lack of memory.")

    async def _once(self) -> tuple[int, Sequence[str]]:
        """The exit code of the process, below 0 where a signal ended it, and its last lines on stderr."""
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
            await _end(process)

    async def _listen(self, stdout: asyncio.StreamReader) -> None:
        while line := await stdout.readline():
            word = line.strip()
            if word in (ANSWERED, FAILED):
                self._progress.advance(failed=word == FAILED)
            elif word == READY and self._gang is not None:
                self._gang.is_ready(self._index, self._run)

    def _fault(self, code: int, said: Sequence[str]) -> InputError | WorkError:
        found = {
            key: line.removeprefix(f"{key}: ") for line in said for key in ("error", "hint") if line.startswith(key)
        }
        message = f"worker {self._index}: {printable(found.get('error', f'exit code {code}'))}"
        hint = printable(found.get("hint", "The same run with --debug says more."))
        return InputError(message, hint=hint) if code == ExitCode.CONFIGURATION else WorkError(message, hint=hint)


async def _end(process: asyncio.subprocess.Process) -> None:
    """See that the process has ended, also when nobody waits for it any more."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), GRACE_S)
    except TimeoutError:
        process.kill()
        await process.wait()


def worker_command(run: OpenedRun, index: int, count: int, round_: int) -> list[str]:
    """How a worker of the run is called."""
    told = run.told
    named = {
        "--job": f"{run.job.metadata.namespace}/{run.job.metadata.name}",
        "--source": told.source,
        "--output": told.output,
        "--credentials": told.credentials,
        "--judge-model": told.judge_model,
        "--judge-cache": told.judge_cache,
    }
    options = [text for name, value in named.items() if value is not None for text in (name, str(value))]
    return [
        *(sys.executable, "-m", "testbench.arena.cli", "work", str(told.manifest), "--run-id", run.run_id),
        *("--index", str(index), "--count", str(count), "--round", str(round_)),
        *("--concurrency", str(told.concurrency), "--tell-items", "--json"),
        *options,
        *(text for pattern in told.only for text in ("--only", pattern)),
    ]
