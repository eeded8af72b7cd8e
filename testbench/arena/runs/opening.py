"""From the options of a command to a `JobContext`: the job, its plan, the store of its results, clients and traces.

    manifest, source -> Inputs (job, documents, bundle) -> plan, output, credentials -> OpenedRun -> JobContext

Called by `local` and by the commands of `testbench arena`.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Final
from uuid import uuid4

from testbench import defaults
from testbench.arena.bundle.bundle import Bundle
from testbench.arena.bundle.reader import load_bundle, read_config_map
from testbench.arena.manifest.documents import Documents, load_documents
from testbench.arena.manifest.job import ArenaJob, ScenarioFilter
from testbench.arena.plan.build import prepare_plan
from testbench.arena.plan.model import Plan
from testbench.arena.runs.context import CommonStart, JobContext, Outputs, RunFolder
from testbench.arena.runs.records import read_plan
from testbench.arena.runs.target_clients import ClientDependencies, CredentialSource, TargetClients
from testbench.arena.stores import ResultStore, make_run_id, name_run_folder, open_bucket_store, open_folder_store
from testbench.errors import InputError
from testbench.net.clock import Clock, SystemClock
from testbench.net.object_store import store_settings
from testbench.schema.progress import ShowProgress
from testbench.schema.shards import WHOLE, Shard
from testbench.telemetry.tracing import open_tracing


@dataclass(frozen=True)
class Inputs:
    """A job with everything that a plan is made of."""

    job: ArenaJob
    documents: Documents
    bundle: Bundle


def load_inputs(
    manifest: Path, *, name: str | None = None, source: Path | None = None, only: Sequence[str] = ()
) -> Inputs:
    """Return the job `name` (or the only one) of a manifest, with the bundle at `source` or where its ArenaSource says.

    `only`: patterns instead of the job's `scenarios.include`.

    Raises:
        InputError: the manifest or the bundle is not as it should be, or nothing says where the bundle is.
    """
    documents = load_documents(manifest)
    job = _select_scenarios(documents.job(name), only)
    bundle = load_bundle(source) if source is not None else _find_bundle(job, documents)
    return Inputs(job, documents, bundle)


def _select_scenarios(job: ArenaJob, patterns: Sequence[str]) -> ArenaJob:
    if not patterns:
        return job
    before = job.spec.scenarios or ScenarioFilter()
    scenarios = before.model_copy(update={"include": tuple(patterns)})
    return job.model_copy(update={"spec": job.spec.model_copy(update={"scenarios": scenarios})})


def _find_bundle(job: ArenaJob, documents: Documents) -> Bundle:
    """Return the bundle of the job's source: a ConfigMap of the manifest, or the folder that its status names."""
    name, namespace = job.spec.source_ref.name, job.metadata.namespace
    source = documents.sources.named(name, namespace)
    if source is not None and source.spec.config_map is not None:
        config_map = documents.config_maps.named(source.spec.config_map.name, namespace)
        if config_map is not None:
            return read_config_map(config_map)
    artifact = source.status.artifact if source is not None and source.status is not None else None
    if artifact is not None and artifact.content_path and Path(artifact.content_path).is_dir():
        return load_bundle(Path(artifact.content_path))
    hint = "Say with --source where its scenarios are: a folder, a checkout, or an archive."
    raise InputError(f"ArenaSource {name}: its content is not here", hint=hint)


RUN_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class RunOptions:
    """The options of every command that executes.

    Without `output` the manifest says where results are kept, and `defaults.ARENA_FOLDER` where it names no bucket.
    """

    manifest: Path
    job: str | None = None
    source: Path | None = None
    only: tuple[str, ...] = ()
    output: Path | None = None
    credentials: Path | None = None
    concurrency: int = defaults.AGENT_CONCURRENCY
    judge_model: str | None = None
    judge_cache: Path | None = None
    outputs: Outputs = field(default_factory=Outputs)
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    clock: Clock = field(default_factory=SystemClock)


@dataclass(frozen=True)
class OpenedRun:
    """A run with its plan, of which the folder may be there or not."""

    options: RunOptions
    job: ArenaJob
    documents: Documents
    plan: Plan
    store: RunFolder
    run_id: str
    bundle: Bundle | None = None

    @property
    def credentials(self) -> CredentialSource:
        """Where this run's credentials may be."""
        return CredentialSource(self.documents, self.options.credentials, self.options.environment)

    @property
    def clients(self) -> TargetClients:
        """Clients without tracing; for checks."""
        return TargetClients(
            self.job, self.documents, self.credentials, self.plan.chat, self.plan.tools, self.options.concurrency
        )

    def beside(self, run: str) -> RunFolder:
        """Return the folder of another run of the same job.

        Raises:
            InputError: this cannot be the name of a run.
        """
        metadata = self.job.metadata
        return RunFolder(self.store.whole, name_run_folder(metadata.namespace, metadata.name, check_run_name(run)))


