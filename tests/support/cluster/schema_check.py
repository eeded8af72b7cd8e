"""What a server makes of an object by its schema: prune, fill in defaults, validate, and ask the CEL rules.

The order and the messages are those of a structural schema in a CustomResourceDefinition; the schemas of built-in kinds
(`tests.support.cluster.built_in`) have the same shape.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from typing import Any, Final

import cel

from tests.support.cluster.failures import Cause
from tests.support.cluster.objects import Json

KEPT: Final = ("apiVersion", "kind", "metadata")
_NAMES: Final = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number"}
_RANGES: Final = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}


def pruned(schema: Json, value: Any, path: str = "", unknown: list[str] | None = None) -> Any:
    """The value without the fields that the schema does not name; their paths are added to `unknown`."""
    unknown = [] if unknown is None else unknown
    if isinstance(value, dict):
        return dict(_pruned_fields(schema, value, path, unknown))
    if isinstance(value, list) and "items" in schema:
        return [pruned(schema["items"], item, f"{path}[{at}]", unknown) for at, item in enumerate(value)]
    return value


def _pruned_fields(schema: Json, value: Json, path: str, unknown: list[str]) -> Iterator[tuple[str, Any]]:
    properties, others = schema.get("properties", {}), schema.get("additionalProperties")
    for name, item in value.items():
        place = f"{path}.{name}" if path else name
        if not path and name in KEPT:
            yield name, item
        elif name in properties:
            yield name, pruned(properties[name], item, place, unknown)
        elif isinstance(others, dict):
            yield name, pruned(others, item, place, unknown)
        elif schema.get("x-kubernetes-preserve-unknown-fields") or others is True:
            yield name, item
        else:
            unknown.append(place)


def defaulted(schema: Json, value: Any) -> Any:
    """The value with defaults; null stands for absent in every field that is not nullable."""
    if isinstance(value, dict):
        properties, others = schema.get("properties", {}), schema.get("additionalProperties")
        out = {}
        for name, item in value.items():
            part = properties.get(name)
            if item is None and part is not None and not part.get("nullable"):
                continue
            below = part if part is not None else others
            out[name] = defaulted(below, item) if isinstance(below, dict) else item
        for name, part in properties.items():
            if name not in out and "default" in part:
                out[name] = defaulted(part, copy.deepcopy(part["default"]))
        return out
    if isinstance(value, list) and "items" in schema:
        return [defaulted(schema["items"], item) for item in value]
    return value


def wrong(schema: Json, value: Any, path: str = "") -> Iterator[Cause]:
    """Everything in the value that the schema forbids."""
    if not _has_type(schema, value):
        told = "null" if value is None else _NAMES[type(value)]
        yield Cause("FieldValueTypeInvalid", path or "<nil>",
                    f'Invalid value: "{told}": {path} in body must be of type {schema["type"]}: "{told}"')  # fmt: skip
        return
    if value is None:
        return
    if "enum" in schema and value not in schema["enum"]:
        known = ", ".join(f'"{choice}"' for choice in schema["enum"])
        yield Cause("FieldValueNotSupported", path, f'Unsupported value: "{value}": supported values: {known}')
    if isinstance(value, dict):
        yield from _wrong_fields(schema, value, path)
    elif isinstance(value, list):
        yield from _wrong_items(schema, value, path)
    elif isinstance(value, str):
        yield from _wrong_text(schema, value, path)
    elif not isinstance(value, bool):
        yield from _wrong_number(schema, value, path)


def _has_type(schema: Json, value: Any) -> bool:
    kind = schema.get("type")
    if value is None:
        return bool(schema.get("nullable")) or kind is None
    match kind:
        case "object":
            return isinstance(value, dict)
        case "array":
            return isinstance(value, list)
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return (isinstance(value, int) and not isinstance(value, bool)) or (
                isinstance(value, float) and value.is_integer()
            )
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
    return True


def _wrong_fields(schema: Json, value: Json, path: str) -> Iterator[Cause]:
    for name in schema.get("required", ()):
        if name not in value:
            yield Cause("FieldValueRequired", _below(path, name), "Required value")
    if "maxProperties" in schema and len(value) > schema["maxProperties"]:
        most = schema["maxProperties"]
        yield Cause("FieldValueTooMany", path, f"Too many: {len(value)}: must have at most {most} items")
    properties, others = schema.get("properties", {}), schema.get("additionalProperties")
    for name, item in value.items():
        part = properties.get(name, others if name not in properties else None)
        if isinstance(part, dict):
            yield from wrong(part, item, _below(path, name))


def _wrong_items(schema: Json, value: list[Any], path: str) -> Iterator[Cause]:
    if "maxItems" in schema and len(value) > schema["maxItems"]:
        most = schema["maxItems"]
        yield Cause("FieldValueTooMany", path, f"Too many: {len(value)}: must have at most {most} items")
    if len(value) < schema.get("minItems", 0):
        yield Cause("FieldValueInvalid", path, f"Invalid value: {len(value)}: {path} in body should have at least "
                    f"{schema['minItems']} items")  # fmt: skip
    for at, item in enumerate(value):
        if "items" in schema:
            yield from wrong(schema["items"], item, f"{path}[{at}]")
    keys = schema.get("x-kubernetes-list-map-keys")
    if keys:
        seen: list[Any] = []
        for at, item in enumerate(value):
            named = {key: item.get(key) for key in keys} if isinstance(item, dict) else item
            if named in seen:
                yield Cause("FieldValueDuplicate", f"{path}[{at}]", f"Duplicate value: {named}")
            seen.append(named)


def _wrong_text(schema: Json, value: str, path: str) -> Iterator[Cause]:
    if len(value) > schema.get("maxLength", len(value)):
        most = schema["maxLength"]
        yield Cause("FieldValueTooLong", path, f"Too long: may not be more than {most} bytes")
    if len(value) < schema.get("minLength", 0):
        yield Cause("FieldValueInvalid", path, f'Invalid value: "{value}": {path} in body should be at least '
                    f"{schema['minLength']} chars long")  # fmt: skip
    if "pattern" in schema and not _pattern(schema["pattern"]).search(value):
        yield Cause("FieldValueInvalid", path, f'Invalid value: "{value}": {path} in body should match '
                    f"'{schema['pattern']}'")  # fmt: skip
    if schema.get("format") == "date-time" and not _is_moment(value):
        yield Cause("FieldValueInvalid", path, f'Invalid value: "{value}": {path} in body must be of type date-time: '
                    f'"{value}"')  # fmt: skip


def _wrong_number(schema: Json, value: float, path: str) -> Iterator[Cause]:
    low, high = _RANGES.get(schema.get("format", ""), (value, value))
    low, high = schema.get("minimum", low), schema.get("maximum", high)
    if value < low:
        yield Cause("FieldValueInvalid", path, f"Invalid value: {value}: {path} in body should be greater than or "
                    f"equal to {low}")  # fmt: skip
    if value > high:
        yield Cause("FieldValueInvalid", path, f"Invalid value: {value}: {path} in body should be less than or equal "
                    f"to {high}")  # fmt: skip


def broken_rules(schema: Json, value: Any, old: Any = None, path: str = "") -> Iterator[Cause]:
    """What the CEL rules say; a rule that reads `oldSelf` is asked only where there is an old value."""
    if value is None:
        return
    for rule in schema.get("x-kubernetes-validations", ()):
        yield from _broken(rule, value, old, path)
    if isinstance(value, dict):
        properties, others = schema.get("properties", {}), schema.get("additionalProperties")
        before = old if isinstance(old, dict) else {}
        for name, item in value.items():
            part = properties.get(name, others)
            if isinstance(part, dict):
                place = _below(path, name) if name in properties else f"{path}[{name}]"
                yield from broken_rules(part, item, before.get(name), place)
    elif isinstance(value, list) and "items" in schema:
        for at, item in enumerate(value):
            yield from broken_rules(schema["items"], item, None, f"{path}[{at}]")


def _broken(rule: Json, value: Any, old: Any, path: str) -> Iterator[Cause]:
    program = _program(rule["rule"])
    names = {"self": value}
    if "oldSelf" in program.variables():
        if old is None:
            return
        names["oldSelf"] = old
    try:
        holds = program.execute(names)
    except (ValueError, RuntimeError, KeyError, TypeError) as error:
        message = f"Invalid value: {_NAMES[type(value)]}: rule evaluation error: {error}"
        yield Cause("FieldValueInvalid", path, message)
        return
    if holds is not True:
        told = rule.get("message") or f"failed rule: {rule['rule']}"
        yield Cause(rule.get("reason", "FieldValueInvalid"), path, f"Invalid value: {told}")


@cache
def _program(rule: str) -> cel.Program:
    return cel.compile(rule)


@cache
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text.replace("$", r"\Z"))


def _is_moment(text: str) -> bool:
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).tzinfo is not None
    except ValueError:
        return False


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
