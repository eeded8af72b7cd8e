"""The API server, as far as the operator needs it: kinds, one protocol, and a fake in memory beside it.

The real one is `testbench.arena.cluster.http`. Everything is namespaced; `namespace=None` means all of them.
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias

from testbench.arena.manifest.fields import GROUP, VERSION
from testbench.errors import WorkError

Json: TypeAlias = dict[str, Any]
"""An object as the API server sends it."""


class Kind(NamedTuple):
    """A namespaced kind; the core group is empty."""

    group: str
    version: str
    plural: str
    name: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def root(self) -> str:
        """The first part of its objects' paths."""
        return f"/apis/{self.api_version}" if self.group else f"/api/{self.version}"


ARENA_JOB: Final = Kind(GROUP, VERSION, "arenajobs", "ArenaJob")
ARENA_SOURCE: Final = Kind(GROUP, VERSION, "arenasources", "ArenaSource")
PROVIDER: Final = Kind(GROUP, VERSION, "providers", "Provider")
AGENT_RUNTIME: Final = Kind(GROUP, VERSION, "agentruntimes", "AgentRuntime")
TOOL_REGISTRY: Final = Kind(GROUP, VERSION, "toolregistries", "ToolRegistry")
JOB: Final = Kind("batch", "v1", "jobs", "Job")
POD: Final = Kind("", "v1", "pods", "Pod")
CONFIG_MAP: Final = Kind("", "v1", "configmaps", "ConfigMap")
SECRET: Final = Kind("", "v1", "secrets", "Secret")
EVENT: Final = Kind("", "v1", "events", "Event")
CLAIM: Final = Kind("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")


class ClusterError(WorkError):
    """The API server refused a request, or did not answer; `status` is its HTTP status, or None."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message, hint="Check that the API server answers, and the rights of the operator.")
        self.status = status


class ConflictError(ClusterError):
    """The object has been changed or replaced since it was read: read it again."""


class DeniedError(ClusterError):
    """The request is refused until a person changes something, so the status has to say why.

    A quota, an admission webhook, a missing right, a name that is taken. `reason` is one word for the status.
    """

    def __init__(self, message: str, status: int | None = None, reason: str = "Denied") -> None:
        super().__init__(message, status)
        self.reason = reason


class HistoryGoneError(ClusterError):
    """A watch cannot go on from this resourceVersion: list again."""


class ObjectList(NamedTuple):
    """Objects, and where a watch of what comes after them begins."""

    items: tuple[Json, ...]
    resource_version: str


class WatchEvent(NamedTuple):
    """One event of a watch."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    object: Json


class Cluster(Protocol):
    """Objects by kind, namespace and name.

    Every method raises ClusterError where the server refuses for a reason that is not named here, or does not answer.
    """

    async def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        """Return the object, or None if there is none."""

    async def list(
        self, kind: Kind, namespace: str | None, labels: str = "", limit: int = 0, fields: str = ""
    ) -> ObjectList:
        """Return all objects that have these labels and fields (`a=b,c.d=e`), or the first `limit` of them."""

    async def create(self, kind: Kind, body: Json) -> bool:
        """Create an object; return False if there is one of that name."""

    async def patch(self, kind: Kind, namespace: str, name: str, change: Json, *, status: bool = False) -> Json:
        """Merge a change into an object, or into its status, and return it.

        With `metadata.resourceVersion` it is merged only into that version.

        Raises:
            Conflict: it is gone, or has another version.
        """

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """Delete the object with this uid, and in the background what it owns. It may be gone already."""

    def watch(
        self, kind: Kind, namespace: str | None, resource_version: str, labels: str = ""
    ) -> AsyncIterator[WatchEvent]:
        """Yield what changes after a list, until the server ends the stream, which it does every few minutes.

        Raises:
            HistoryGone: it cannot tell what came after that list.
        """


@dataclass
class MemoryCluster:
    """A cluster for unit tests: no schema, no controllers, no watch; deleting an owner deletes what it owns."""

    objects: dict[tuple[Kind, str, str], Json] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    version: int = 0

    async def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        return copy.deepcopy(self.objects.get((kind, namespace, name)))

    async def list(
        self, kind: Kind, namespace: str | None, labels: str = "", limit: int = 0, fields: str = ""
    ) -> ObjectList:
        wanted, places = _parse_selector(labels), _parse_selector(fields)
        found = [
            copy.deepcopy(body)
            for (its_kind, its_namespace, _), body in sorted(self.objects.items())
            if its_kind == kind
            and namespace in (None, its_namespace)
            and wanted.items() <= (body["metadata"].get("labels") or {}).items()
            and all(_find_value(body, place) == value for place, value in places.items())
        ]
        return ObjectList(tuple(found[: limit or None]), str(self.version))

    async def create(self, kind: Kind, body: Json) -> bool:
        metadata = body["metadata"]
        key = (kind, metadata["namespace"], metadata["name"])
        self.calls.append(f"create {kind.plural} {metadata['name']}")
        if key in self.objects:
            return False
        made = copy.deepcopy(body)
        created = self.now.strftime("%Y-%m-%dT%H:%M:%SZ")
        made["metadata"] |= {"uid": str(uuid.uuid4()), "generation": 1, "creationTimestamp": created}
        self.objects[key] = self._versioned(made)
        return True

    async def patch(self, kind: Kind, namespace: str, name: str, change: Json, *, status: bool = False) -> Json:
        self.calls.append(f"patch {kind.plural} {name}{' status' if status else ''}")
        found = self.objects.get((kind, namespace, name))
        version = change.get("metadata", {}).get("resourceVersion")
        if found is None or version not in (None, found["metadata"]["resourceVersion"]):
            raise ConflictError(f"{kind.plural} {name} has changed", 409)
        part = {"status": change["status"]} if status else {k: v for k, v in change.items() if k != "status"}
        part.get("metadata", {}).pop("resourceVersion", None)
        merged = apply_merge_patch(found, part)
        merged["metadata"]["generation"] += merged.get("spec") != found.get("spec")
        self.objects[kind, namespace, name] = self._versioned(merged)
        return copy.deepcopy(merged)

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        self.calls.append(f"delete {kind.plural} {name}")
        found = self.objects.get((kind, namespace, name))
        if found is not None and found["metadata"]["uid"] == uid:
            self._remove(uid)

    async def watch(
        self, kind: Kind, namespace: str | None, resource_version: str, labels: str = ""
    ) -> AsyncIterator[WatchEvent]:
        return
        yield

    def _remove(self, uid: str) -> None:
        for key, body in list(self.objects.items()):
            owners = {owner["uid"] for owner in body["metadata"].get("ownerReferences") or ()}
            if body["metadata"]["uid"] == uid:
                self.objects.pop(key, None)
            elif uid in owners:
                self._remove(body["metadata"]["uid"])

    def _versioned(self, body: Json) -> Json:
        self.version += 1
        body["metadata"]["resourceVersion"] = str(self.version)
        return body


def _parse_selector(selector: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in selector.split(",") if pair)


def _find_value(body: Json, place: str) -> Any:
    found: Any = body
    for key in place.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    return found


def apply_merge_patch(target: Any, change: Any) -> Any:
    """Return the target after a JSON merge patch (RFC 7396): null removes, lists are replaced whole."""
    if not isinstance(change, dict):
        return copy.deepcopy(change)
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in change.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = apply_merge_patch(merged.get(key), value)
    return merged
