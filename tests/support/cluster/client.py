"""A small synchronous client of any Kubernetes API server: tests, the kubelet and the contract run use it.

It knows no types: objects are the JSON that the server sends. A refusal is a `RequestRefusedError` with its Status.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import httpx

from tests.support.cluster.objects import BY_PLURAL, Json, Resource

MERGE: Final = "application/merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"
STRATEGIC: Final = "application/strategic-merge-patch+json"
APPLY: Final = "application/apply-patch+yaml"
TIMEOUT_SECONDS: Final = 20.0


class RequestRefusedError(Exception):
    """The server's answer was a Status of failure."""

    def __init__(self, status: Json) -> None:
        super().__init__(f"{status.get('code')} {status.get('reason')}: {status.get('message')}")
        self.status = status

    @property
    def code(self) -> int:
        return int(self.status.get("code", 0))

    @property
    def reason(self) -> str:
        return str(self.status.get("reason", ""))

    @property
    def message(self) -> str:
        return str(self.status.get("message", ""))

    @property
    def fields(self) -> list[str]:
        """The fields that the server complains about, in its own order."""
        return [cause.get("field", "") for cause in self.status.get("details", {}).get("causes", ())]


@dataclass(frozen=True)
class ClientAccess:
    """Where an API server is, and who is asking."""

    url: str
    token: str | None = None
    certificate: str | None = None
    """Path of the certificate that the server must show; None for plain HTTP."""


class ApiClient:
    """Objects by resource, namespace and name. `resource` is a plural (`pods`) or a `Resource`; close it after use."""

    def __init__(self, access: ClientAccess, agent: str = "testbench-tests") -> None:
        headers = {"user-agent": agent} | ({"authorization": f"Bearer {access.token}"} if access.token else {})
        verify = ssl.create_default_context(cafile=access.certificate) if access.certificate else False
        self.access = access
        self.http = httpx.Client(
            base_url=access.url, headers=headers, verify=verify, timeout=TIMEOUT_SECONDS, trust_env=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self.http.close()

    def get(self, resource: str | Resource, name: str, namespace: str = "default") -> Json:
        return self.call("GET", path(resource, namespace, name))

    def list(self, resource: str | Resource, namespace: str | None = "default", **params: Any) -> Json:
        """The whole list object; `namespace=None` asks for all namespaces."""
        return self.call("GET", path(resource, namespace), params=params)

    def items(self, resource: str | Resource, namespace: str | None = "default", **params: Any) -> Sequence[Json]:
        found: Sequence[Json] = self.list(resource, namespace, **params)["items"]
        return found

    def create(self, resource: str | Resource, body: Json, namespace: str = "default", **params: Any) -> Json:
        return self.call("POST", path(resource, namespace), body, params=params)

    def replace(
        self, resource: str | Resource, body: Json, subresource: str | None = None, namespace: str = "default"
    ) -> Json:
        return self.call("PUT", path(resource, namespace, body["metadata"]["name"], subresource), body)

    def patch(
        self, resource: str | Resource, name: str, patch: Any, *, kind: str = MERGE, sub: str | None = None,
        namespace: str = "default", **params: Any,
    ) -> Json:  # fmt: skip
        return self.call("PATCH", path(resource, namespace, name, sub), patch, params=params, content=kind)

    def delete(
        self, resource: str | Resource, name: str, namespace: str = "default", options: Json | None = None
    ) -> Json:
        """`options` is a DeleteOptions: propagationPolicy, gracePeriodSeconds, preconditions, dryRun."""
        return self.call("DELETE", path(resource, namespace, name), options)

    @contextmanager
    def watch(
        self, resource: str | Resource, namespace: str | None = "default", **params: Any
    ) -> Iterator[Iterator[Json]]:
        """Events as they come, until the server ends the stream or the block is left."""
        asked = {"watch": "true"} | params
        patience = httpx.Timeout(TIMEOUT_SECONDS, read=None)
        with self.http.stream("GET", path(resource, namespace), params=asked, timeout=patience) as answer:
            if answer.status_code != 200:
                answer.read()
                raise RequestRefusedError(_status(answer))
            yield (json.loads(line) for line in answer.iter_lines() if line)

    def call(
        self, method: str, url: str, body: Any = None, *, params: Mapping[str, Any] | None = None,
        content: str = "application/json",
    ) -> Json:  # fmt: skip
        """One request; the answer's object, or Refused."""
        data = None if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"content-type": content}
        answer = self.http.request(method, url, params=dict(params or {}), content=data, headers=headers)
        if answer.status_code >= 400:
            raise RequestRefusedError(_status(answer))
        found: Json = answer.json()
        return found


def path(
    resource: str | Resource, namespace: str | None = None, name: str | None = None, subresource: str | None = None
) -> str:
    """The URL path of an object or, without a name, of the collection."""
    what = BY_PLURAL[resource] if isinstance(resource, str) else resource
    scope = ("namespaces", namespace) if what.namespaced and namespace is not None else ()
    return "/".join(["", *what.root, *scope, what.plural, *(part for part in (name, subresource) if part)])


def _status(answer: httpx.Response) -> Json:
    try:
        status = answer.json()
    except ValueError:
        status = None
    if isinstance(status, dict) and status.get("kind") == "Status":
        return status
    return {"kind": "Status", "code": answer.status_code, "reason": "", "message": answer.text[:200]}
