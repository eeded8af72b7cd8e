"""Reads a manifest: the ArenaJob and the resources that it refers to, from one file or a folder of files.

Called by `testbench arena`; an operator builds the same `Documents` from the API server's objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from testbench.arena.manifest.fields import API_VERSION, GROUP
from testbench.arena.manifest.job import ArenaJob
from testbench.arena.manifest.resources import (
    AgentRuntime,
    ArenaSource,
    ConfigMap,
    Provider,
    Resource,
    Secret,
    ToolRegistry,
)
from testbench.errors import InputError, NothingToDo
from testbench.schema.files import describe, read_bytes
from testbench.schema.plain_data import SUFFIXES, PlainDocument, read_documents

ResourceT = TypeVar("ResourceT", bound=Resource)

KINDS: Final[Mapping[tuple[str, str], type[ArenaJob | Resource]]] = {
    (API_VERSION, "ArenaJob"): ArenaJob,
    (API_VERSION, "ArenaSource"): ArenaSource,
    (API_VERSION, "Provider"): Provider,
    (API_VERSION, "AgentRuntime"): AgentRuntime,
    (API_VERSION, "ToolRegistry"): ToolRegistry,
    ("v1", "Secret"): Secret,
    ("v1", "ConfigMap"): ConfigMap,
}


class ResourceIndex(Mapping[str, ResourceT]):
    """Resources of one kind by `namespace/name`."""

    def __init__(self, resources: Iterable[ResourceT] = ()) -> None:
        self._resources = {build_key(resource): resource for resource in resources}

    def __getitem__(self, key: str) -> ResourceT:
        return self._resources[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._resources)

    def __len__(self) -> int:
        return len(self._resources)

    def named(self, name: str, namespace: str) -> ResourceT | None:
        """Return the one of that name, or None; a name `other/name` says its namespace itself."""
        return self._resources.get(name if "/" in name else f"{namespace}/{name}")


@dataclass(frozen=True)
class Documents:
    """Everything that was read, and the names of the documents that mean nothing here."""

    jobs: tuple[ArenaJob, ...] = ()
    sources: ResourceIndex[ArenaSource] = field(default_factory=ResourceIndex)
    providers: ResourceIndex[Provider] = field(default_factory=ResourceIndex)
    agents: ResourceIndex[AgentRuntime] = field(default_factory=ResourceIndex)
    registries: ResourceIndex[ToolRegistry] = field(default_factory=ResourceIndex)
    secrets: ResourceIndex[Secret] = field(default_factory=ResourceIndex)
    config_maps: ResourceIndex[ConfigMap] = field(default_factory=ResourceIndex)
    others: tuple[str, ...] = ()

    def job(self, name: str | None = None) -> ArenaJob:
        """Return the only job, or the one of that name (`name` or `namespace/name`).

        Raises:
            NothingToDo: there is none at all.
            InputError: there are several and no name, or none or several of that name.
        """
        if not self.jobs:
            raise NothingToDo("the manifest holds no ArenaJob", hint=f"Write one: apiVersion {API_VERSION}.")
        named = [job for job in self.jobs if name in (None, job.metadata.name, build_key(job))]
        if len(named) == 1:
            return named[0]
        known = ", ".join(sorted(map(build_key, self.jobs)))
        if name is None:
            raise InputError("the manifest holds several jobs", hint=f"Say which with --job: {known}.")
        raise InputError(f"{'several jobs are' if named else 'no job is'} called {name!r}", hint=f"Known: {known}.")


def build_key(resource: ArenaJob | Resource) -> str:
    """Return `namespace/name`."""
    return f"{resource.metadata.namespace}/{resource.metadata.name}"


def load_documents(path: Path) -> Documents:
    """Return the documents of a file, or of the YAML and JSON files directly in a folder.

    In a folder, what is not a Kubernetes resource is left out: a bundle may lie in the same place.

    Raises:
        InputError: a document is not a resource, is not as it should be, or is there twice; with file, document, place.
    """
    files = _list_files(path)
    documents = [
        document
        for file in files
        for found in read_documents(read_bytes(file, hint="Give the path of a manifest."), str(file))
        for document in _expand_list(found)
    ]
    if path.is_dir():
        documents = [document for document in documents if _is_resource(document.content)]
    return parse_documents(documents)


def parse_documents(documents: Iterable[PlainDocument]) -> Documents:
    """Return documents of plain data as resources; see `load_documents`.

    A document without a namespace is in the job's, as when both are applied together.
    """
    parsed = [(place, content, _parse(place, content)) for place, content in documents]
    namespaces = {resource.metadata.namespace for _, _, resource in parsed if isinstance(resource, ArenaJob)}
    home = namespaces.pop() if len(namespaces) == 1 else None
    places: dict[tuple[str, str], str] = {}
    found: list[ArenaJob | Resource] = []
    others: list[str] = []
    for place, content, read in parsed:
        if read is None:
            others.append(f"{content['kind']} ({place})")
            continue
        resource = _set_namespace(read, home)
        identity = (type(resource).__name__, build_key(resource))
        if identity in places:
            fault = f"{place}: {identity[0]} {identity[1]} is there twice"
            raise InputError(fault, hint=f"It is in {places[identity]} too; leave one.")
        places[identity] = place
        found.append(resource)
    return Documents(
        jobs=tuple(job for job in found if isinstance(job, ArenaJob)),
        sources=ResourceIndex(_select(found, ArenaSource)),
        providers=ResourceIndex(_select(found, Provider)),
        agents=ResourceIndex(_select(found, AgentRuntime)),
        registries=ResourceIndex(_select(found, ToolRegistry)),
        secrets=ResourceIndex(_select(found, Secret)),
        config_maps=ResourceIndex(_select(found, ConfigMap)),
        others=tuple(others),
    )


def _set_namespace(resource: ArenaJob | Resource, namespace: str | None) -> ArenaJob | Resource:
    if namespace is None or "namespace" in resource.metadata.model_fields_set:
        return resource
    metadata = resource.metadata.model_copy(update={"namespace": namespace})
    return resource.model_copy(update={"metadata": metadata})


def _select(resources: Iterable[ArenaJob | Resource], kind: type[ResourceT]) -> Iterator[ResourceT]:
    return (resource for resource in resources if isinstance(resource, kind))


def _list_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(
        file
        for file in path.iterdir()
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
    )
    if not files:
        raise InputError(f"{path}: no manifest in this folder", hint="Its names end in .yaml, .yml or .json.")
    return files


def _is_resource(content: Any) -> bool:
    return isinstance(content, Mapping) and all(isinstance(content.get(key), str) for key in ("apiVersion", "kind"))


def _expand_list(document: PlainDocument) -> Iterator[PlainDocument]:
    """Yield the document, or the items of the `List` that it is."""
    content = document.content
    if _is_resource(content) and content["kind"] == "List" and isinstance(content.get("items"), list):
        for position, item in enumerate(content["items"]):
            yield PlainDocument(f"{document.place}, items[{position}]", item)
    else:
        yield document


def _parse(place: str, content: Any) -> ArenaJob | Resource | None:
    if not _is_resource(content):
        hint = "Every document of a manifest starts with apiVersion, kind and metadata."
        raise InputError(f"{place}: not a resource: apiVersion or kind is missing", hint=hint)
    version, kind = content["apiVersion"], content["kind"]
    model = KINDS.get((version, kind))
    if model is None:
        known = [known for known, name in KINDS if name == kind]
        if version.partition("/")[0] == GROUP and known:
            raise InputError(f"{place}: {kind} of {version} is not known", hint=f"Known: {known[0]}.")
        return None
    try:
        return validate_manifest(model, content)
    except ValidationError as error:
        name = content["metadata"].get("name") if isinstance(content.get("metadata"), Mapping) else None
        hint = "deploy/base/arena/crds describes an ArenaJob; deploy/base/arena/samples has examples."
        raise InputError(f"{place}: {kind} {name or '(no name)'}: {describe(error)}", hint=hint) from error


ModelT = TypeVar("ModelT", bound=BaseModel)


def validate_manifest(model: type[ModelT], content: Any) -> ModelT:
    """Return plain data as the model, by the names that a manifest uses and no others.

    Raises:
        ValidationError: it does not fit.
    """
    return model.model_validate(content, by_alias=True, by_name=False)
