"""The Kubernetes objects that the operator would make of a job: to be read, not applied.

    manifest -> references found among its documents -> the operator's own functions -> YAML

Called by `testbench arena render`. The operator makes the same objects in a cluster, one after the other, with the
job's uid.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import yaml

from testbench.arena.cluster import api
from testbench.arena.cluster.api import Json, Kind
from testbench.arena.manifest.documents import Documents, ResourceIndex
from testbench.arena.manifest.job import ArenaJob
from testbench.arena.operator import jobs
from testbench.arena.operator.observed import Run
from testbench.arena.operator.references import NeedsObjects, ObjectReference, Resolved, resolve
from testbench.arena.operator.settings import OperatorSettings
from testbench.arena.runs.opening import OpenedRun
from testbench.errors import InputError

NO_UID: Final = "00000000-0000-0000-0000-000000000000"
"""Of a job that no API server has seen."""
SHARED_CLAIM: Final[Json] = {"spec": {"accessModes": ["ReadWriteMany"]}}
"""What a claim is taken for that nobody can look at: one that several nodes may write to."""


def render_objects(run: OpenedRun, settings: OperatorSettings | None = None) -> str:
    """Return the objects of all phases, one YAML document each.

    Raises:
        InputError: the operator would wait for something, or refuse the job.
    """
    settings = settings or OperatorSettings()
    metadata = run.job.metadata
    job = run.job.model_copy(update={"metadata": metadata.model_copy(update={"uid": metadata.uid or NO_UID})})
    run = replace(run, job=job)
    resolved = _resolve(job, run.documents, settings)
    shown = list(_build_objects(run, resolved, settings))
    return yaml.safe_dump_all(shown, sort_keys=False, allow_unicode=True, width=120)


def _build_objects(run: OpenedRun, resolved: Resolved, settings: OperatorSettings) -> Iterator[Json]:
    made = Run(run.run_id, run.job, resolved.setup)
    yield jobs.build_run_config(run.job, resolved)
    if resolved.setup.one_pod:
        yield jobs.build_whole_job(made, settings)
        return
    spec = run.job.spec
    items = spec.data_gen.count if spec.type == "datagen" and spec.data_gen is not None else len(run.plan.items)
    shards = jobs.count_shards(run.job, items, settings)
    yield jobs.build_plan_job(made, settings)
    yield jobs.build_work_job(made, jobs.Size(items, shards), 1, settings)
    yield jobs.build_reduce_job(made, jobs.Size(items, shards), 1, settings)


def _resolve(job: ArenaJob, documents: Documents, settings: OperatorSettings) -> Resolved:
    objects: dict[ObjectReference, Json | None] = {}
    while True:
        resolution = resolve(job, objects, cross_namespace=settings.cross_namespace)
        if isinstance(resolution, Resolved):
            return resolution
        if not isinstance(resolution, NeedsObjects):
            hint = "The operator would say the same; put what is missing into the manifest."
            raise InputError(f"{resolution.reason}: {resolution.message}", hint=hint)
        objects |= {reference: _find_object(reference, documents) for reference in resolution.references}


def _find_object(reference: ObjectReference, documents: Documents) -> Json | None:
    """Return a document as the API server would show it; a Secret without its values."""
    if reference.kind == api.CLAIM:
        return SHARED_CLAIM
    found: dict[Kind, ResourceIndex[Any]] = {
        api.ARENA_SOURCE: documents.sources,
        api.PROVIDER: documents.providers,
        api.AGENT_RUNTIME: documents.agents,
        api.TOOL_REGISTRY: documents.registries,
        api.SECRET: documents.secrets,
        api.CONFIG_MAP: documents.config_maps,
    }
    resource = found[reference.kind].named(reference.name, reference.namespace)
    if resource is None:
        return None
    content: Json = resource.model_dump(mode="json", by_alias=True, exclude_none=True)
    if reference.kind == api.SECRET:
        content["data"] = dict.fromkeys(resource.keys, "")
    return content
