"""Phase run as a whole: what is already done is kept, the rest is sent, and the output is written when it is complete.

    experiment -> plan (ids) -> trials -> minus what earlier processes did -> runtime and executor -> journal -> output

Called by `testbench/run.py`. The lock, the journal and the output belong together: all are named after the output.
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from testbench import __version__, defaults
from testbench.errors import AgentError, NothingToDo
from testbench.execution.executor import (
    A2AExecutor,
    OnStepError,
    RunDependencies,
    StepRules,
    Trial,
    list_trials,
    sort_for_file,
)
from testbench.execution.resume import Earlier, answered, find_earlier, make_journal_identity
from testbench.execution.run_summary import RunStatistics, Sending, count_run
from testbench.net.pacing import Pacer, automatic_pace, fixed_pace
from testbench.net.retry import GaveUp, RetryPolicy, call_with_retries
from testbench.safe_text import redact_url
from testbench.schema.agent import AgentClient
from testbench.schema.files import set_aside, write_model
from testbench.schema.ids import ScenarioKey, assign_ids, content_id, experiment_id, key_of
from testbench.schema.journal import Journal, RunSession, journal_path
from testbench.schema.lock import hold_lock
from testbench.schema.models import (
    ExecutedExperiment,
    ExecutedScenario,
    ExecutedStep,
    Experiment,
    MadeOf,
    RunRecord,
)
from testbench.schema.progress import Progress, ShowProgress
from testbench.schema.runtime import ExperimentRuntime
from testbench.schema.shards import Shard

CONNECTING: Final = RetryPolicy(retries=2, deadline_s=20.0, base_s=0.5, cap_s=2.0)
"""An agent that is just starting gets a moment; one that is down is found out within seconds."""
SECRET: Final = re.compile(r"auth|cookie|token|key|secret|password|credential|signature", re.IGNORECASE)
"""Headers whose value may change (a token expires) while the run stays the same."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunSettings:
    """What the command line decides about a run; `adaptive` makes `concurrency` a ceiling."""

    agent_url: str
    output: Path
    workflow_name: str = defaults.WORKFLOW_NAME
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    concurrency: int = defaults.AGENT_CONCURRENCY
    adaptive: bool = False
    repeats: int = 1
    shard: Shard | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    on_step_error: OnStepError = "skip"
    fresh: bool = False
    retry_errors: bool = False
    made_of: tuple[MadeOf, ...] = ()
    """The experiment's file, as the output will name it."""


@dataclass(frozen=True)
class RunResult:
    """The executed experiment as it stands in the output, and whether that was there already."""

    executed: ExecutedExperiment
    statistics: RunStatistics
    already_complete: bool = False


async def execute(
    experiment: Experiment,
    settings: RunSettings,
    agent: AgentClient,
    dependencies: RunDependencies,
    show_progress: ShowProgress,
) -> RunResult:
    """Run an experiment, or a shard of it, and write the output.

    A finished output never shrinks: with fewer repeats than it holds, all of it is what was asked for. A shard for
    which no scenario is left asks nobody and writes an empty output, with which every later phase has nothing to do.

    Raises:
        NothingToDo: the experiment has no step.
        AgentError: the agent is not there, or answered nothing while the result of another run lies at the output: that
            stays where it is.
        StoreError: another run writes the same output, or it cannot be written.
    """
    scenarios = assign_ids(experiment.scenarios)
    if not any(scenario.steps for scenario in scenarios):
        raise NothingToDo("the experiment has no step", hint="Check the dataset, or the --limit of setup.")
    identity = make_run_identity(experiment, settings)
    shard = str(settings.shard) if settings.shard else None
    with hold_lock(settings.output):
        earlier = Earlier() if settings.fresh else find_earlier(settings.output, identity, shard)
        repeats = max(settings.repeats, earlier.repeats)
        wanted = list_trials(scenarios, repeats, settings.shard)
        kept = earlier.kept([trial.key for trial in wanted], retry_errors=settings.retry_errors)
        if earlier.output is not None and earlier.is_finished(settings.made_of) and len(kept) == len(wanted):
            return RunResult(earlier.output, count_run(earlier.output, Sending()), already_complete=True)
        run = _Run(experiment, replace(settings, repeats=repeats), identity, agent, dependencies)
        return await run.execute(sort_for_file(wanted, scenarios), kept, earlier, show_progress)


def make_run_identity(experiment: Experiment, settings: RunSettings) -> str:
    """Return the digest of all that decides an answer: input, target, and the settings that change what is sent.

    How often a scenario is run, and by which shard, is no part of it: a run with more repeats keeps what is there, and
    shards are put together because they agree in it.
    """
    headers = sorted(
        (name.lower(), "" if SECRET.search(name) else hashlib.sha256(value.encode()).hexdigest())
        for name, value in settings.headers
    )
    address = urlsplit(settings.agent_url)
    place = [address.scheme, address.netloc.rpartition("@")[2], address.path, address.query]
    target = [place, settings.workflow_name, headers]
    return content_id("run", experiment_id(experiment), target, settings.on_step_error)


