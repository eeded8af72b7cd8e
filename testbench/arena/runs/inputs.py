"""What every arena command begins with: the manifest, the job that is meant, and its bundle.

Called by `testbench arena`. Reads the disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from testbench.arena.bundle.bundle import Bundle
from testbench.arena.bundle.reader import load_bundle, read_config_map
from testbench.arena.manifest.documents import Documents, load_documents
from testbench.arena.manifest.job import ArenaJob, ScenarioFilter
from testbench.errors import InputError


@dataclass(frozen=True)
class Inputs:
    """A job with everything that a plan is made of."""

    job: ArenaJob
    documents: Documents
    bundle: Bundle


def load_inputs(
    manifest: Path, *, name: str | None = None, source: Path | None = None, only: Sequence[str] = ()
) -> Inputs:
    """The job `name` (or the only one) of a manifest, with the bundle at `source` or where its ArenaSource says.

    `only`: patterns instead of the job's `scenarios.include`.

    Raises:
        InputError: the manifest or the bundle is not as it should be, or nothing says where the bundle is.
    """
    documents = load_documents(manifest)
    job = _only(documents.job(name), only)
    bundle = load_bundle(source) if source is not None else _bundle_of(job, documents)
    return Inputs(job, documents, bundle)


def _only(job: ArenaJob, patterns: Sequence[str]) -> ArenaJob:
    if not patterns:
        return job
    before = job.spec.scenarios or ScenarioFilter()
    scenarios = before.model_copy(update={"include": tuple(patterns)})
    return job.model_copy(update={"spec": job.spec.model_copy(update={"scenarios": scenarios})})


def _bundle_of(job: ArenaJob, documents: Documents) -> Bundle:
    """The bundle of the job's source: a ConfigMap of the manifest, or the folder that its status names."""
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
