"""What a judge is sent beside the messages, as far as its gateway understands it. Used by `openai_judge`.

    options + the answer's type -> parts of the request -> a refusal of one of them -> options without it

The answer's form is asked for as strictly as possible: by its schema, else as any JSON object, else in words alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final, Literal

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


Form = Literal["json_schema", "json_object", "text"]
_COMPLAINTS: Final[Mapping[Form, tuple[str, ...]]] = {
    "json_schema": ("response_format", "schema", "structured output"),
    "json_object": ("response_format", "json_object", "json mode"),
}
"""Words by which a gateway refuses a form."""
_NAME_LENGTH: Final = 64


@dataclass(frozen=True)
class RequestOptions:
    """`refused` are forms that the gateway does not know; a temperature of None is the model's own."""

    max_tokens: int
    temperature: float | None
    tokens_named: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    refused: frozenset[Form] = frozenset()

    def form_of(self, answer: type[BaseModel]) -> Form:
        """How the form of an answer is asked for."""
        if "json_schema" not in self.refused and strict_schema(answer) is not None:
            return "json_schema"
        return "text" if "json_object" in self.refused else "json_object"

    def parts(self, answer: type[BaseModel]) -> dict[str, Any]:
        """The parts of a chat request beside the model and the messages."""
        temperature = {} if self.temperature is None else {"temperature": self.temperature}
        form = self.form_of(answer)
        wanted: Mapping[str, Any] | None = {"type": form} if form != "text" else None
        if form == "json_schema":
            wanted = response_format(answer)
        form_wanted = {"response_format": wanted} if wanted else {}
        return {self.tokens_named: self.max_tokens, **temperature, **form_wanted}

    def without(self, complaint: str, answer: type[BaseModel]) -> RequestOptions | None:
        """The options without the one that a refusal complains of, or None where it complains of something else."""
        said, form = complaint.lower(), self.form_of(answer)
        if any(word in said for word in _COMPLAINTS.get(form, ())):
            return replace(self, refused=self.refused | {form})
        if self.temperature is not None and "temperature" in said:
            return replace(self, temperature=None)
        if self.tokens_named == "max_tokens" and "max_tokens" in said:
            return replace(self, tokens_named="max_completion_tokens")
        return None


@lru_cache(maxsize=256)
def response_format(answer: type[BaseModel]) -> Mapping[str, Any] | None:
    """The strict format of an answer, or None where there is none. Not to be changed: it is shared."""
    schema = strict_schema(answer)
    if schema is None:
        return None
    name = re.sub(r"\W", "_", answer.__name__, flags=re.ASCII)[:_NAME_LENGTH]
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}


@lru_cache(maxsize=256)
def format_text(answer: type[BaseModel]) -> str:
    """The strict format as text: it is paid for like a part of the prompt."""
    return json.dumps(response_format(answer) or "")
