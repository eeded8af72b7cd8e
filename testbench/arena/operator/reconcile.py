"""Decides what to do next for one ArenaJob: pure, and the same whatever was done or lost before.

    Observed + now -> Decision(actions, status, look again)

    pending     references are resolved; the ConfigMap of the run keeps what it was started with
    running     plan -> work -> reduce, each a Job; or one Job of one pod for all three; data generation repeats the
                last two; a load test gives its workers a common start
    ended       nothing runs any more; the time to live removes the ArenaJob

Every step follows from what exists, so after a crash anywhere another round goes on from there. A Job that disappeared
is made again: workers go on from the parts that are in the store. Called by `loop`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from testbench.arena.cluster.api import ARENA_JOB, CONFIG_MAP, JOB, Json
from testbench.arena.conclusion import CANCELLED, NO_COMMON_START, OUTPUT_FAILED, Conclusion, Counts
from testbench.arena.manifest.job import ArenaJob, ArenaJobSpec, DataGenSettings
from testbench.arena.manifest.job_status import JobProgress, JobStatus
from testbench.arena.manifest.schedule import compute_removal_time
from testbench.arena.operator import jobs, schedules
from testbench.arena.operator.actions import (
    Action,
    CopySecret,
    Create,
    Decision,
    Delete,
    EmitEvent,
    Patch,
    make_decision,
)
from testbench.arena.operator.job_state import PENDING, JobState
from testbench.arena.operator.metadata import name_plan_job, name_reduce_job, name_whole_job, name_work_job
from testbench.arena.operator.observed import KubeJob, Observed, Run
from testbench.arena.operator.pod_messages import AnotherRound, PlanMade, RunRefusal
from testbench.arena.operator.pods import build_result_url
from testbench.arena.operator.references import NeedsObjects, Refused, Resolved, Waiting
from testbench.arena.operator.settings import OperatorSettings

MAX_ROUNDS: Final = 10
INVALID: Final = "InvalidManifest"
NO_PLAN: Final = "NoPlan"
NO_CONCLUSION: Final = "NoConclusion"
TOO_LARGE: Final = "TooLarge"
ROUNDS_EXHAUSTED: Final = "RoundsExhausted"


@dataclass(frozen=True)
class _Step:
    """The state of a job, what is to be done, and after how many seconds the next round is due without being woken."""

    state: JobState
    actions: tuple[Action, ...] = ()
    requeue_after_s: float | None = None


def reconcile(observed: Observed, now: datetime, settings: OperatorSettings) -> Decision:
    """Return the next step of a job: towards its end, and after that, what is to be cleaned up."""
    if observed.deleting:
        return Decision()
    manifest = observed.manifest
    if manifest is not None and manifest.spec.schedule is not None and observed.run is None:
        return schedules.reconcile(observed, manifest, now)
    if observed.ended and not _is_corrected(observed):
        return _clean_up(observed, now)
    before = JobStatus() if observed.ended else observed.status
    step = _next_step(observed, now, settings)
    return make_decision(observed, before, step.state, step.actions, now, step.requeue_after_s)


def _is_corrected(observed: Observed) -> bool:
    """Return whether a job that was refused before anything was started has been changed since: then it may begin."""
    return observed.changed_after_failure and not observed.jobs and observed.run is None


def _clean_up(observed: Observed, now: datetime) -> Decision:
    actions: tuple[Action, ...] = _stop(observed)
    ttl = observed.manifest.spec.ttl_seconds_after_finished if observed.manifest is not None else None
    removal = compute_removal_time(observed.status.completion_time or now, ttl)
    if removal is None:
        return Decision(actions)
    if removal > now or not observed.tick_recorded:
        return Decision(actions, requeue_after_s=max(1.0, (removal - now).total_seconds()))
    return Decision((*actions, Delete(ARENA_JOB, observed.name, observed.uid)))


def _stop(observed: Observed) -> tuple[Delete, ...]:
    """Return the deletion of every Job that is still at work."""
    live = (job for job in observed.jobs.values() if job.state == "running" and not job.deleting)
    return tuple(Delete(JOB, job.name, job.uid) for job in live)


def _next_step(observed: Observed, now: datetime, settings: OperatorSettings) -> _Step:
    if observed.manifest is None:
        return _Step(JobState(refusal=(INVALID, observed.fault)))
    if observed.manifest.spec.cancelled:
        return _cancel_run(observed)
    if observed.run is not None:
        step = _continue_run(observed, observed.run, now, settings)
        ignored = _report_ignored_change(observed, observed.manifest, observed.run)
        return replace(step, actions=(*ignored, *step.actions))
    match observed.resolution:
        case Refused(reason, message):
            return _Step(JobState(refusal=(reason, message)))
        case Waiting(reason, message):
            return _Step(JobState(waiting=(reason, message)), requeue_after_s=settings.reference_poll_s)
        case Resolved():
            return _begin_run(observed.manifest, observed.resolution)
        case NeedsObjects() | None:
            return _Step(JobState(waiting=(PENDING, "")), requeue_after_s=settings.reference_poll_s)


def _cancel_run(observed: Observed) -> _Step:
    """End the pods before the status says so: once it says `Cancelled`, everything was told to stop."""
    known = observed.status.progress or JobProgress()
    unjudged = max(0, known.total - known.completed - known.failed)
    counts = Counts(total=known.total, passed=known.completed, errors=known.failed, unjudged=unjudged)
    message = f"Cancelled after {known.completed} of {known.total} items; what was done is kept."
    conclusion = _build_conclusion(CANCELLED, message, counts)
    return _Step(JobState(created=bool(observed.jobs), conclusion=conclusion), _stop(observed))


def _begin_run(manifest: ArenaJob, resolved: Resolved) -> _Step:
    body = jobs.build_run_config(manifest, resolved)
    size = sum(len(text.encode()) for text in body["data"].values())
    if size > jobs.MAX_CONFIG_BYTES:
        message = (
            f"The manifest and what it refers to are {size:,} bytes; at most {jobs.MAX_CONFIG_BYTES:,} can be kept."
        )
        return _Step(JobState(refusal=(TOO_LARGE, message)))
    copies = tuple(
        CopySecret(one.namespace, one.name, jobs.build_secret_copy(manifest, one)) for one in resolved.copies
    )
    one_pod = resolved.setup.why_one_pod
    event = (EmitEvent("Warning", "OnePod", one_pod),) if one_pod else ()
    return _Step(JobState(), (*copies, *event, Create(CONFIG_MAP, body)), requeue_after_s=0)


# --- a run ----------------------------------------------------------------------------------------------------------


def _continue_run(observed: Observed, run: Run, now: datetime, settings: OperatorSettings) -> _Step:
    name = run.manifest.metadata.name
    if run.setup.one_pod:
        whole = observed.jobs.get(name_whole_job(name))
        if whole is None:
            return _create_job(jobs.build_whole_job(run, settings))
        if not _is_decided(observed, whole):
            return _Step(_working_state(whole, JobState()))
        return _conclude(observed, run, whole)
    begun = [job.items for job in observed.jobs.values() if job.items is not None]
    if begun:
        return _continue_round(observed, run, begun[0], now, settings)
    plan = observed.jobs.get(name_plan_job(name))
    if plan is None:
        return _create_job(jobs.build_plan_job(run, settings))
    if plan.state == "running":
        return _Step(_working_state(plan, JobState()))
    match observed.messages.get(plan.name):
        case PlanMade(items=items):
            return _continue_round(observed, run, items, now, settings)
        case RunRefusal(reason=reason, message=message):
            return _Step(JobState(refusal=(reason, message)))
        case _:
            message = f"The planning pod ended without a message. {plan.reason}"
            return _Step(JobState(conclusion=_build_conclusion(NO_PLAN, message)))


def _report_ignored_change(observed: Observed, manifest: ArenaJob, run: Run) -> tuple[EmitEvent, ...]:
    """Return an event, once for each change of the manifest, that a run which has begun goes on as it was."""
    if observed.generation == observed.status.observed_generation or _kept_spec(manifest) == _kept_spec(run.manifest):
        return ()
    message = "The run goes on as it was begun; delete the ArenaJob and create it again to run the changed manifest."
    return (EmitEvent("Warning", "ChangeIgnored", message),)


def _kept_spec(manifest: ArenaJob) -> ArenaJobSpec:
    """Return the part of the spec that cannot change while a run goes on."""
    return manifest.spec.model_copy(update={"cancelled": False, "ttl_seconds_after_finished": None})


def _continue_round(observed: Observed, run: Run, planned: int, now: datetime, settings: OperatorSettings) -> _Step:
    """Return the next step of the latest round: work, reduce, or another round of data generation.

    What came before the latest round is not looked at: its pods may be gone, with their nodes or by hand.
    """
    job, name = run.manifest, run.manifest.metadata.name
    wanted = job.spec.data_gen or DataGenSettings()
    items = wanted.count if job.spec.type == "datagen" else planned
    size = jobs.Size(items, jobs.count_shards(job, items, settings))
    begun = (number for number in range(MAX_ROUNDS, 0, -1) if name_work_job(name, number) in observed.jobs)
    round_ = next(begun, 1)
    work = observed.jobs.get(name_work_job(name, round_))
    state = JobState(created=True, progress=jobs.compute_progress(items, work))
    if work is None:
        return _create_job(jobs.build_work_job(run, size, round_, settings), state)
    if work.state == "running":
        return _continue_work(observed, run, work, _working_state(work, state), now, settings)
    if jobs.needs_common_start(job) and (not observed.start_announced or work.reason.startswith(jobs.FAILED_BY_RULE)):
        return _Step(JobState(created=True, conclusion=_no_common_start(observed, work)))
    reduce = observed.jobs.get(name_reduce_job(name, round_))
    if reduce is None:
        step = _create_job(jobs.build_reduce_job(run, jobs.Size(items, work.completions), round_, settings), state)
        return replace(step, actions=(*_report_failed_workers(observed, work), *step.actions))
    if not _is_decided(observed, reduce):
        return _Step(_working_state(reduce, state))
    if not isinstance(observed.messages.get(reduce.name), AnotherRound) or job.spec.type != "datagen":
        return _conclude(observed, run, reduce)
    if round_ < MAX_ROUNDS:
        return _create_job(jobs.build_work_job(run, size, round_ + 1, settings), state)
    message = f"After {MAX_ROUNDS} rounds there are still too few different items."
    exhausted = _build_conclusion(ROUNDS_EXHAUSTED, message, Counts(total=items, unjudged=items))
    return _Step(JobState(created=True, conclusion=exhausted))


def _working_state(job: KubeJob, state: JobState) -> JobState:
    """Return the state while a Job runs; what keeps its pods from starting is what the job waits for."""
    return replace(state, created=True, active_workers=job.ready, waiting=job.trouble)


def _continue_work(
    observed: Observed, run: Run, work: KubeJob, state: JobState, now: datetime, settings: OperatorSettings
) -> _Step:  # fmt: skip
    if jobs.needs_common_start(run.manifest):
        return _await_common_start(observed, run, work, state, now, settings)
    most = min(run.manifest.spec.workers.most, work.completions)
    parallelism = jobs.choose_parallelism(work, most)
    if parallelism == work.parallelism:
        return _Step(state)
    change: Json = {"spec": {"parallelism": parallelism}}
    event = EmitEvent("Normal", "ScaledUp", f"{parallelism} workers at most, of {most}.")
    return _Step(state, (Patch(JOB, work.name, work.resource_version, change), event))


def _await_common_start(
    observed: Observed, run: Run, work: KubeJob, state: JobState, now: datetime, settings: OperatorSettings
) -> _Step:  # fmt: skip
    """Return a common start once all workers are ready, or the end where that takes too long."""
    if observed.start_announced:
        return _Step(state)
    if work.ready >= work.completions:
        start = now + timedelta(seconds=settings.start_lead_s)
        body = jobs.build_start_config(run.manifest, start)
        event = EmitEvent("Normal", "Started", f"All {work.completions} workers are ready; they begin together.")
        return _Step(state, (Create(CONFIG_MAP, body), event))
    left = settings.start_timeout_s - (now - work.created_at).total_seconds()
    if left > 0:
        return _Step(state, requeue_after_s=left)
    return _Step(JobState(created=True, conclusion=_no_common_start(observed, work)))


def _create_job(body: Json, state: JobState | None = None) -> _Step:
    """Return the creation of a Job. Until a round observes it, the status does not say that it exists."""
    name = body["metadata"]["name"]
    event = EmitEvent("Normal", "JobCreated", f"Job {name}")
    return _Step(state or JobState(), (Create(JOB, body), event), requeue_after_s=0)


# --- the end --------------------------------------------------------------------------------------------------------


def _is_decided(observed: Observed, last: KubeJob) -> bool:
    """Return whether the last pod has said how the run ended. Only outputs that were not written are tried again."""
    message = observed.messages.get(last.name)
    final = isinstance(message, Conclusion) and message.phase == "Failed" and message.reason != OUTPUT_FAILED
    return last.state != "running" or final


def _conclude(observed: Observed, run: Run, last: KubeJob) -> _Step:
    """Return the end that the last pod reported. A Job that failed cannot report a success."""
    match observed.messages.get(last.name):
        case Conclusion() as reported if reported.phase != "Succeeded" or last.state == "complete":
            url = build_result_url(run, reported.url)
            return _Step(JobState(created=True, conclusion=reported.model_copy(update={"url": url})))
        case RunRefusal(reason=reason, message=message):
            return _Step(JobState(refusal=(reason, message)))
        case _:
            message = f"The last pod ended without a message that can be relied on. {last.reason}"
            return _Step(
                JobState(created=True, conclusion=_build_conclusion(NO_CONCLUSION, message, _count_unjudged(observed)))
            )


def _count_unjudged(observed: Observed) -> Counts:
    total = observed.status.progress.total if observed.status.progress else 0
    return Counts(total=total, unjudged=total)


def _no_common_start(observed: Observed, work: KubeJob) -> Conclusion:
    message = f"{work.ready} of {work.completions} workers were ready in time, so there was no common start."
    if observed.start_announced:
        message = "A worker missed the common start."
    return _build_conclusion(NO_COMMON_START, " ".join((message, *(work.trouble or ()), work.reason)))


def _build_conclusion(reason: str, message: str, counts: Counts | None = None) -> Conclusion:
    phase = "Cancelled" if reason == CANCELLED else "Failed"
    return Conclusion(phase=phase, reason=reason, message=message.strip(), counts=counts or Counts(total=0))


def _report_failed_workers(observed: Observed, work: KubeJob) -> tuple[EmitEvent, ...]:
    """Return an event with the message of a failed worker: it explains why shards are missing."""
    if work.state != "failed":
        return ()
    message = observed.messages.get(work.name)
    said = f" One said: {message.message}" if isinstance(message, RunRefusal | Conclusion) else ""
    return (EmitEvent("Warning", "WorkersFailed", f"Shards {work.failed_indexes or '?'} failed. {work.reason}{said}"),)
