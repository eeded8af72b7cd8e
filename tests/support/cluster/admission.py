"""What happens to an object between the request and the store: schema, defaults, validation, rules of its kind.

`created` and `updated` are pure: they take what was sent and what was there, and give what is to be stored, or raise.
"""

from __future__ import annotations

import base64
import binascii
import copy
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Final

import cel

from tests.support.cluster.built_in import metadata_schema, schema_of
from tests.support.cluster.failures import ApiError, Cause, bad_request, invalid
from tests.support.cluster.job_rules import (
    changed_job,
    complete_job,
    complete_pod,
    wrong_job,
    wrong_labels,
    wrong_pod,
)
from tests.support.cluster.objects import Json, Resource, owners, stamp
from tests.support.cluster.schema_check import broken_rules, defaulted, pruned, wrong

NAME: Final = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
MAX_NAME: Final = 253
SYSTEM: Final = ("uid", "creationTimestamp", "generation", "resourceVersion", "deletionTimestamp", "selfLink",
                 "deletionGracePeriodSeconds")  # fmt: skip
POD_MUTABLE: Final = ("activeDeadlineSeconds", "tolerations", "nodeName", "terminationGracePeriodSeconds")


def read(resource: Resource, sent: Json, unknown: list[str]) -> Json:
    """The object as its kind decodes it: unknown fields gone (their paths in `unknown`), null fields absent."""
    schema = _schema(resource)
    out = copy.deepcopy(sent)
    if schema is not None:
        out = defaulted(schema, pruned(schema, out, "", unknown))
    common = metadata_schema()
    out["metadata"] = defaulted(common, pruned(common, out.get("metadata", {}), "metadata", unknown))
    out["apiVersion"], out["kind"] = resource.api_version, resource.kind
    if not resource.custom and schema is not None:
        types = [cause for cause in wrong(schema, out) if cause.reason == "FieldValueTypeInvalid"]
        if types:
            what = f"{resource.kind} in version {resource.version!r} cannot be handled as a {resource.kind}"
            raise bad_request(f"{what}: json: cannot unmarshal: {types[0].field}: {types[0].message}")
    return out


def created(resource: Resource, obj: Json, uid: str, at: datetime) -> Json:
    """The new object with its metadata, completed and found valid; its status is what the kind begins with."""
    out = copy.deepcopy(obj)
    for field in SYSTEM:
        out["metadata"].pop(field, None)
    out["metadata"] |= {"uid": uid, "creationTimestamp": stamp(at)}
    if resource.counts or resource.custom:
        out["metadata"]["generation"] = 1
    if resource.status:
        out.pop("status", None)
    out = _completed(resource, out)
    _raise(resource, out, [*_wrong_metadata(out), *_wrong(resource, out, None)])
    return out


