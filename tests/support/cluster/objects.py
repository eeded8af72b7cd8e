"""The resources that the server knows, and the fields of `metadata` that everybody reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

Json = dict[str, Any]
"""A Kubernetes object as its JSON: without types of ours, so that it is what a client sent."""

ORPHAN: Final = "orphan"
FOREGROUND: Final = "foregroundDeletion"


class Column(NamedTuple):
    """A column of `kubectl get`: `type` is string, integer, number, boolean or date."""

    name: str
    type: str
    path: str
    wide: bool = False


@dataclass(frozen=True)
class Resource:
    """A kind that can be stored. `schema` is None for a kind whose fields are taken as they come."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    status: bool = False
    """Whether it has the status subresource."""
    unconditional: bool = True
    """Whether a PUT without a resourceVersion is taken."""
    counts: bool = False
    """Whether `metadata.generation` counts the changes of the spec."""
    custom: bool = False
    singular: str = ""
    schema: Json | None = None
    columns: tuple[Column, ...] = ()

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def root(self) -> tuple[str, ...]:
        """The first parts of its path."""
        return ("apis", self.group, self.version) if self.group else ("api", self.version)

    @property
    def qualified(self) -> str:
        """The name in messages: `jobs.batch`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def qualified_kind(self) -> str:
        return f"{self.kind}.{self.group}" if self.group else self.kind


class Key(NamedTuple):
    """What names one object for good: resource (`jobs.batch`), namespace ("" at cluster scope), name."""

    resource: str
    namespace: str
    name: str


_RBAC: Final = "rbac.authorization.k8s.io"

BUILT_IN: Final = (
    Resource("", "v1", "namespaces", "Namespace", namespaced=False, short_names=("ns",), status=True),
    Resource("", "v1", "nodes", "Node", namespaced=False, short_names=("no",), status=True),
    Resource("", "v1", "pods", "Pod", short_names=("po",), categories=("all",), status=True, counts=True),
    Resource("", "v1", "configmaps", "ConfigMap", short_names=("cm",)),
    Resource("", "v1", "secrets", "Secret"),
    Resource("", "v1", "events", "Event", short_names=("ev",)),
    Resource("", "v1", "services", "Service", short_names=("svc",), categories=("all",), status=True),
    Resource("", "v1", "serviceaccounts", "ServiceAccount", short_names=("sa",)),
    Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", short_names=("pvc",), status=True),
    Resource("apps", "v1", "deployments", "Deployment", short_names=("deploy",), categories=("all",), status=True,
             counts=True),
    Resource("batch", "v1", "jobs", "Job", categories=("all",), status=True, counts=True),
    Resource("coordination.k8s.io", "v1", "leases", "Lease", unconditional=False),
    Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", short_names=("netpol",), counts=True),
    Resource(_RBAC, "v1", "roles", "Role"),
    Resource(_RBAC, "v1", "rolebindings", "RoleBinding"),
    Resource(_RBAC, "v1", "clusterroles", "ClusterRole", namespaced=False),
    Resource(_RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False),
    Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False,
             short_names=("crd", "crds"), categories=("api-extensions",), status=True, unconditional=False,
             counts=True),
)  # fmt: skip

BY_PLURAL: Final[Mapping[str, Resource]] = {resource.plural: resource for resource in BUILT_IN}


def key_of(resource: Resource, obj: Json) -> Key:
    metadata = obj["metadata"]
    return Key(resource.qualified, metadata.get("namespace", "") if resource.namespaced else "", metadata["name"])


def owners(obj: Json) -> list[Json]:
    """Its owner references."""
    return list(obj["metadata"].get("ownerReferences") or ())


def version_of(obj: Json) -> int:
    return int(obj["metadata"]["resourceVersion"])


def stamp(moment: datetime) -> str:
    """A time as `metadata` writes it, whole seconds in UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment_of(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def now() -> datetime:
    return datetime.now(UTC)
