"""What a model is asked for beside the messages, as far as its gateway understands it. Pure.

    answer's type -> response_format, as strict as the type allows
    request + the options that the gateway refused -> the request that it takes
    request + a refusal -> the option that it complains of

An answer's form is asked for as strictly as possible: by its schema, else as any JSON object, else in words alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias

from pydantic import BaseModel

Json: TypeAlias = dict[str, Any]
Option: TypeAlias = Literal["json_schema", "json_object", "stream_options", "temperature", "max_tokens"]

COMPLAINTS: Final[Mapping[Option, tuple[str, ...]]] = {
    "json_schema": ("response_format", "schema", "structured output"),
    "json_object": ("response_format", "json_object", "json mode"),
    "stream_options": ("stream_options",),
    "temperature": ("temperature",),
    "max_tokens": ("max_tokens",),
}
"""Words by which a gateway refuses an option."""
REPHRASABLE: Final[frozenset[Option]] = frozenset({"stream_options", "max_tokens"})
"""Options without which, or under whose other name, a model is asked the very same."""
ALL_OPTIONS: Final[frozenset[Option]] = frozenset(COMPLAINTS)
MAX_NAME_LENGTH: Final = 64


def without_refused(request: Json, refused: Collection[Option]) -> Json:
    """Return the request as a gateway takes it that refused these options."""
    if not refused:
        return request
    request = dict(request)
    if "json_schema" in refused and _form(request) == "json_schema":
        request["response_format"] = {"type": "json_object"}
    if "json_object" in refused and _form(request) == "json_object":
        del request["response_format"]
    if "max_tokens" in refused and "max_tokens" in request:
        request["max_completion_tokens"] = request.pop("max_tokens")
    for option in ("stream_options", "temperature"):
        if option in refused:
            request.pop(option, None)
    return request


def find_refused(request: Json, complaint: str, droppable: Collection[Option]) -> Option | None:
    """Return which of the droppable options of a request a refusal complains of, or None if it is something else."""
    said = complaint.lower()
    for option, words in COMPLAINTS.items():
        sent = option in request or option == _form(request)
        if sent and option in droppable and any(word in said for word in words):
            return option
    return None


@lru_cache(maxsize=256)
def response_format(answer: type[BaseModel]) -> Mapping[str, Any] | None:
    """Return the strict format of an answer, or None where there is none. Not to be changed: it is shared."""
    schema = strict_schema(answer)
    if schema is None:
        return None
    name = re.sub(r"\W", "_", answer.__name__, flags=re.ASCII)[:MAX_NAME_LENGTH]
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}


def strictest_format(answer: type[BaseModel]) -> Mapping[str, Any]:
    """Return the strict format of an answer, or that of any JSON object where there is none."""
    return response_format(answer) or {"type": "json_object"}


@lru_cache(maxsize=256)
def format_text(answer: type[BaseModel]) -> str:
    """Return the strict format as text: it is paid for like a part of the prompt."""
    return json.dumps(response_format(answer) or "")


@lru_cache(maxsize=256)
def strict_schema(model: type[BaseModel]) -> Mapping[str, Any] | None:
    """Return the strict schema of an answer, or None where there is none. Not to be changed: it is shared."""
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


_KEPT: Final = frozenset({"type", "title", "description", "enum", "const"})


class _NotStrictError(Exception):
    """The schema has no strict form."""


def _strict(schema: Mapping[str, Any]) -> Json:
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


def _closed(schema: Mapping[str, Any]) -> Json:
    if schema.get("additionalProperties") or "patternProperties" in schema or not schema.get("properties"):
        raise _NotStrictError  # free keys
    properties = {name: _strict(value) for name, value in schema["properties"].items()}
    return {"properties": properties, "required": list(properties), "additionalProperties": False}


def _form(request: Json) -> Any:
    return request.get("response_format", {}).get("type")
