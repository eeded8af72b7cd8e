"""From pydantic's JSON Schema of an answer to the subset that `response_format: json_schema, strict: true` takes.

    model -> its schema -> every object closed, every field required, no keyword that a gateway may refuse

The rules are those of OpenAI's "Structured Outputs"; what they cannot express (free keys, any value, tuples) has no
strict schema. Bounds such as `minimum` are left out, not lost: the answer is checked against the model when it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from pydantic import BaseModel

_KEPT: Final = frozenset({"type", "title", "description", "enum", "const"})


class _NotStrictError(Exception):
    """The schema has no strict form."""


@lru_cache(maxsize=256)
def strict_schema(model: type[BaseModel]) -> Mapping[str, Any] | None:
    """The strict schema of an answer, or None where there is none. Not to be changed: it is shared."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})
    if "$ref" in schema:  # a model that contains itself
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    try:
        strict = _strict(schema)
        below = {name: _strict(definition) for name, definition in definitions.items()}
    except _NotStrictError:
        return None
    if strict.get("type") != "object":
        return None
    return strict | ({"$defs": below} if below else {})


def _strict(schema: Mapping[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}  # nothing may stand beside it
    for keyword in ("anyOf", "oneOf"):
        if options := schema.get(keyword):
            kept = {key: value for key, value in schema.items() if key in _KEPT and key != "type"}
            return kept | {"anyOf": [_strict(option) for option in options]}
    if options := schema.get("allOf"):
        if len(options) != 1:
            raise _NotStrictError
        return _strict(options[0])
    kept = {key: value for key, value in schema.items() if key in _KEPT}
    match schema.get("type"):
        case "object":
            return kept | _closed(schema)
        case "array":
            if "prefixItems" in schema or not schema.get("items"):
                raise _NotStrictError
            return kept | {"items": _strict(schema["items"])}
        case None if not {"enum", "const"} & schema.keys():
            raise _NotStrictError  # any value
    return kept


def _closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    if schema.get("additionalProperties") or "patternProperties" in schema or not schema.get("properties"):
        raise _NotStrictError  # free keys
    properties = {name: _strict(value) for name, value in schema["properties"].items()}
    return {"properties": properties, "required": list(properties), "additionalProperties": False}
