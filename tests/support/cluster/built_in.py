"""The schemas of built-in kinds, taken from the published OpenAPI files that kubernetes-validate ships."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any, Final

from tests.support.cluster.objects import Json

RELEASE: Final = "v1.37.0-local"
_PREFIX: Final = {
    "": "core.v1", "apps": "apps.v1", "batch": "batch.v1", "coordination.k8s.io": "coordination.v1",
    "networking.k8s.io": "networking.v1", "rbac.authorization.k8s.io": "rbac.v1",
}  # fmt: skip


@cache
def schema_of(group: str, kind: str) -> Json | None:
    """The structural schema of a kind; None where its fields are taken as they come."""
    if group not in _PREFIX:
        return None
    whole = _structural(_definitions()[f"io.k8s.api.{_PREFIX[group]}.{kind}"])
    whole["properties"].pop("metadata", None)
    return whole


@cache
def metadata_schema() -> Json:
    return _structural(_definitions()["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"])


@cache
def _definitions() -> Json:
    path = files("kubernetes_validate").joinpath("kubernetes-json-schema", RELEASE, "_definitions.json")
    found: Json = json.loads(path.read_text())["$defs"]
    return found


@cache
def _named(name: str) -> Json:
    return _structural(_definitions()[name])


def _structural(schema: Json) -> Json:
    """References resolved, one type each; a choice of types (a quantity, a port) is left open."""
    if "$ref" in schema:
        return _named(schema["$ref"].rpartition("/")[2])
    out: dict[str, Any] = {key: schema[key] for key in ("required", "format") if key in schema}
    kind = schema.get("type")
    if kind is not None:
        out["type"] = next(one for one in kind if one != "null") if isinstance(kind, list) else kind
    if out.get("format") == "byte":
        del out["format"]
    if "properties" in schema:
        out["properties"] = {name: _structural(part) for name, part in schema["properties"].items()}
    if isinstance(schema.get("additionalProperties"), dict):
        out["additionalProperties"] = _structural(schema["additionalProperties"])
    if "items" in schema:
        out["items"] = _structural(schema["items"])
    if out.get("type") == "object" and "properties" not in out and "additionalProperties" not in out:
        out["x-kubernetes-preserve-unknown-fields"] = True
    return out
