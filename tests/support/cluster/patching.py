"""The kinds of PATCH: each takes the object as it is and the body, and gives the object as it should be.

Strategic merge knows the keys of the lists that our objects use, and `$patch: delete` in them. Server-side apply keeps
what each manager said last and removes what it no longer says; it knows no ownership of fields between managers.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

import jsonpatch
import jsonpointer

from tests.support.cluster.failures import ApiError, bad_request
from tests.support.cluster.objects import Json

LIST_KEYS: Final[Mapping[str, str]] = {
    "containers": "name", "initContainers": "name", "env": "name", "volumes": "name", "volumeMounts": "mountPath",
    "ports": "containerPort", "conditions": "type", "ownerReferences": "uid", "imagePullSecrets": "name",
}  # fmt: skip
"""Lists that a strategic merge takes as maps, and the field that names their items; others are replaced."""
SETS: Final = ("finalizers",)
"""Lists of plain values that a strategic merge adds to."""


def merged(value: Any, patch: Any) -> Any:
    """JSON merge patch, RFC 7386."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    out = dict(value) if isinstance(value, dict) else {}
    for name, item in patch.items():
        if item is None:
            out.pop(name, None)
        else:
            out[name] = merged(out.get(name), item)
    return out


def patched(obj: Json, operations: Any) -> Json:
    """JSON patch, RFC 6902. A failed `test` or an absent path is 422, as in a real server."""
    if not isinstance(operations, list):
        raise bad_request("json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    try:
        result: Json = jsonpatch.apply_patch(obj, operations)
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException) as error:
        raise ApiError(422, "Invalid", f"the server rejected our request due to an error in our request: {error}",
                       {}) from error  # fmt: skip
    return result


def strategically_merged(value: Any, patch: Any, name: str = "") -> Any:
    """Strategic merge patch, for the lists in `LIST_KEYS`."""
    if isinstance(patch, dict):
        out = dict(value) if isinstance(value, dict) else {}
        for key, item in patch.items():
            if key.startswith("$"):
                continue
            if item is None:
                out.pop(key, None)
            else:
                out[key] = strategically_merged(out.get(key), item, key)
        return out
    if isinstance(patch, list) and name in SETS:
        kept = value if isinstance(value, list) else []
        return [*kept, *(item for item in patch if item not in kept)]
    if isinstance(patch, list) and name in LIST_KEYS and all(isinstance(item, dict) for item in patch):
        return _merged_list(value if isinstance(value, list) else [], patch, LIST_KEYS[name])
    return copy.deepcopy(patch)


def _merged_list(items: list[Json], patch: list[Json], key: str) -> list[Json]:
    out = {item.get(key): item for item in items}
    for item in patch:
        if item.get("$patch") == "delete":
            out.pop(item.get(key), None)
        else:
            out[item.get(key)] = strategically_merged(out.get(item.get(key)), item)
    return list(out.values())


def applied(obj: Json, said_before: Json, says_now: Json) -> Json:
    """Server-side apply: what the manager said before and no longer says goes away, what it says now is merged in."""
    out: Json = strategically_merged(_without(obj, said_before, says_now), says_now)
    return out


def _without(obj: Json, before: Json, after: Json) -> Json:
    out = dict(obj)
    for name, item in before.items():
        if name not in out:
            continue
        if name not in after and not isinstance(item, dict):
            del out[name]
        elif isinstance(item, dict) and isinstance(out[name], dict):
            below = after.get(name)
            out[name] = _without(out[name], item, below if isinstance(below, dict) else {})
            if name not in after and not out[name]:
                del out[name]
    return out
