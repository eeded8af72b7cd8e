"""Resolves a job's references to everything that its pods need, or says why that is not possible, or not yet.

    ArenaJob, found objects -> NeedsObjects | Waiting | Refused | Resolved

Pure: `observer` reads what is needed and asks again. What does not exist may still come: the job waits and says what
for. What can never work is refused with its reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar
from urllib.parse import urlsplit

from pydantic import ValidationError

from testbench.arena.bundle.bundle import check_path, is_hidden
from testbench.arena.cluster import api
from testbench.arena.cluster.api import Json, Kind
from testbench.arena.manifest.documents import validate_manifest
from testbench.arena.manifest.job import ArenaJob
from testbench.arena.manifest.job_status import MESSAGE_LENGTH
from testbench.arena.manifest.resources import AgentRuntime, ArenaSource, Provider, Resource, ToolRegistry
from testbench.arena.operator.fetch import SOURCE_INVALID
from testbench.arena.plan.model import PlanModel
from testbench.errors import InputError
from testbench.safe_text import printable, redact_url
from testbench.schema.files import describe

OUTPUT_FOLDER: Final = "output"
"""Of the credentials; a provider's folder has a `_` in its name."""
OUTPUT_KEYS: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
PROVIDER_KEYS: Final = ("api-key", "apiKey", "api_key", "API_KEY", "OPENAI_API_KEY", "token", "key")
"""Where a Provider does not say which key of its Secret it means, workers look for these."""

CROSS_NAMESPACE: Final = "CrossNamespace"
AGENT_NOT_READY: Final = "AgentNotReady"
SOURCE_NOT_READY: Final = "SourceNotReady"
SOURCE_NOT_SUPPORTED: Final = "SourceNotSupported"

ResourceT = TypeVar("ResourceT", bound=Resource)


class ObjectReference(NamedTuple):
    """An object by its kind, namespace and name."""

    kind: Kind
    namespace: str
    name: str


FoundObjects: TypeAlias = Mapping[ObjectReference, Json | None]
"""The objects that were read; None: it does not exist."""


class SourceFile(PlanModel):
    """A key of a ConfigMap and its path in the bundle."""

    key: str
    path: str


class BundleSource(PlanModel):
    """Where the pods get the bundle: a mounted ConfigMap, or an archive that they fetch."""

    config_map: str | None = None
    files: tuple[SourceFile, ...] = ()
    url: str | None = None
    checksum: str | None = None


class MountedSecret(PlanModel):
    """Keys of a Secret that pods see as files in a folder of the credentials, those of them that there are.

    A Secret without a name is the job's copy of another namespace's.
    """

    folder: str
    secret: str
    keys: tuple[str, ...]


class PodSetup(PlanModel):
    """What the pods of a run are made of, beside the manifest; kept for the whole run."""

    source: BundleSource
    credentials: tuple[MountedSecret, ...] = ()
    one_pod: bool = False
    why_one_pod: str = ""


class SecretCopy(NamedTuple):
    """A Secret of another namespace that one folder of the credentials needs a copy of."""

    folder: str
    namespace: str
    name: str


@dataclass(frozen=True)
class NeedsObjects:
    """These objects have to be read first."""

    references: tuple[ObjectReference, ...]


@dataclass(frozen=True)
class Waiting:
    """Something does not exist, or is not ready."""

    reason: str
    message: str


@dataclass(frozen=True)
class Refused:
    """This can never work."""

    reason: str
    message: str


@dataclass(frozen=True)
class Resolved:
    """Everything is there. `documents` are for the pods, without secrets; `copies` are made before they start."""

    setup: PodSetup
    documents: tuple[Json, ...]
    copies: tuple[SecretCopy, ...] = ()


Resolution: TypeAlias = NeedsObjects | Waiting | Refused | Resolved


class _Unresolved(Exception):
    """Ends the resolution early with this answer."""

    def __init__(self, answer: NeedsObjects | Waiting | Refused) -> None:
        self.answer = answer


