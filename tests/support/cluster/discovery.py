"""What a client learns about the server: groups, versions and resources, as `kubectl` and kopf ask for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tests.support.cluster.failures import no_such_path
from tests.support.cluster.objects import Json, Resource

VERBS: Final = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
RELEASE: Final = {"major": "1", "minor": "37", "gitVersion": "v1.37.1", "platform": "linux/amd64"}


def answer(parts: Sequence[str], resources: Sequence[Resource]) -> Json:
    """The document at a discovery path such as `("apis", "batch")`; ApiError 404 for a group that is not served."""
    match list(parts):
        case ["version"]:
            return dict(RELEASE)
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
        case ["api", version]:
            return _list(version, [one for one in resources if not one.group and one.version == version])
        case ["apis"]:
            groups = sorted({one.group for one in resources if one.group})
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(name, resources) for name in groups]}
        case ["apis", group]:
            return {"kind": "APIGroup", "apiVersion": "v1"} | _group(group, resources)
        case ["apis", group, version]:
            found = [one for one in resources if (one.group, one.version) == (group, version)]
            return _list(f"{group}/{version}", found)
    raise no_such_path()


def _group(name: str, resources: Sequence[Resource]) -> Json:
    versions = sorted({one.version for one in resources if one.group == name})
    if not versions:
        raise no_such_path()
    entries = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": entries, "preferredVersion": entries[0]}


def _list(group_version: str, resources: Sequence[Resource]) -> Json:
    if not resources:
        raise no_such_path()
    entries: list[Json] = []
    for one in resources:
        entry = {
            "name": one.plural, "singularName": one.singular or one.kind.lower(), "namespaced": one.namespaced,
            "kind": one.kind, "verbs": VERBS, "shortNames": list(one.short_names), "categories": list(one.categories),
        }  # fmt: skip
        entries.append(entry)
        if one.status:
            below = {"name": f"{one.plural}/status", "singularName": "", "namespaced": one.namespaced}
            entries.append(below | {"kind": one.kind, "verbs": ["get", "patch", "update"]})
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": entries}
