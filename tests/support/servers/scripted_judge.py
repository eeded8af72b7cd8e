"""An OpenAI-compatible server that plays the judge: verdicts are scripted, or made up from the JSON schema asked for.

A judge's prompt names the schema of the wanted answer in one of three ways, all understood here: `response_format` of
type `json_schema` (its schema is held to OpenAI's strict rules), the text "JSON Schema: {...}" (RAGAS), or
"json_schema: {...}" (instructor).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from tests.support.servers.loopback import LoopbackServer, Reply
from tests.support.servers.scripting import Request

Json: TypeAlias = Mapping[str, Any]
Verdict: TypeAlias = "Json | Callable[[str], Json]"

EMBEDDING_SIZE = 16
COST_HEADER = "x-litellm-response-cost"
_SCHEMA_MARK = re.compile(r"json[ _]schema", re.IGNORECASE)


class ScriptedJudge(LoopbackServer):
    """Serves `/v1/chat/completions`, `/v1/embeddings` and `/v1/models` under `base_url`.

    Faults (see `ScriptedServer`) hit chats and embeddings alike. Precedence for the text of a chat answer:
    `malformed_next`, `reply_text`, `answer` by schema title, a made-up instance of the schema, "ok".
    """

    def __init__(self) -> None:
        self._answers: dict[str, list[Verdict]] = {}
        self._malformed: list[str] = []
        self._text: str | None = None
        self._finish_reason = "stop"
        self._cost: float | None = None
        self._refused: tuple[str, ...] = ()
        self._vectors: dict[str, list[float]] = {}
        super().__init__()
        self.base_url = f"{self.origin}/v1"

    # What a test scripts

    def refuse_formats(self, *types: str) -> None:
        """Answer 400 to a `response_format` of these types, as gateways do that do not know them."""
        self._refused = types

    def answer(self, schema_title: str, *verdicts: Verdict) -> None:
        """The answers to prompts that want this schema, in turn, the last one for good.

        A callable gets the prompt's text. The title may also be that of an object inside another schema.
        """
        self._answers[schema_title] = list(verdicts)

    def reply_text(self, text: str) -> None:
        """Answer every prompt with this text as it is."""
        self._text = text

    def malformed_next(self, n: int = 1, text: str = 'Sure! Here you go: {"oops": ') -> None:
        """Answer the next `n` chats with this text, in an otherwise correct reply."""
        self._malformed += [text] * n

    def finish_reason(self, reason: str) -> None:
        """From now on: stop, length, content_filter..."""
        self._finish_reason = reason

    def cost(self, usd: float | None) -> None:
        """Send this cost with every answer, as LiteLLM does; None leaves the header out."""
        self._cost = usd

    def embedding(self, text: str, vector: Sequence[float]) -> None:
        """The vector of one text; any other text gets one made from its hash."""
        self._vectors[text] = list(vector)

    # What a test reads

    @property
    def chats(self) -> list[Request]:
        """The recorded chat requests, failed ones included."""
        return [request for request in self.requests if request.path == "/v1/chat/completions"]

    @property
    def prompts(self) -> list[str]:
        """The text of every chat request."""
        return [prompt_text(request.json()) for request in self.chats]

    @property
    def models(self) -> set[str]:
        """The model names that were asked."""
        return {request.json()["model"] for request in self.chats}

    # What the server does

    def reply_to(self, request: Request) -> Reply:
        headers = {"content-type": "application/json"}
        match request.method, request.path:
            case "GET", "/v1/models":
                content: Json = {"object": "list", "data": [{"id": "judge", "object": "model", "owned_by": "test"}]}
            case "POST", "/v1/chat/completions" if fault := self._format_fault(request.json()):
                refusal = {"error": {"message": fault, "param": "response_format", "code": None}}
                return Reply(400, json.dumps(refusal).encode(), headers)
            case "POST", "/v1/chat/completions":
                content = self._chat(request.json())
                headers |= {} if self._cost is None else {COST_HEADER: str(self._cost)}
            case "POST", "/v1/embeddings":
                content = self._embed(request.json())
            case _:
                return Reply(404, b'{"error": {"message": "no such route"}}', headers)
        return Reply(200, json.dumps(content).encode(), headers)

    def _format_fault(self, body: Json) -> str | None:
        wanted = body.get("response_format") or {"type": "text"}
        if wanted["type"] in self._refused:
            return f"'response_format' of type '{wanted['type']}' is not supported with this model."
        if wanted["type"] != "json_schema":
            return None
        named = wanted["json_schema"]
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", named["name"]):
            return f"Invalid 'response_format.json_schema.name': {named['name']}"
        fault = strict_fault(named["schema"]) if named.get("strict") else None
        return f"Invalid schema for response_format '{named['name']}': {fault}" if fault else None

    def _chat(self, body: Json) -> Json:
        text = self._chat_text(body)
        spent = {"prompt_tokens": prompt_tokens(body), "completion_tokens": tokens(text)}
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": self._finish_reason,
            "logprobs": None,
        }
        return {
            "id": f"chatcmpl-{len(self.requests)}",
            "object": "chat.completion",
            "created": 1_900_000_000,
            "model": body["model"],
            "choices": [choice],
            "usage": {**spent, "total_tokens": sum(spent.values())},
        }

    def _chat_text(self, body: Json) -> str:
        if self._malformed:
            return self._malformed.pop(0)
        if self._text is not None:
            return self._text
        schema = wanted_schema(body)
        return "ok" if schema is None else json.dumps(self._instance(schema, schema, "", prompt_text(body)))

    def _instance(self, schema: Json, root: Json, name: str, prompt: str) -> Any:
        if "$ref" in schema:
            return self._instance(root["$defs"][schema["$ref"].rsplit("/", 1)[-1]], root, name, prompt)
        if "properties" in schema:
            if scripted := self._answers.get(schema.get("title", "")):
                verdict = scripted[0] if len(scripted) == 1 else scripted.pop(0)
                return verdict(prompt) if callable(verdict) else verdict
            return {key: self._instance(value, root, key, prompt) for key, value in schema["properties"].items()}
        for choice in ("anyOf", "oneOf", "allOf"):
            if options := schema.get(choice):
                option = next((one for one in options if one.get("type") != "null"), options[0])
                return self._instance(option, root, name, prompt)
        if schema.get("type") == "array":
            return [self._instance(schema.get("items", {}), root, name, prompt)]
        return plain_value(schema, name)

    def _embed(self, body: Json) -> Json:
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        vectors = [self._vectors.get(text) or hash_vector(text) for text in texts]
        wanted = packed if body.get("encoding_format") == "base64" else list
        data = [{"object": "embedding", "index": i, "embedding": wanted(v)} for i, v in enumerate(vectors)]
        spent = sum(tokens(text) for text in texts)
        usage = {"prompt_tokens": spent, "total_tokens": spent}
        return {"object": "list", "data": data, "model": body["model"], "usage": usage}


def tokens(text: str) -> int:
    """The server's token count of a text: a quarter of its characters, at least 1."""
    return max(1, len(text) // 4)


def prompt_tokens(body: Json) -> int:
    """The token count of a chat request: its messages one by one."""
    return sum(tokens(message_text(message)) for message in body["messages"])


def message_text(message: Json) -> str:
    """The text of one chat message, of plain or multi-part content."""
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def prompt_text(body: Json) -> str:
    """The text of all messages of a chat request."""
    return "\n".join(message_text(message) for message in body["messages"])


def wanted_schema(body: Json) -> Json | None:
    """The JSON schema that a chat request wants its answer in, if any."""
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        schema: Json = wanted["json_schema"]["schema"]
        return schema
    text = prompt_text(body)
    for mark in _SCHEMA_MARK.finditer(text):
        start = text.find("{", mark.end())
        if start >= 0:
            try:
                found, _ = json.JSONDecoder().raw_decode(text, start)
            except ValueError:
                continue
            if "properties" in found or "$ref" in found:
                return dict(found)
    return None


_STRICT_KEYWORDS = {
    *("$defs", "$ref", "additionalProperties", "anyOf", "const", "description"),
    *("enum", "items", "properties", "required", "title", "type"),
}


def strict_fault(schema: Json) -> str | None:
    """What breaks the rules of OpenAI's strict schemas, or None if nothing does."""
    if schema.get("type") != "object":
        return "the root is no object"
    return next(_strict_faults(schema), None)


def _strict_faults(schema: Json) -> Iterator[str]:
    if unknown := schema.keys() - _STRICT_KEYWORDS:
        yield f"{sorted(unknown)} not permitted"
    if "$ref" in schema and len(schema) > 1:
        yield "$ref cannot have keywords beside it"
    if not {"type", "$ref", "anyOf", "enum", "const"} & schema.keys():
        yield "a schema must have a type"
    if schema.get("type") == "object":
        if schema.get("additionalProperties") is not False:
            yield "additionalProperties must be false"
        if sorted(schema.get("required", ())) != sorted(schema.get("properties", {})):
            yield "required must name every property"
    if schema.get("type") == "array" and "items" not in schema:
        yield "an array must have items"
    below = [*schema.get("properties", {}).values(), *schema.get("$defs", {}).values(), *schema.get("anyOf", ())]
    for part in [*below, *([schema["items"]] if "items" in schema else [])]:
        yield from _strict_faults(part)


def plain_value(schema: Json, name: str) -> Any:
    """The smallest value that fits a schema without parts; `name` is the field's."""
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "integer":
            return int(max(schema.get("minimum", 1), min(1, schema.get("maximum", 1))))
        case "number":
            return float(min(schema.get("maximum", 1.0), 1.0))
        case "boolean":
            return True
        case "object":
            return {}
        case "null":
            return None
        case _:
            return f"{name or 'text'} sample"


def hash_vector(text: str) -> list[float]:
    """A vector that depends on nothing but the text; all parts positive."""
    digest = hashlib.sha256(text.encode()).digest()
    return [(byte + 1) / 256 for byte in digest[:EMBEDDING_SIZE]]


def packed(vector: Sequence[float]) -> str:
    """The base64 form of an embedding: little-endian 32-bit floats."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def code_in(prompt: str) -> str:
    """The code that a judge by a rubric has to repeat."""
    found = re.search(r"<<<ANSWER ([0-9a-f]{16})\n", prompt)
    assert found
    return found[1]