def resolve(job: ArenaJob, objects: FoundObjects, *, cross_namespace: bool = False) -> Resolution:
    """Return what the job's references resolve to, as far as `objects` tell."""
    wanted = tuple(_references(job))
    if more := tuple(reference for reference in wanted if reference not in objects):
        return NeedsObjects(more)
    try:
        return _Resolver(job, objects, cross_namespace).resolve()
    except _Unresolved as stop:
        return stop.answer


def _references(job: ArenaJob) -> Iterator[ObjectReference]:
    here, spec = job.metadata.namespace, job.spec
    yield ObjectReference(api.ARENA_SOURCE, here, spec.source_ref.name)
    for entries in (spec.providers or {}).values():
        for entry in entries:
            if entry.provider_ref is not None:
                yield ObjectReference(api.PROVIDER, entry.provider_ref.namespace or here, entry.provider_ref.name)
            elif entry.agent_ref is not None:
                yield ObjectReference(api.AGENT_RUNTIME, here, entry.agent_ref.name)
    for registry in spec.tool_registries:
        yield ObjectReference(api.TOOL_REGISTRY, here, registry.name)
    if spec.output is not None and spec.output.pvc is not None:
        yield ObjectReference(api.CLAIM, here, spec.output.pvc.claim_name)


class _Resolver:
    """Resolves the references of one job."""

    def __init__(self, job: ArenaJob, objects: FoundObjects, cross_namespace: bool) -> None:
        self.job = job
        self.objects = objects
        self.cross_namespace = cross_namespace
        self.home = job.metadata.namespace

    def resolve(self) -> Resolved:
        references = tuple(dict.fromkeys(_references(self.job)))
        source = self.parse(ObjectReference(api.ARENA_SOURCE, self.home, self.job.spec.source_ref.name), ArenaSource)
        providers = [self.parse_provider(one) for one in references if one.kind == api.PROVIDER]
        agents = [self.parse_agent(one) for one in references if one.kind == api.AGENT_RUNTIME]
        registries = [self.parse(one, ToolRegistry) for one in references if one.kind == api.TOOL_REGISTRY]
        one_pod, why = self.choose_one_pod()
        credentials, copies = self.list_credentials(providers)
        setup = PodSetup(source=self.find_source(source), credentials=credentials, one_pod=one_pod, why_one_pod=why)
        documents = (
            _to_document(api.ARENA_SOURCE, source),
            *(_to_document(api.PROVIDER, provider) for provider in providers),
            *(_to_document(api.AGENT_RUNTIME, agent) for agent in agents),
            *(_to_document(api.TOOL_REGISTRY, registry) for registry in registries),
        )
        return Resolved(setup, documents, copies)

    def find(self, reference: ObjectReference) -> Json:
        if reference not in self.objects:
            raise _Unresolved(NeedsObjects((reference,)))
        found = self.objects[reference]
        if found is None:
            raise _Unresolved(Waiting(f"{reference.kind.name}Missing", f"{_show(reference)} does not exist."))
        return found

    def parse(self, reference: ObjectReference, model: type[ResourceT]) -> ResourceT:
        content = self.find(reference)
        kept = {key: content[key] for key in ("metadata", "spec", "status") if key in content}
        kept["metadata"] = {"name": reference.name, "namespace": reference.namespace}
        try:
            return validate_manifest(model, kept)
        except ValidationError as error:
            message = printable(f"{_show(reference)}: {describe(error)}", MESSAGE_LENGTH)
            raise _Unresolved(Waiting(f"{reference.kind.name}Invalid", message)) from error

    def parse_provider(self, reference: ObjectReference) -> Provider:
        if reference.namespace != self.home and not self.cross_namespace:
            message = f"{_show(reference)}: this operator does not let a job use another namespace's Provider."
            raise _Unresolved(Refused(CROSS_NAMESPACE, message))
        return self.parse(reference, Provider)

    def parse_agent(self, reference: ObjectReference) -> AgentRuntime:
        agent = self.parse(reference, AgentRuntime)
        if agent.endpoint() is None:
            raise _Unresolved(Waiting(AGENT_NOT_READY, f"{_show(reference)} has no address in its status."))
        return agent

    def choose_one_pod(self) -> tuple[bool, str]:
        """Return whether one pod does everything, and why where more were asked for."""
        spec = self.job.spec
        several = spec.workers.most > 1
        if spec.output is None:
            return True, "Several workers need an output that all of them can write: one works." if several else ""
        if spec.output.pvc is None:
            return not several, ""
        claim = self.find(ObjectReference(api.CLAIM, self.home, spec.output.pvc.claim_name))
        modes = (claim.get("spec") or {}).get("accessModes") or ()
        if "ReadWriteMany" in modes or not several:
            return not several, ""
        name = spec.output.pvc.claim_name
        return True, f"The claim {name} is not ReadWriteMany, so several nodes could not write to it: one pod works."

    def find_source(self, source: ArenaSource) -> BundleSource:
        if source.spec.config_map is not None:
            name = source.spec.config_map.name
            content = self.find(ObjectReference(api.CONFIG_MAP, self.home, name))
            keys = sorted({**(content.get("data") or {}), **(content.get("binaryData") or {})})
            if not keys:
                raise _Unresolved(Waiting(SOURCE_NOT_READY, f"ConfigMap {name} is empty."))
            return BundleSource(config_map=name, files=tuple(_read_source_file(key, name) for key in keys))
        artifact = source.status.artifact if source.status is not None else None
        name = source.metadata.name
        if artifact is None or not artifact.url:
            kind = source.spec.type or "unknown"
            message = f"ArenaSource {name} ({kind}) has no status.artifact.url: its bundle has not been delivered yet."
            raise _Unresolved(Waiting(SOURCE_NOT_READY, message))
        if not _is_http_address(artifact.url):
            message = f"ArenaSource {name}: {redact_url(artifact.url)} is not an http(s) address."
            raise _Unresolved(Refused(SOURCE_NOT_SUPPORTED, printable(message, MESSAGE_LENGTH)))
        if not artifact.checksum:
            message = f"ArenaSource {name}: its artifact has no checksum, so it cannot be checked whether it is whole."
            raise _Unresolved(Refused(SOURCE_NOT_SUPPORTED, message))
        return BundleSource(url=artifact.url, checksum=artifact.checksum)

    def list_credentials(self, providers: list[Provider]) -> tuple[tuple[MountedSecret, ...], tuple[SecretCopy, ...]]:
        """Return the Secrets of the providers and of the output; the pods find out whether they exist."""
        mounted, copies = [], []
        for provider in providers:
            credential = provider.spec.credential
            reference = (credential.secret_ref if credential else None) or provider.spec.secret_ref
            if reference is None:
                continue
            namespace = provider.metadata.namespace
            folder = f"{namespace}_{provider.metadata.name}"
            secret = reference.name
            if namespace != self.home:
                copies.append(SecretCopy(folder, namespace, secret))
                secret = ""
            keys = (reference.key,) if reference.key else PROVIDER_KEYS
            mounted.append(MountedSecret(folder=folder, secret=secret, keys=keys))
        output = self.job.spec.output
        if output is not None and output.s3 is not None and output.s3.secret_ref is not None:
            mounted.append(MountedSecret(folder=OUTPUT_FOLDER, secret=output.s3.secret_ref.name, keys=OUTPUT_KEYS))
        return tuple(mounted), tuple(copies)


def _is_http_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _read_source_file(key: str, config_map: str) -> SourceFile:
    """Return a key with its path: `__` stands for `/`, which a key cannot have."""
    path = key.replace("__", "/")
    try:
        check_path(path, f"ConfigMap {config_map}")
    except InputError as error:
        raise _Unresolved(Refused(SOURCE_INVALID, printable(error.message, MESSAGE_LENGTH))) from error
    return SourceFile(key=key, path=key if is_hidden(path) else path)


def _to_document(kind: Kind, resource: Resource) -> Json:
    content: dict[str, Any] = resource.model_dump(mode="json", by_alias=True, exclude_none=True)
    content["metadata"] = {"name": resource.metadata.name, "namespace": resource.metadata.namespace}
    return {"apiVersion": kind.api_version, "kind": kind.name, **content}


def _show(reference: ObjectReference) -> str:
    return f"{reference.kind.name} {reference.namespace}/{reference.name}"
