"""The API server over HTTP.

A watch is a long answer with one JSON object a line. Everything that can go wrong with it (an error object of any
code, a line that is cut, a connection that drops) is one of two exceptions, and the caller lists again.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Final, Self

import httpx

from testbench.arena.cluster.access import Access
from testbench.arena.cluster.api import (
    ClusterError,
    ConflictError,
    DeniedError,
    HistoryGoneError,
    Json,
    Kind,
    ObjectList,
    WatchEvent,
)
from testbench.errors import InputError
from testbench.safe_text import printable

TIMEOUT_S: Final = 30.0
WATCH_S: Final = 240
"""The server is asked to end a watch after this; a stream that is silent for longer is dead."""
PAGE: Final = 500
MERGE: Final = "application/merge-patch+json"
REFUSALS: Final[Mapping[int, type[ClusterError]]] = {
    400: DeniedError, 403: DeniedError, 409: ConflictError, 410: HistoryGoneError, 413: DeniedError, 422: DeniedError,
}  # fmt: skip


class HttpCluster:
    """A `Cluster` over HTTP; to be used as an async context manager."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._http = httpx.AsyncClient(
            base_url=access.url,
            timeout=TIMEOUT_S,
            verify=access.tls if access.tls is not None else True,
            trust_env=False,
            headers={"user-agent": "testbench-arena-operator"},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        answer = await self._ask("GET", _build_path(kind, namespace, name))
        return None if answer.status_code == 404 else _read_object(answer)

    async def list(
        self, kind: Kind, namespace: str | None, labels: str = "", limit: int = 0, fields: str = ""
    ) -> ObjectList:
        items: list[Json] = []
        selectors = {"labelSelector": labels or None, "fieldSelector": fields or None}
        params: dict[str, Any] = {"limit": limit or PAGE, **selectors}
        while True:
            page = _read_object(await self._ask("GET", _build_path(kind, namespace), params=params))
            metadata = page.get("metadata") or {}
            items += [{"apiVersion": kind.api_version, "kind": kind.name} | item for item in page.get("items") or ()]
            params["continue"] = metadata.get("continue")
            if limit or not params["continue"]:
                return ObjectList(tuple(items), metadata.get("resourceVersion", ""))

    async def create(self, kind: Kind, body: Json) -> bool:
        answer = await self._ask("POST", _build_path(kind, body["metadata"]["namespace"]), body)
        if answer.status_code == 409 and _read_reason(answer) == "AlreadyExists":
            return False
        _read_object(answer)
        return True

    async def patch(self, kind: Kind, namespace: str, name: str, change: Json, *, status: bool = False) -> Json:
        path = _build_path(kind, namespace, name) + ("/status" if status else "")
        answer = await self._ask("PATCH", path, change, content_type=MERGE)
        if answer.status_code == 404:
            raise ConflictError(f"{kind.name} {namespace}/{name} is gone", 404)
        return _read_object(answer)

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        options = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        answer = await self._ask("DELETE", _build_path(kind, namespace, name), options)
        if answer.status_code not in (404, 409):
            _read_object(answer)

    async def watch(
        self, kind: Kind, namespace: str | None, resource_version: str, labels: str = ""
    ) -> AsyncIterator[WatchEvent]:
        params = {
            **({"labelSelector": labels} if labels else {}),
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(WATCH_S),
        }
        patience = httpx.Timeout(TIMEOUT_S, read=WATCH_S + TIMEOUT_S)
        headers = self._headers()
        try:
            async with self._http.stream(
                "GET", _build_path(kind, namespace), params=params, headers=headers, timeout=patience
            ) as answer:
                if answer.status_code != 200:
                    await answer.aread()
                    _read_object(answer)
                async for line in answer.aiter_lines():
                    if line:
                        yield _parse_event(line)
        except httpx.HTTPError as error:
            raise ClusterError(f"watch of {kind.plural}: {_describe(error)}") from error

    def _headers(self) -> dict[str, str]:
        try:
            token = self._access.bearer()
        except InputError as error:  # Kubernetes may be writing it anew
            raise ClusterError(error.message) from error
        return {"authorization": f"Bearer {token}"} if token else {}

    async def _ask(
        self, method: str, path: str, body: Json | None = None, *, params: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> httpx.Response:  # fmt: skip
        headers = self._headers() | ({} if body is None else {"content-type": content_type})
        content = None if body is None else json.dumps(body).encode()
        sent = {key: value for key, value in (params or {}).items() if value is not None}
        try:
            return await self._http.request(method, path, params=sent, content=content, headers=headers)
        except httpx.HTTPError as error:
            raise ClusterError(f"{method} {path}: {_describe(error)}") from error


def _build_path(kind: Kind, namespace: str | None, name: str | None = None) -> str:
    scope = f"/namespaces/{namespace}" if namespace is not None else ""
    return f"{kind.root}{scope}/{kind.plural}" + (f"/{name}" if name else "")


def _read_object(answer: httpx.Response) -> Json:
    """Return the object that was sent.

    Raises:
        Conflict, HistoryGone, ClusterError: the answer is a refusal, or not an object.
    """
    if answer.status_code >= 400:
        request = answer.request
        message = f"{request.method} {request.url.path}: {answer.status_code}: {_read_message(answer)}"
        raise REFUSALS.get(answer.status_code, ClusterError)(message, answer.status_code)
    try:
        found = answer.json()
    except ValueError as error:
        raise ClusterError(f"{answer.request.url.path}: the answer is not JSON", answer.status_code) from error
    if not isinstance(found, dict):
        raise ClusterError(f"{answer.request.url.path}: the answer is not an object", answer.status_code)
    return found


def _read_reason(answer: httpx.Response) -> str:
    return str(_read_status(answer).get("reason", ""))


def _read_message(answer: httpx.Response) -> str:
    """Return the sentence of a refusal; a proxy before the API server may answer with anything."""
    return printable(str(_read_status(answer).get("message") or answer.text), 500)


def _read_status(answer: httpx.Response) -> Json:
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _describe(error: httpx.HTTPError) -> str:
    """Return the error's name and text: the name alone does not tell an untrusted certificate from other failures."""
    return printable(f"{type(error).__name__}: {error}".rstrip(": "), 300)


def _parse_event(line: str) -> WatchEvent:
    """Return one line of a watch.

    Raises:
        HistoryGone: the server says so.
        ClusterError: it says anything else that is no change, or half of something.
    """
    try:
        event = json.loads(line)
        kind, content = event["type"], event["object"]
    except (ValueError, LookupError, TypeError) as error:
        raise ClusterError("a watch sent something that is not an event") from error
    if kind == "ERROR":
        code = content.get("code") if isinstance(content, dict) else None
        raised = HistoryGoneError if code == 410 else ClusterError
        raise raised(f"a watch ended with {code}", code if isinstance(code, int) else None)
    if not isinstance(content, dict) or not isinstance(content.get("metadata"), dict):
        raise ClusterError("a watch sent something that is not an object")
    return WatchEvent(kind, content)
