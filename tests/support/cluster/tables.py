"""The Table that `kubectl get` prints: the columns of a CustomResourceDefinition, or those of pods and jobs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

from tests.support.cluster.objects import Column, Json, Resource, moment_of

_AGE: Final = Column("Age", "date", ".metadata.creationTimestamp")
_FILTER: Final = re.compile(r'^\?\(@\.(\w+)\s*==\s*["\'](.*)["\']\)$')
_STEP: Final = re.compile(r"\.([\w-]+)|\[([^\]]+)\]")


def table(resource: Resource, objects: Sequence[Json], list_metadata: Json, at: datetime) -> Json:
    """A meta.k8s.io/v1 Table whose rows carry the objects' metadata."""
    columns, cells = _layout(resource, at)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list_metadata,
        "columnDefinitions": [
            {"name": one.name, "type": "string" if one.type == "date" else one.type, "format": "", "description": "",
             "priority": int(one.wide)}
            for one in (Column("Name", "string", ".metadata.name"), *columns)
        ],
        "rows": [
            {"cells": [one["metadata"]["name"], *cells(one)], "object": _partial(one)} for one in objects
        ],
    }  # fmt: skip


def age(since: datetime, at: datetime) -> str:
    """How long ago, as kubectl writes it: two units for small numbers."""
    seconds = max(0, int((at - since).total_seconds()))
    if seconds < 120:
        return f"{seconds}s"
    minutes, left = divmod(seconds, 60)
    if minutes < 10:
        return f"{minutes}m{left}s" if left else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    hours = minutes // 60
    return f"{hours}h" if hours < 48 else f"{hours // 24}d"


def at_path(obj: Json, path: str) -> Any:
    """The first value at a JSONPath of the simple kind (`.a.b`, `.a[0]`, `.a[?(@.type=="Ready")].b`), or None."""
    value: Any = obj
    for name, bracket in _STEP.findall(path):
        if name:
            value = value.get(name) if isinstance(value, dict) else None
        elif found := _FILTER.match(bracket):
            items = value if isinstance(value, list) else []
            value = next((item for item in items if str(item.get(found[1])) == found[2]), None)
        else:
            at = int(bracket)
            value = value[at] if isinstance(value, list) and at < len(value) else None
    return value


def _layout(resource: Resource, at: datetime) -> tuple[Sequence[Column], Callable[[Json], list[Any]]]:
    if resource.custom:
        return resource.columns, lambda obj: [_cell(obj, column, at) for column in resource.columns]
    match resource.kind:
        case "Pod":
            names = ("Ready", "Status", "Restarts", "Age")
            return _texts(*names), lambda obj: [*_pod(obj), _cell(obj, _AGE, at)]
        case "Job":
            names = ("Status", "Completions", "Duration", "Age")
            return _texts(*names), lambda obj: [*_job(obj, at), _cell(obj, _AGE, at)]
    return (_AGE,), lambda obj: [_cell(obj, _AGE, at)]


def _texts(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name, "string", "") for name in names)


def _cell(obj: Json, column: Column, at: datetime) -> Any:
    value = at_path(obj, column.path)
    if column.type == "date" and isinstance(value, str):
        return age(moment_of(value), at)
    return value


def _pod(obj: Json) -> list[Any]:
    status, total = obj.get("status", {}), len(obj["spec"].get("containers", ()))
    containers = status.get("containerStatuses", ())
    ready = sum(1 for one in containers if one.get("ready"))
    phase = "Terminating" if "deletionTimestamp" in obj["metadata"] else status.get("phase", "Unknown")
    return [f"{ready}/{total}", phase, sum(one.get("restartCount", 0) for one in containers)]


def _job(obj: Json, at: datetime) -> list[Any]:
    spec, status = obj["spec"], obj.get("status", {})
    true = [one["type"] for one in status.get("conditions", ()) if one["status"] == "True"]
    phase = next((one for one in ("Complete", "Failed", "Suspended") if one in true), "Running")
    done = f"{status.get('succeeded', 0)}/{spec.get('completions', 1)}"
    if "startTime" not in status:
        return [phase, done, ""]
    end = moment_of(status["completionTime"]) if "completionTime" in status else at
    return [phase, done, age(moment_of(status["startTime"]), end)]


def _partial(obj: Json) -> Json:
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}
