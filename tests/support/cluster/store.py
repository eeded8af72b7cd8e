"""The objects of a cluster: versions, conflicts, finalizers, owners, namespaces. Every write is one step under a lock.

What a real cluster's garbage collector and namespace controller do a moment later happens here in the same step.
"""

from __future__ import annotations

import copy
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import uuid4

from tests.support.cluster import admission, failures
from tests.support.cluster.definitions import established, resources_of
from tests.support.cluster.objects import (
    BUILT_IN,
    FOREGROUND,
    ORPHAN,
    Json,
    Key,
    Resource,
    key_of,
    now,
    owners,
    stamp,
    version_of,
)
from tests.support.cluster.selectors import Selector, everything
from tests.support.cluster.watching import Change, History

HISTORY: Final = 1000
NAMESPACES: Final = ("default", "kube-system")
_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"
_UID_STAYS: Final = failures.Cause("FieldValueInvalid", "metadata.uid", "Invalid value: field is immutable")
_ORPHANS_BY_DEFAULT: Final = ("jobs.batch",)
"""For compatibility a Job's pods survive its deletion, unless the request names a propagation policy."""


@dataclass(frozen=True)
class Deletion:
    """DeleteOptions."""

    propagation: str | None = None
    grace_seconds: int | None = None
    uid: str | None = None
    version: str | None = None
    dry_run: bool = False


