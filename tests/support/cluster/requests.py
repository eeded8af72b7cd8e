"""One HTTP request as the API server reads it: verb, options, selectors, body."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import yaml

from tests.support.cluster import failures, selectors
from tests.support.cluster.client import APPLY, JSON_PATCH, MERGE, STRATEGIC
from tests.support.cluster.failures import ApiError, bad_request
from tests.support.cluster.objects import Json
from tests.support.cluster.selectors import Selector
from tests.support.cluster.store import Deletion
from tests.support.servers.scripting import Request

PATCHES: Final = (JSON_PATCH, MERGE, APPLY, STRATEGIC)


class Asked:
    """A request as this server reads it."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.method = request.method
        self.parts = [part for part in request.path.split("/") if part]
        self.agent = request.headers.get("user-agent", "")
        self.content_type = request.headers.get("content-type", "").partition(";")[0].strip()
        self.wants_table = "as=Table" in request.headers.get("accept", "")

    def verb(self, named: bool) -> str:
        if self.method == "GET":
            return "watch" if self.flag("watch") else "get" if named else "list"
        verbs = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
        if self.method not in verbs:
            raise ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
        return verbs[self.method]

    def one(self, name: str) -> str:
        return self.request.arguments.get(name, [""])[0]

    def flag(self, name: str) -> bool:
        return self.one(name) in ("true", "1")

    @property
    def dry_run(self) -> bool:
        if self.one("dryRun") not in ("", "All"):
            raise bad_request(f"dryRun: Unsupported value: {self.one('dryRun')!r}")
        return bool(self.one("dryRun"))

    @property
    def version(self) -> int | None:
        text = self.one("resourceVersion")
        if text and not text.isdigit():
            raise ApiError(422, "Invalid", f'resourceVersion: Invalid value: "{text}": must be a number')
        return int(text) if text else None

    @property
    def selector(self) -> Selector:
        by_labels, by_fields = selectors.labels(self.one("labelSelector")), selectors.fields(self.one("fieldSelector"))
        return lambda obj: by_labels(obj) and by_fields(obj)

    def page(self, items: Sequence[Json], version: int) -> tuple[Sequence[Json], Json]:
        """The part of a list that `limit` and `continue` ask for, and the list's metadata.

        The version is that of the first page, so that a watch from it misses nothing that came in between.
        """
        first, version = (int(part) for part in (self.one("continue") or f"0.{version}").split("."))
        limit = int(self.one("limit") or 0)
        metadata: Json = {"resourceVersion": str(version)}
        if limit and first + limit < len(items):
            metadata |= {"continue": f"{first + limit}.{version}", "remainingItemCount": len(items) - first - limit}
        return items[first : first + limit] if limit else items[first:], metadata

    def body(self) -> Any:
        if "yaml" in self.content_type:
            try:
                return yaml.safe_load(self.request.body)
            except yaml.YAMLError as error:
                raise bad_request(f"error decoding YAML: {error}") from error
        if not (self.content_type in ("", "application/json") or self.content_type in PATCHES):
            raise failures.unsupported(self.content_type, ["application/json", "application/yaml"])
        try:
            return self.request.json()
        except ValueError as error:
            raise bad_request(f"the object provided is unrecognized: {error}") from error

    def deletion(self) -> Deletion:
        options = self.body() if self.request.body else {}
        grace = options.get("gracePeriodSeconds", self.one("gracePeriodSeconds"))
        wanted = options.get("preconditions") or {}
        return Deletion(
            options.get("propagationPolicy") or self.one("propagationPolicy") or None,
            int(grace) if grace not in ("", None) else None,
            wanted.get("uid"),
            wanted.get("resourceVersion"),
            bool(options.get("dryRun")) or self.dry_run,
        )