def updated(resource: Resource, old: Json, new: Json, subresource: str | None) -> Json:
    """The object after a write through the main path or through `/status`, each of which changes only its own part."""
    out = copy.deepcopy(new)
    if subresource == "status":
        kept = copy.deepcopy(old)
        kept.pop("status", None)
        if not resource.custom:
            for field in ("labels", "annotations"):
                kept["metadata"].pop(field, None)
                if field in out["metadata"]:
                    kept["metadata"][field] = out["metadata"][field]
        out = kept | ({"status": out["status"]} if "status" in out else {})
    elif resource.status:
        out.pop("status", None)
        out |= {"status": copy.deepcopy(old["status"])} if "status" in old else {}
    for field in SYSTEM:
        out["metadata"].pop(field, None)
        if field in old["metadata"]:
            out["metadata"][field] = old["metadata"][field]
    out = _completed(resource, out)
    if (resource.counts or resource.custom) and _counted(resource, old) != _counted(resource, out):
        out["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
    _raise(resource, out, [*_wrong_metadata(out), *_wrong(resource, out, old)])
    return out


def unknown_fields(paths: list[str]) -> ApiError:
    """The refusal of `fieldValidation=Strict`."""
    said = ", ".join(f'unknown field "{path}"' for path in paths)
    return bad_request(f"strict decoding error: {said}")


def _schema(resource: Resource) -> Json | None:
    return resource.schema if resource.custom else schema_of(resource.group, resource.kind)


def _counted(resource: Resource, obj: Json) -> Json:
    """The part whose changes `generation` counts."""
    left_out = ("metadata", "status") if resource.status else ("metadata",)
    return {name: part for name, part in obj.items() if name not in left_out}


def _completed(resource: Resource, obj: Json) -> Json:
    match resource.kind:
        case "Job" if not resource.custom:
            return complete_job(obj) | {"status": obj.get("status", {})}
        case "Pod":
            complete_pod(obj.setdefault("spec", {}))
            obj.setdefault("status", {"phase": "Pending", "qosClass": "BestEffort"})
        case "Namespace":
            obj.setdefault("spec", {}).setdefault("finalizers", ["kubernetes"])
            obj.setdefault("status", {"phase": "Active"})
            obj["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = obj["metadata"]["name"]
        case "PersistentVolumeClaim":
            obj.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")
            obj.setdefault("status", {"phase": "Pending"})
        case "Secret":
            obj.setdefault("type", "Opaque")
            texts = obj.pop("stringData", {})
            encoded = {name: base64.b64encode(text.encode()).decode() for name, text in texts.items()}
            if encoded:
                obj["data"] = obj.get("data", {}) | encoded
    return obj


def _wrong(resource: Resource, obj: Json, old: Json | None) -> Iterator[Cause]:
    if resource.custom and resource.schema is not None:
        causes = list(wrong(resource.schema, obj))
        yield from causes
        if not causes:
            yield from broken_rules(resource.schema, obj, old)
        return
    match resource.kind:
        case "Job":
            yield from wrong_job(obj) if old is None else changed_job(old, obj)
        case "Pod":
            yield from wrong_pod(obj["spec"], "spec") if old is None else _changed_pod(old, obj)
        case "ConfigMap" | "Secret":
            yield from _wrong_data(resource, obj, old)
        case "CustomResourceDefinition":
            yield from _wrong_definition(obj)


def _wrong_metadata(obj: Json) -> Iterator[Cause]:
    metadata = obj["metadata"]
    name = metadata.get("name", "")
    # names of RBAC objects are path segments, which is more than these kinds need here
    if len(name) > MAX_NAME or not (NAME.match(name) or ":" in name):
        yield Cause("FieldValueInvalid", "metadata.name", f'Invalid value: "{name}": a lowercase RFC 1123 subdomain '
                    "must consist of lower case alphanumeric characters, '-' or '.'")  # fmt: skip
    yield from wrong_labels(metadata.get("labels", {}), "metadata.labels")
    for at, owner in enumerate(owners(obj)):
        for field in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(field):
                yield Cause("FieldValueInvalid", f"metadata.ownerReferences[{at}].{field}", "must not be empty")
    if sum(1 for owner in owners(obj) if owner.get("controller")) > 1:
        yield Cause("FieldValueInvalid", "metadata.ownerReferences", "Only one reference can have Controller set to "
                    "true")  # fmt: skip


def _changed_pod(old: Json, new: Json) -> Iterator[Cause]:
    was, now = copy.deepcopy(old["spec"]), copy.deepcopy(new["spec"])
    for spec in (was, now):
        for field in POD_MUTABLE:
            spec.pop(field, None)
        for container in [*spec.get("containers", ()), *spec.get("initContainers", ())]:
            container.pop("image", None)
    if was != now:
        yield Cause("FieldValueForbidden", "spec", "Forbidden: pod updates may not change fields other than "
                    "`spec.containers[*].image`")  # fmt: skip


def _wrong_data(resource: Resource, obj: Json, old: Json | None) -> Iterator[Cause]:
    if old is not None and old.get("immutable"):
        for field in ("data", "binaryData", "immutable"):
            if old.get(field) != obj.get(field):
                yield Cause("FieldValueForbidden", field, "Forbidden: field is immutable when `immutable` is set")
    if old is not None and resource.kind == "Secret" and old.get("type") != obj.get("type"):
        yield Cause("FieldValueInvalid", "type", f'Invalid value: "{obj.get("type")}": field is immutable')
    for name, value in obj.get("data", {}).items():
        if not re.fullmatch(r"[-._a-zA-Z0-9]{1,253}", name):
            why = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
            yield Cause("FieldValueInvalid", f"data[{name}]", f'Invalid value: "{name}": {why}')
        if resource.kind == "Secret":
            _decoded(value)
    if sum(len(str(value)) for value in obj.get("data", {}).values()) > 1024 * 1024:
        yield Cause("FieldValueTooLong", "", "Too long: may not be more than 1048576 bytes")


def _decoded(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        message = f'Secret in version "v1" cannot be handled as a Secret: illegal base64 data: {error}'
        raise bad_request(message) from error


def _wrong_definition(obj: Json) -> Iterator[Cause]:
    spec = obj.get("spec", {})
    named = f"{spec.get('names', {}).get('plural')}.{spec.get('group')}"
    if obj["metadata"].get("name") != named:
        yield Cause("FieldValueInvalid", "metadata.name", f'Invalid value: must be spec.names.plural+"."+spec.group: '
                    f"{named}")  # fmt: skip
    for at, version in enumerate(spec.get("versions", ())):
        place = f"spec.versions[{at}].schema.openAPIV3Schema"
        schema = version.get("schema", {}).get("openAPIV3Schema")
        if not schema:
            yield Cause("FieldValueRequired", place, "Required value: schemas are required")
        else:
            yield from _wrong_rules(schema, place)


def _wrong_rules(schema: Json, place: str) -> Iterator[Cause]:
    for at, rule in enumerate(schema.get("x-kubernetes-validations", ())):
        try:
            cel.compile(rule["rule"])
        except ValueError as error:
            where = f"{place}.x-kubernetes-validations[{at}].rule"
            yield Cause("FieldValueInvalid", where, f"Invalid value: compilation failed: {error}")
    for name, part in schema.get("properties", {}).items():
        yield from _wrong_rules(part, f"{place}.properties[{name}]")
    for below in ("items", "additionalProperties"):
        if isinstance(schema.get(below), dict):
            yield from _wrong_rules(schema[below], f"{place}.{below}")


def _raise(resource: Resource, obj: Json, causes: list[Cause]) -> None:
    if causes:
        raise invalid(resource, obj["metadata"].get("name", ""), causes)