def prepare_run(options: RunOptions, run: str | None = None) -> OpenedRun:
    """Return a run whose plan is made here and now; a new one, or the one of that name.

    Raises:
        InputError: manifest, bundle, metrics, credentials or store settings are not as they should be.
    """
    inputs = load_inputs(options.manifest, name=options.job, source=options.source, only=options.only)
    plan, documents = prepare_plan(inputs.job, inputs.documents, inputs.bundle)
    inputs = Inputs(inputs.job, documents, inputs.bundle)
    name = check_run_name(run) if run is not None else make_new_run_id(inputs.job, options.clock.now())
    store = _open_folder(options, inputs.job, documents, name)
    return OpenedRun(options, inputs.job, documents, plan, store, name, inputs.bundle)


def open_run(options: RunOptions, run: str) -> OpenedRun:
    """Return a run that was begun: its plan comes from the store, and the bundle is read only where it is needed again.

    Raises:
        InputError: there is no such run, or the bundle has changed.
        StoreError: the store did not answer.
    """
    documents = load_documents(options.manifest)
    job = documents.job(options.job)
    store = _open_folder(options, job, documents, check_run_name(run))
    plan, bundle = read_plan(store), None
    if job.spec.providers is None or job.spec.type == "datagen":
        inputs = load_inputs(options.manifest, name=options.job, source=options.source, only=options.only)
        made, documents = prepare_plan(inputs.job, inputs.documents, inputs.bundle)
        check_same_plan(made, plan, run)
        bundle = inputs.bundle
    return OpenedRun(options, job, documents, plan, store, run, bundle)


def check_same_plan(made: Plan, begun: Plan, run: str) -> None:
    """
    Raises:
        InputError: the run was begun with another plan than the one that the inputs make now.
    """
    if made.digest != begun.digest:
        hint = "Manifest or bundle have changed, or --only differs: begin another run, or go back to what they were."
        raise InputError(f"run {run} was begun with another plan", hint=hint)


@contextmanager
def open_context(
    run: OpenedRun,
    *,
    shard: Shard = WHOLE,
    round_: int = 1,
    common_start: CommonStart | None = None,
    show_progress: ShowProgress | None = None,
) -> Iterator[JobContext]:
    """Yield the context of a worker or a reducer, with traces that are delivered at the end."""
    options = run.options
    with open_tracing(workflow_name=run.plan.job, agent_url="") as tracing:
        context = JobContext(
            job=run.job,
            documents=run.documents,
            plan=run.plan,
            store=run.store,
            run_id=run.run_id,
            clients=replace(
                run.clients, dependencies=ClientDependencies(clock=options.clock, instrument=tracing.instrument)
            ),
            source=run.bundle,
            shard=shard,
            worker=make_worker_name(),
            round=round_,
            common_start=common_start,
            concurrency=options.concurrency,
            clock=options.clock,
            environment=options.environment,
            tracing=tracing,
            judge_model=options.judge_model,
            judge_cache=options.judge_cache,
            outputs=options.outputs,
        )
        yield context if show_progress is None else replace(context, show_progress=show_progress)


def open_store(options: RunOptions, job: ArenaJob, documents: Documents) -> ResultStore:
    """Return where the results of a job are kept.

    Raises:
        InputError: the bucket's credentials are not there, or the environment's endpoint is none.
    """
    output = job.spec.output
    if options.output is None and output is not None and output.s3 is not None:
        source = CredentialSource(documents, options.credentials, options.environment)
        credentials = source.of_output(output.s3, job.metadata.namespace)
        return open_bucket_store(output.s3, store_settings(options.environment), credentials)
    return open_folder_store(options.output or defaults.ARENA_FOLDER)


def _open_folder(options: RunOptions, job: ArenaJob, documents: Documents, run: str) -> RunFolder:
    folder = name_run_folder(job.metadata.namespace, job.metadata.name, run)
    return RunFolder(open_store(options, job, documents), folder)


def make_new_run_id(job: ArenaJob, now: datetime) -> str:
    """Return a name that no other run has."""
    return make_run_id(now, f"{job.metadata.uid or ''}{uuid4().hex}")


def check_run_name(name: str) -> str:
    """
    Raises:
        InputError: this cannot be the name of a run.
    """
    if not RUN_NAME.fullmatch(name):
        raise InputError(f"{name!r} is not a name of a run", hint="It is the last folder of the run's address.")
    return name


def make_worker_name() -> str:
    """Return a name that no other process has: the pod's, or the machine's, with something of this process."""
    host = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().lower()).strip("-")[:63] or "worker"
    return f"{host}-{os.getpid()}-{secrets.token_hex(3)}"