class Store:
    """Objects by key. Everything that comes out is a copy. `clock` dates the objects."""

    def __init__(self, clock: Callable[[], datetime] = now, history: int = HISTORY) -> None:
        self.clock = clock
        self.closing = False
        self.version = 0
        self.history = History(history)
        self._changed = threading.Condition(threading.RLock())
        self._objects: dict[Key, Json] = {}
        self._resources = {(one.group, one.version, one.plural): one for one in BUILT_IN}
        self._draw = random.Random(0)
        for name in NAMESPACES:
            self.create(self.find("", "v1", "namespaces"), "", {"metadata": {"name": name}})

    # --- what is there ---------------------------------------------------------------------------------------------

    @property
    def resources(self) -> list[Resource]:
        with self._changed:
            return list(self._resources.values())

    def find(self, group: str, version: str, plural: str) -> Resource:
        """The resource of a path; ApiError 404 when it is not served."""
        with self._changed:
            found = self._resources.get((group, version, plural))
        if found is None:
            raise failures.no_such_path()
        return found

    def serves(self, resource: Resource) -> bool:
        with self._changed:
            return (resource.group, resource.version, resource.plural) in self._resources

    def get(self, resource: Resource, namespace: str, name: str) -> Json:
        with self._changed:
            found = self._objects.get(Key(resource.qualified, namespace, name))
            if found is None:
                raise failures.not_found(resource, name)
            return copy.deepcopy(found)

    def listed(
        self, resource: Resource, namespace: str = "", selector: Selector = everything
    ) -> tuple[list[Json], int]:
        """Objects in the order of their names, and the version at which this was so."""
        with self._changed:
            found = [
                copy.deepcopy(self._objects[key])
                for key in sorted(self._objects)
                if key.resource == resource.qualified and namespace in ("", key.namespace)
            ]
            return [obj for obj in found if selector(obj)], self.version

    def changes_after(self, version: int) -> list[Change]:
        with self._changed:
            return self.history.after(version)

    def wait_after(self, version: int, seconds: float) -> int:
        """Block until something has changed since the version; the version that is reached."""
        with self._changed:
            self._changed.wait_for(lambda: self.closing or self.version > version, seconds)
            return self.version

    def notify(self) -> None:
        """Let every waiting watch look at its surroundings, by a version that no object has."""
        with self._changed:
            self.version += 1
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self.closing = True
            self._changed.notify_all()

    # --- writes ----------------------------------------------------------------------------------------------------

    def create(self, resource: Resource, namespace: str, sent: Json, dry_run: bool = False) -> Json:
        with self._changed:
            obj = copy.deepcopy(sent)
            metadata = obj.setdefault("metadata", {})
            if resource.namespaced:
                metadata["namespace"] = namespace
                self._check_namespace(resource, namespace, metadata.get("name", ""))
            if not metadata.get("name") and metadata.get("generateName"):
                metadata["name"] = metadata["generateName"] + "".join(self._draw.choices(_LETTERS, k=5))
            if not metadata.get("name"):
                cause = failures.Cause("FieldValueRequired", "metadata.name", "Required value: name or generateName is "
                                       "required")  # fmt: skip
                raise failures.invalid(resource, "", [cause])
            key = key_of(resource, obj)
            if key in self._objects:
                raise failures.already_exists(resource, key.name)
            obj = admission.created(resource, obj, str(uuid4()), self.clock())
            if resource.kind == "CustomResourceDefinition":
                obj = established(obj, self.clock())
            if dry_run:
                return obj
            stored = self._put(key, None, obj)
            self._define(resource, stored)
            self._collect_ownerless(resource, key, stored)
            return stored

    def update(
        self, resource: Resource, namespace: str, name: str, change: Callable[[Json], Json], *,
        subresource: str | None = None, dry_run: bool = False, is_whole: bool = False,
    ) -> Json:  # fmt: skip
        """Write what `change` makes of the object; `is_whole` says that a client sent all of it, with PUT.

        Without a difference nothing happens, and no version is used.
        """
        with self._changed:
            old = self.get(resource, namespace, name)
            new = change(copy.deepcopy(old))
            self._check_meant(resource, old, new, is_whole)
            obj = admission.updated(resource, old, new, subresource)
            added = set(obj["metadata"].get("finalizers") or ()) - set(old["metadata"].get("finalizers") or ())
            if added and "deletionTimestamp" in old["metadata"]:
                why = f"Forbidden: no new finalizers can be added if the object is being deleted, found {sorted(added)}"
                cause = failures.Cause("FieldValueForbidden", "metadata.finalizers", why)
                raise failures.invalid(resource, name, [cause])
            if not obj["metadata"].get("finalizers"):
                obj["metadata"].pop("finalizers", None)
            if obj == old or dry_run:
                return obj
            key = key_of(resource, old)
            if self._may_go(obj):
                obj["metadata"]["resourceVersion"] = str(self.version + 1)
                self._remove(resource, key, obj)
                return obj
            stored = self._put(key, old, obj)
            self._define(resource, stored)
            if owners(obj) != owners(old):
                self._collect_ownerless(resource, key, stored)
            return stored

    def delete(self, resource: Resource, namespace: str, name: str, deletion: Deletion = Deletion()) -> Json | None:
        """Delete, or mark as deleting what has to wait (finalizers, a pod's grace); the object if it is still there."""
        with self._changed:
            old = self.get(resource, namespace, name)
            self._check_preconditions(resource, old, deletion)
            obj, key = copy.deepcopy(old), key_of(resource, old)
            metadata = obj["metadata"]
            grace = _grace(resource, old, deletion)
            marks = self._propagation_finalizers(resource, obj, deletion)
            if resource.kind == "Namespace":
                obj["status"] = {"phase": "Terminating"}
            if marks:
                metadata["finalizers"] = marks
            else:
                metadata.pop("finalizers", None)
            if not marks and not grace and resource.kind != "Namespace":
                if not deletion.dry_run:
                    self._remove(resource, key, obj)
                return None
            if "deletionTimestamp" not in metadata or grace < metadata.get("deletionGracePeriodSeconds", 0):
                metadata["deletionTimestamp"] = stamp(self.clock() + timedelta(seconds=grace))
                metadata["deletionGracePeriodSeconds"] = grace
                if "generation" in metadata:
                    metadata["generation"] += 1
            if deletion.dry_run:
                return obj
            stored = self._put(key, old, obj) if obj != old else old
            self._collect_marked(resource, key)
            found = self._objects.get(key)
            return copy.deepcopy(found) if found else stored

    # --- what a write takes with it --------------------------------------------------------------------------------

    def _put(self, key: Key, old: Json | None, obj: Json) -> Json:
        self.version += 1
        stored = copy.deepcopy(obj)
        stored["metadata"]["resourceVersion"] = str(self.version)
        self._objects[key] = stored
        self.history.add(Change(self.version, key, old, stored))
        self._changed.notify_all()
        return copy.deepcopy(stored)

    def _remove(self, resource: Resource, key: Key, last: Json) -> None:
        del self._objects[key]
        self.version += 1
        self.history.add(Change(self.version, key, last, None))
        self._changed.notify_all()
        uid = last["metadata"]["uid"]
        for below, dependent in list(self._dependents(uid)):
            if below in self._objects:
                self._collect_ownerless(self._resource_of(below), below, dependent)
        for owner in owners(last):
            self._release_foreground(owner["uid"])
        if resource.kind == "CustomResourceDefinition":
            self._undefine(last)
        if key.namespace:
            self._release_namespace(key.namespace)

    def _collect_ownerless(self, resource: Resource, key: Key, obj: Json) -> None:
        """Delete an object all of whose owners are gone, owners of another namespace included, as they cannot be."""
        references = owners(obj)
        alive = {found["metadata"]["uid"] for at, found in self._objects.items() if at.namespace in ("", key.namespace)}
        if not references or any(owner["uid"] in alive for owner in references):
            return
        self.delete(resource, key.namespace, key.name, Deletion(propagation="Background"))

    def _collect_marked(self, resource: Resource, key: Key) -> None:
        """What the finalizers of the garbage collector and of a namespace stand for."""
        obj = self._objects[key]
        uid, marks = obj["metadata"]["uid"], obj["metadata"].get("finalizers", ())
        if ORPHAN in marks:
            for below, _ in list(self._dependents(uid)):
                self._change(below, lambda one: _without_owner(one, uid))
            self._change(key, lambda one: _without_finalizer(one, ORPHAN))
        elif FOREGROUND in marks:
            for below, _ in list(self._dependents(uid)):
                self.delete(self._resource_of(below), below.namespace, below.name, Deletion(propagation="Foreground"))
            self._release_foreground(uid)
        elif resource.kind == "Namespace":
            for below in [at for at in self._objects if at.namespace == key.name]:
                if below in self._objects:
                    self.delete(self._resource_of(below), below.namespace, below.name, Deletion("Background"))
            self._release_namespace(key.name)

    def _release_foreground(self, uid: str) -> None:
        for key, obj in list(self._objects.items()):
            if obj["metadata"]["uid"] == uid and FOREGROUND in obj["metadata"].get("finalizers", ()):
                blocking = [one for _, one in self._dependents(uid) if _blocks(one, uid)]
                if not blocking:
                    self._change(key, lambda one: _without_finalizer(one, FOREGROUND))

    def _release_namespace(self, name: str) -> None:
        key = Key("namespaces", "", name)
        found = self._objects.get(key)
        if found and "deletionTimestamp" in found["metadata"] and not any(at.namespace == name for at in self._objects):
            self._remove(self._resource_of(key), key, copy.deepcopy(found))

    def _change(self, key: Key, change: Callable[[Json], Json]) -> None:
        self.update(self._resource_of(key), key.namespace, key.name, change)

    def _dependents(self, uid: str) -> Iterator[tuple[Key, Json]]:
        for key, obj in self._objects.items():
            if any(owner.get("uid") == uid for owner in owners(obj)):
                yield key, copy.deepcopy(obj)

    def _define(self, resource: Resource, obj: Json) -> None:
        if resource.kind == "CustomResourceDefinition":
            for one in resources_of(obj):
                self._resources[(one.group, one.version, one.plural)] = one

    def _undefine(self, definition: Json) -> None:
        for one in resources_of(definition):
            for key in [at for at in self._objects if at.resource == one.qualified]:
                self._remove(one, key, copy.deepcopy(self._objects[key]))
            self._resources.pop((one.group, one.version, one.plural), None)

    def _resource_of(self, key: Key) -> Resource:
        return next(one for one in self._resources.values() if one.qualified == key.resource)

    def _propagation_finalizers(self, resource: Resource, obj: Json, deletion: Deletion) -> list[str]:
        kept = [mark for mark in obj["metadata"].get("finalizers") or () if mark not in (ORPHAN, FOREGROUND)]
        default = "Orphan" if resource.qualified in _ORPHANS_BY_DEFAULT else "Background"
        has_any = bool(list(self._dependents(obj["metadata"]["uid"])))
        match deletion.propagation or default:
            case "Orphan" if has_any:
                return [*kept, ORPHAN]
            case "Foreground" if has_any:
                return [*kept, FOREGROUND]
        return kept

    # --- what may not be written -----------------------------------------------------------------------------------

    def _check_namespace(self, resource: Resource, namespace: str, name: str) -> None:
        found = self._objects.get(Key("namespaces", "", namespace))
        if found is None:
            raise failures.not_found(self.find("", "v1", "namespaces"), namespace)
        if "deletionTimestamp" in found["metadata"]:
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            raise failures.forbidden(resource, name, why)

    @staticmethod
    def _check_meant(resource: Resource, old: Json, new: Json, is_whole: bool) -> None:
        name, said = old["metadata"]["name"], new.get("metadata", {})
        if said.get("name", name) != name:
            raise failures.bad_request("the name of the object does not match the name on the URL")
        if said.get("uid", old["metadata"]["uid"]) != old["metadata"]["uid"]:
            if not is_whole:
                raise failures.invalid(resource, name, [_UID_STAYS])
            why = (
                f"Precondition failed: UID in precondition: {said['uid']}, UID in object meta: {old['metadata']['uid']}"
            )
            raise failures.conflict(resource, name, why)
        version = said.get("resourceVersion")
        if not version and is_whole and not resource.unconditional:
            cause = failures.Cause("FieldValueInvalid", "metadata.resourceVersion", "Invalid value: 0: must be "
                                   "specified for an update")  # fmt: skip
            raise failures.invalid(resource, name, [cause])
        if version and version != old["metadata"]["resourceVersion"]:
            raise failures.stale(resource, name)

    @staticmethod
    def _check_preconditions(resource: Resource, old: Json, deletion: Deletion) -> None:
        metadata = old["metadata"]
        if deletion.uid and deletion.uid != metadata["uid"]:
            why = f"Precondition failed: UID in precondition: {deletion.uid}, UID in object meta: {metadata['uid']}"
            raise failures.conflict(resource, metadata["name"], why)
        if deletion.version and int(deletion.version) != version_of(old):
            why = f"Precondition failed: ResourceVersion in precondition: {deletion.version}"
            raise failures.conflict(resource, metadata["name"], why)

    @staticmethod
    def _may_go(obj: Json) -> bool:
        metadata = obj["metadata"]
        waits = (
            metadata.get("finalizers") or metadata.get("deletionGracePeriodSeconds") or obj.get("kind") == "Namespace"
        )
        return "deletionTimestamp" in metadata and not waits


def _grace(resource: Resource, obj: Json, deletion: Deletion) -> int:
    """Seconds that a pod is given: none if nobody runs it or it has ended."""
    if resource.kind != "Pod" or not obj["spec"].get("nodeName"):
        return 0
    if obj.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return 0
    if deletion.grace_seconds is not None:
        return deletion.grace_seconds
    return int(obj["spec"].get("terminationGracePeriodSeconds", 30))


def _blocks(obj: Json, uid: str) -> bool:
    return any(owner["uid"] == uid and owner.get("blockOwnerDeletion") for owner in owners(obj))


def _without_owner(obj: Json, uid: str) -> Json:
    left = [owner for owner in owners(obj) if owner["uid"] != uid]
    obj["metadata"].pop("ownerReferences", None)
    return obj | {"metadata": obj["metadata"] | ({"ownerReferences": left} if left else {})}


def _without_finalizer(obj: Json, mark: str) -> Json:
    left = [one for one in obj["metadata"].get("finalizers", ()) if one != mark]
    return obj | {"metadata": obj["metadata"] | {"finalizers": left}}
