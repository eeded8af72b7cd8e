"""What to do next for one ArenaJob: pure, and the same whatever was done or lost before.

    Seen + now -> Decision(actions, status, look again)

    pending     references are resolved; the ConfigMap of the run keeps what it was started with
    running     plan -> work -> reduce, each a Job; or one Job of one pod for all three; data generation repeats the
                last two; a load test gives its workers a common start
    ended       nothing runs any more; the time to live removes the ArenaJob

Every step follows from what exists, so a crash anywhere is answered by looking again. A Job of ours that disappeared is
made again: workers take up from the parts that are in the store.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from testbench.arena.cluster.kinds import ARENA_JOB, CONFIG_MAP, JOB, Json
from testbench.arena.conclusion import CANCELLED, OUTPUT_FAILED, Conclusion, Counts
from testbench.arena.manifest.job import ArenaJob, ArenaJobSpec, DataGenSettings
from testbench.arena.manifest.job_status import JobStatus, Progress
from testbench.arena.manifest.schedule import removal_time
from testbench.arena.operator import jobs, names, scaling, schedules
from testbench.arena.operator.actions import Action, CopySecret, Create, Decision, Delete, EmitEvent, Patch, decided
from testbench.arena.operator.observed import KubeJob, Run, Seen
from testbench.arena.operator.pod_messages import Again, Planned, Refusal
from testbench.arena.operator.pods import shown_result
from testbench.arena.operator.references import More, Refused, Resolved, Waiting
from testbench.arena.operator.settings import Settings
from testbench.arena.status import Standing

MAX_ROUNDS: Final = 10
INVALID: Final = "InvalidManifest"
NO_PLAN: Final = "NoPlan"
NO_CONCLUSION: Final = "NoConclusion"
NOT_GANGED: Final = "NotGanged"
ROUNDS_EXHAUSTED: Final = "RoundsExhausted"


@dataclass(frozen=True)
class _Step:
    """Where a job stands, what is to be done, and when it has to be looked at again without being woken."""

    standing: Standing
    actions: tuple[Action, ...] = ()
    requeue_after_s: float | None = None


def reconcile(seen: Seen, now: datetime, settings: Settings) -> Decision:
    """The next step of a job. Applied again and again, it ends; applied to an ended job, it cleans up."""
    if seen.deleting:
        return Decision()
    manifest = seen.manifest
    if manifest is not None and manifest.spec.schedule is not None and seen.run is None:
        return schedules.reconcile(seen, manifest, now)
    if seen.ended and not _corrected(seen):
        return _after_the_end(seen, now)
    before = JobStatus() if seen.ended else seen.status
    step = _step(seen, now, settings)
    return decided(seen, before, step.standing, step.actions, now, step.requeue_after_s)


def _corrected(seen: Seen) -> bool:
    """Whether a job that was refused before anything was started has been changed since: then it may begin."""
    started = seen.jobs or seen.run is not None
    return not started and seen.status.phase == "Failed" and seen.status.observed_generation != seen.generation


def _after_the_end(seen: Seen, now: datetime) -> Decision:
    actions: tuple[Action, ...] = _stop(seen)
    ttl = seen.manifest.spec.ttl_seconds_after_finished if seen.manifest is not None else None
    removal = removal_time(seen.status.completion_time or now, ttl)
    if removal is None:
        return Decision(actions)
    if removal > now or not seen.tick_recorded:
        return Decision(actions, requeue_after_s=max(1.0, (removal - now).total_seconds()))
    return Decision((*actions, Delete(ARENA_JOB, seen.name, seen.uid)))


def _stop(seen: Seen) -> tuple[Delete, ...]:
    """End every Job that is still at work."""
    live = (job for job in seen.jobs.values() if job.state == "running" and not job.deleting)
    return tuple(Delete(JOB, job.name, job.uid) for job in live)


def _step(seen: Seen, now: datetime, settings: Settings) -> _Step:
    if seen.manifest is None:
        return _Step(Standing(refusal=(INVALID, seen.fault)))
    if seen.manifest.spec.cancelled:
        return _cancelled(seen)
    if seen.run is not None:
        step = _running(seen, seen.run, now, settings)
        return replace(step, actions=(*_ignored(seen, seen.manifest, seen.run), *step.actions))
    match seen.resolution:
        case Refused(reason, message):
            return _Step(Standing(refusal=(reason, message)))
        case Waiting(reason, message):
            return _Step(Standing(waiting=(reason, message)), requeue_after_s=settings.reference_poll_s)
        case Resolved():
            return _begin(seen.manifest, seen.resolution)
        case More() | None:
            return _Step(Standing(waiting=("Pending", "")), requeue_after_s=settings.reference_poll_s)


def _cancelled(seen: Seen) -> _Step:
    """End the pods first, and say so then: whoever reads `Cancelled` sees nothing at work that was not told to stop."""
    known = seen.status.progress or Progress()
    unjudged = max(0, known.total - known.completed - known.failed)
    counts = Counts(total=known.total, passed=known.completed, errors=known.failed, unjudged=unjudged)
    message = f"Cancelled after {known.completed} of {known.total} items; what was done is kept."
    return _Step(Standing(created=bool(seen.jobs), conclusion=_end(CANCELLED, message, counts)), _stop(seen))


def _begin(manifest: ArenaJob, resolved: Resolved) -> _Step:
    body = jobs.run_config(manifest, resolved)
    size = sum(len(text.encode()) for text in body["data"].values())
    if size > jobs.MAX_CONFIG_BYTES:
        message = (
            f"The manifest and what it refers to are {size:,} bytes; at most {jobs.MAX_CONFIG_BYTES:,} can be kept."
        )
        return _Step(Standing(refusal=("TooLarge", message)))
    copies = tuple(CopySecret(one.namespace, one.name, jobs.secret_copy(manifest, one)) for one in resolved.copies)
    one_pod = resolved.setup.why_one_pod
    told = (EmitEvent("Warning", "OnePod", one_pod),) if one_pod else ()
    return _Step(Standing(), (*copies, *told, Create(CONFIG_MAP, body)), requeue_after_s=0)


# --- a run ----------------------------------------------------------------------------------------------------------


def _running(seen: Seen, run: Run, now: datetime, settings: Settings) -> _Step:
    name = run.manifest.metadata.name
    if run.setup.one_pod:
        whole = seen.jobs.get(names.whole_job(name))
        if whole is None:
            return _create(jobs.whole_job(run, settings))
        if not _decided(seen, whole):
            return _Step(_at_work(whole, Standing()))
        return _concluded(seen, run, whole)
    begun = [job.items for job in seen.jobs.values() if job.items is not None]
    if begun:
        return _round(seen, run, begun[0], now, settings)
    plan = seen.jobs.get(names.plan_job(name))
    if plan is None:
        return _create(jobs.plan_job(run, settings))
    if plan.state == "running":
        return _Step(_at_work(plan, Standing()))
    match seen.words.get(plan.name):
        case Planned(items=items):
            return _round(seen, run, items, now, settings)
        case Refusal(reason=reason, message=message):
            return _Step(Standing(refusal=(reason, message)))
        case _:
            message = f"The pod that plans ended without a word. {plan.why}"
            return _Step(Standing(conclusion=_end(NO_PLAN, message)))


def _ignored(seen: Seen, manifest: ArenaJob, run: Run) -> tuple[EmitEvent, ...]:
    """Says, once for each change of the manifest, that a run which has begun goes on as it was."""
    if seen.generation == seen.status.observed_generation or _lasting(manifest) == _lasting(run.manifest):
        return ()
    message = "The run goes on as it was begun; delete the ArenaJob and create it again to run the changed manifest."
    return (EmitEvent("Warning", "ChangeIgnored", message),)


def _lasting(manifest: ArenaJob) -> ArenaJobSpec:
    """The part of the spec that a run keeps."""
    return manifest.spec.model_copy(update={"cancelled": False, "ttl_seconds_after_finished": None})


def _round(seen: Seen, run: Run, planned: int, now: datetime, settings: Settings) -> _Step:
    """Work and reduce; data generation has a further round where there is not enough.

    What came before the latest round needs no proof any more: its pods may be gone, with their nodes or by hand.
    """
    job, name = run.manifest, run.manifest.metadata.name
    wanted = job.spec.data_gen or DataGenSettings()
    items = wanted.count if job.spec.type == "datagen" else planned
    size = jobs.Size(items, jobs.shards_of(job, items, settings))
    begun = (number for number in range(MAX_ROUNDS, 0, -1) if names.work_job(name, number) in seen.jobs)
    round_ = next(begun, 1)
    work = seen.jobs.get(names.work_job(name, round_))
    standing = Standing(created=True, progress=scaling.progress(items, work))
    if work is None:
        return _create(jobs.work_job(run, size, round_, settings), standing)
    if work.state == "running":
        return _working(seen, run, work, _at_work(work, standing), now, settings)
    if jobs.is_gang(job) and (not seen.start_told or work.why.startswith(jobs.FAILED_BY_RULE)):
        return _Step(Standing(created=True, conclusion=_not_ganged(seen, work)))
    reduce = seen.jobs.get(names.reduce_job(name, round_))
    if reduce is None:
        step = _create(jobs.reduce_job(run, jobs.Size(items, work.completions), round_, settings), standing)
        return replace(step, actions=(*_complaint(seen, work), *step.actions))
    if not _decided(seen, reduce):
        return _Step(_at_work(reduce, standing))
    if not isinstance(seen.words.get(reduce.name), Again) or job.spec.type != "datagen":
        return _concluded(seen, run, reduce)
    if round_ < MAX_ROUNDS:
        return _create(jobs.work_job(run, size, round_ + 1, settings), standing)
    message = f"After {MAX_ROUNDS} rounds there are still too few different items."
    exhausted = _end(ROUNDS_EXHAUSTED, message, Counts(total=items, unjudged=items))
    return _Step(Standing(created=True, conclusion=exhausted))


def _at_work(job: KubeJob, standing: Standing) -> Standing:
    """The standing while a Job runs; what keeps its pods from starting is what the job waits for."""
    return replace(standing, created=True, active_workers=job.ready, waiting=job.trouble)


def _working(
    seen: Seen, run: Run, work: KubeJob, standing: Standing, now: datetime, settings: Settings
) -> _Step:  # fmt: skip
    if jobs.is_gang(run.manifest):
        return _gathering(seen, run, work, standing, now, settings)
    most = min(run.manifest.spec.workers.most, work.completions)
    parallelism = scaling.next_parallelism(work, most)
    if parallelism == work.parallelism:
        return _Step(standing)
    change: Json = {"spec": {"parallelism": parallelism}}
    told = EmitEvent("Normal", "ScaledUp", f"{parallelism} workers at most, of {most}.")
    return _Step(standing, (Patch(JOB, work.name, work.resource_version, change), told))


def _gathering(
    seen: Seen, run: Run, work: KubeJob, standing: Standing, now: datetime, settings: Settings
) -> _Step:  # fmt: skip
    """A common start once everybody is ready; an end where that takes too long."""
    if seen.start_told:
        return _Step(standing)
    if work.ready >= work.completions:
        start = now + timedelta(seconds=settings.start_lead_s)
        body = jobs.start_config(run.manifest, start)
        told = EmitEvent("Normal", "Started", f"All {work.completions} workers are ready; they begin together.")
        return _Step(standing, (Create(CONFIG_MAP, body), told))
    left = settings.gang_timeout_s - (now - work.created_at).total_seconds()
    if left > 0:
        return _Step(standing, requeue_after_s=left)
    return _Step(Standing(created=True, conclusion=_not_ganged(seen, work)))


def _create(body: Json, standing: Standing | None = None) -> _Step:
    """Make a Job. What it brings is seen in the next round; until it exists the job's status does not claim it."""
    name = body["metadata"]["name"]
    told = EmitEvent("Normal", "JobCreated", f"Job {name}")
    return _Step(standing or Standing(), (Create(JOB, body), told), requeue_after_s=0)