@dataclass(frozen=True)
class _Run:
    """One run from the first message to the output."""

    experiment: Experiment
    settings: RunSettings
    identity: str
    agent: AgentClient
    dependencies: RunDependencies

    async def execute(
        self,
        wanted: Sequence[Trial],
        kept: Mapping[ScenarioKey, ExecutedScenario],
        earlier: Earlier,
        show_progress: ShowProgress,
    ) -> RunResult:
        """`wanted` in the order of the output."""
        clock = self.dependencies.clock
        left = sorted((trial for trial in wanted if trial.key not in kept), key=lambda trial: trial.repetition)
        sending = Sending(scenarios_taken_over=len(kept))
        started = clock.monotonic()
        session = await self._connect(earlier) if left else None
        done = dict(kept)
        path = journal_path(self.settings.output)
        if earlier.journal is None:
            set_aside(path, "is of an earlier run")
        with Journal(path, make_journal_identity(self.identity, self._shard), earlier.journal, clock) as journal:
            if session is not None:
                journal.begin(session)
            steps_kept = sum(len(scenario.steps) for scenario in kept.values())
            with show_progress("run", sum(len(trial.steps) for trial in wanted), steps_kept) as progress:
                done |= {key_of(scenario): scenario for scenario in await self._send(left, journal, sending, progress)}
            sending.seconds = clock.monotonic() - started
            now = [session.model_copy(update={"seconds": sending.seconds})] if session is not None else []
            record = self._record([*earlier.sessions, *now])
            executed = _executed(self.experiment, [done[trial.key] for trial in wanted], record)
            self._write(executed, earlier)
            if earlier.known.keys() <= done.keys():
                journal.discard()
            else:
                set_aside(path, "holds repetitions that were not asked for")
        return RunResult(executed, count_run(executed, sending))

    def _write(self, executed: ExecutedExperiment, earlier: Earlier) -> None:
        """Write the output; what another run has left there is put aside once there is anything to put in its place."""
        output = self.settings.output
        if earlier.output is None and output.exists():
            steps = [step for scenario in executed.scenarios for step in scenario.steps]
            if steps and not any(answered(scenario) for scenario in executed.scenarios):
                raise _nothing_answered(steps, output)
            set_aside(output, "is of an earlier run")
        write_model(output, executed)

    @property
    def _shard(self) -> str | None:
        return str(self.settings.shard) if self.settings.shard else None

    def _record(self, sessions: Sequence[RunSession]) -> RunRecord:
        """Whose answers these are: the agent as it was seen last, the time as all processes needed it together."""
        seen = next((session for session in reversed(sessions) if session.agent_name or session.protocol_version), None)
        return RunRecord(
            agent_url=redact_url(self.settings.agent_url),
            agent_name=seen.agent_name if seen else None,
            agent_version=seen.agent_version if seen else None,
            protocol_version=seen.protocol_version if seen else None,
            workflow_name=self.settings.workflow_name,
            testbench_version=__version__,
            started_at=sessions[0].started_at if sessions else self.dependencies.clock.now(),
            wall_seconds=math.fsum(session.seconds for session in sessions),
            identity=self.identity,
            repeats=self.settings.repeats,
            shard=self._shard,
            made_of=self.settings.made_of,
        )

    async def _connect(self, earlier: Earlier) -> RunSession:
        """This process at its work, once the agent is there."""
        started_at = self.dependencies.clock.now()
        connected = await call_with_retries(
            self.agent.connect, CONNECTING, self.dependencies.clock, self.dependencies.chance
        )
        if isinstance(connected, GaveUp):
            place = redact_url(self.settings.agent_url)
            if place not in connected.error.message:  # the deadline cut the last try short
                connected.error.message = f"{place}: {connected.error.message}"
            raise connected.error
        agent = connected.value
        versions = [session.agent_version for session in earlier.sessions if session.agent_version]
        if versions and agent.version and agent.version != versions[-1]:
            log.warning(
                "the agent was version %s when this run began and is %s now: --fresh asks one version everything",
                versions[-1],
                agent.version,
            )
        return RunSession(
            started_at=started_at,
            agent_name=agent.name,
            agent_version=agent.version,
            protocol_version=agent.protocol_version,
        )

    async def _send(
        self, left: Sequence[Trial], journal: Journal[ExecutedScenario], sending: Sending, progress: Progress
    ) -> Sequence[ExecutedScenario]:
        def step_done(step: ExecutedStep, attempts: int) -> None:
            sending.steps += attempts > 0
            sending.retries += max(0, attempts - 1)
            progress.advance(failed=step.status != "ok")

        settings = self.settings
        pacer = Pacer(automatic_pace(settings.concurrency) if settings.adaptive else fixed_pace(settings.concurrency))
        rules = StepRules(settings.retry, settings.on_step_error)
        runtime = ExperimentRuntime(
            A2AExecutor(self.agent, rules, self.dependencies, pacer, step_done),
            concurrency=settings.concurrency,
            on_scenario_done=journal.append,
        )
        return await runtime.run(left)


def _nothing_answered(steps: Sequence[ExecutedStep], output: Path) -> AgentError:
    first = next((step.error for step in steps if step.error is not None), None)
    example = f", e.g. {first.kind}: {first.message}" if first is not None else ""
    return AgentError(
        f"the agent answered not a single step{example}",
        kind=first.kind if first is not None else "no_answer",
        hint=f"{output} still holds the earlier run; the same command asks again.",
    )


def _executed(experiment: Experiment, scenarios: Sequence[ExecutedScenario], run: RunRecord) -> ExecutedExperiment:
    return ExecutedExperiment.model_validate(
        dict(experiment) | {"id": experiment_id(experiment), "run": run, "scenarios": tuple(scenarios)}
    )