# --- the end --------------------------------------------------------------------------------------------------------


def _decided(seen: Seen, last: KubeJob) -> bool:
    """Whether the last pod has said how the run ended. Only outputs that were not written are worth another try."""
    word = seen.words.get(last.name)
    final = isinstance(word, Conclusion) and word.phase == "Failed" and word.reason != OUTPUT_FAILED
    return last.state != "running" or final


def _concluded(seen: Seen, run: Run, last: KubeJob) -> _Step:
    """The conclusion that the last pod gave. A Job that failed can bring bad news and never good ones."""
    match seen.words.get(last.name):
        case Conclusion() as told if told.phase != "Succeeded" or last.state == "complete":
            url = shown_result(run, told.url)
            return _Step(Standing(created=True, conclusion=told.model_copy(update={"url": url})))
        case Refusal(reason=reason, message=message):
            return _Step(Standing(refusal=(reason, message)))
        case _:
            message = f"The last pod ended without a word that can be relied on. {last.why}"
            return _Step(Standing(created=True, conclusion=_end(NO_CONCLUSION, message, _unknown(seen))))


def _unknown(seen: Seen) -> Counts:
    total = seen.status.progress.total if seen.status.progress else 0
    return Counts(total=total, unjudged=total)


def _not_ganged(seen: Seen, work: KubeJob) -> Conclusion:
    message = f"{work.ready} of {work.completions} workers were ready in time, so there was no common start."
    if seen.start_told:
        message = "A worker missed the common start."
    return _end(NOT_GANGED, " ".join((message, *(work.trouble or ()), work.why)))


def _end(reason: str, message: str, counts: Counts | None = None) -> Conclusion:
    phase = "Cancelled" if reason == CANCELLED else "Failed"
    return Conclusion(phase=phase, reason=reason, message=message.strip(), counts=counts or Counts(total=0))


def _complaint(seen: Seen, work: KubeJob) -> tuple[EmitEvent, ...]:
    """What a failed worker said itself, for the person who wonders why shards are missing."""
    if work.state != "failed":
        return ()
    word = seen.words.get(work.name)
    said = f" One said: {word.message}" if isinstance(word, Refusal | Conclusion) else ""
    return (EmitEvent("Warning", "WorkersFailed", f"Shards {work.failed_indexes or '?'} failed. {work.why}{said}"),)
