"""The API server over HTTP, on loopback: paths and verbs, content types, watches, and the faults that a test asks for.

    with ApiServer() as server:
        kubectl --server server.origin get pods

`server.store` is the state, `server.faults` what goes wrong, `server.calls` what was asked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from tests.support.cluster import admission, discovery, failures, patching, tables
from tests.support.cluster.client import APPLY, JSON_PATCH, MERGE, STRATEGIC
from tests.support.cluster.failures import ApiError, bad_request
from tests.support.cluster.faults import Faults, WatchFault, reason
from tests.support.cluster.objects import Json, Resource
from tests.support.cluster.requests import PATCHES, Asked
from tests.support.cluster.store import Deletion, Store
from tests.support.cluster.watching import Watch, events
from tests.support.servers.loopback import LoopbackServer, Reply
from tests.support.servers.scripting import Request

OWN_PARTS: Final = ("kubelet",)
"""User agents of the cluster's own parts, whose requests are neither in `calls` nor hit by faults."""
BOOKMARK_SECONDS: Final = 5.0
WATCH_SECONDS: Final = 3600
"""The longest watch that names no time."""
SUBRESOURCES: Final = ("status", "binding", "finalize")


PATCH: Final[Mapping[str, Callable[[Json, Any], Any]]] = {
    JSON_PATCH: patching.patched,
    MERGE: patching.merged,
    STRATEGIC: patching.strategically_merged,
}


class Call(NamedTuple):
    """One request as the log keeps it; `name` is empty for a collection and for a new object."""

    verb: str
    resource: str
    namespace: str
    name: str
    subresource: str
    agent: str


@dataclass(frozen=True)
class Target:
    """What a path names."""

    resource: Resource
    namespace: str
    name: str
    subresource: str


class ApiServer(LoopbackServer):
    """Serves a store. Several may not share one."""

    def __init__(self, store: Store | None = None, bookmark_seconds: float = BOOKMARK_SECONDS) -> None:
        self.store = store or Store()
        self.faults = Faults()
        self.faults.on_change = self.store.notify
        self.calls: list[Call] = []
        self._bookmark_seconds = bookmark_seconds
        self._applied: dict[tuple[str, str], Json] = {}
        super().__init__()

    def stop(self) -> None:
        self.store.close()
        super().stop()

    def calls_of(self, verb: str, resource: str) -> list[Call]:
        """The requests of one verb to one plural, in order."""
        return [call for call in self.calls if (call.verb, call.resource) == (verb, resource)]

    def respond(self, request: Request, send: Callable[[Reply], None]) -> bool:
        with self.handling(request):
            if self.closing:
                return False
            reply = self.reply_to(request)
            if reply.cut_after == 0:
                return False
            send(reply)
            return True

    def reply_to(self, request: Request) -> Reply:
        """The answer; `cut_after=0` stands for a connection that is closed without one."""
        try:
            return self._answer(Asked(request))
        except ApiError as error:
            return _json(error.status, error.code)

    def _answer(self, asked: Asked) -> Reply:
        parts = asked.parts
        if parts in (["healthz"], ["readyz"], ["livez"]):
            return Reply(200, b"ok")
        is_root = len(parts) <= (2 if parts[:1] == ["api"] else 3)
        if is_root and asked.method == "GET":
            return _json(discovery.answer(parts, self.store.resources))
        target = self._target(parts)
        verb = asked.verb(bool(target.name))
        own = asked.agent.startswith(OWN_PARTS)
        if not own:
            self.calls.append(
                Call(verb, target.resource.plural, target.namespace, target.name, target.subresource, asked.agent)
            )
        fault = None if own else self.faults.for_request(verb, target.resource.plural)
        if fault and fault.status:
            raise ApiError(fault.status, reason(fault.status), f"scripted {fault.status}")
        reply = self._carry_out(asked, target, verb, own)
        return Reply(200, b"", cut_after=0) if fault else reply

    def _carry_out(self, asked: Asked, target: Target, verb: str, own: bool) -> Reply:
        match verb:
            case "watch":
                return self._watch(asked, target, own)
            case "list":
                return self._list(asked, target)
            case "get":
                return self._shown(asked, target, self.store.get(target.resource, target.namespace, target.name))
            case "create":
                return self._create(asked, target)
            case "update" | "patch":
                return self._write(asked, target, verb)
        return self._delete(asked, target)

    def _target(self, parts: list[str]) -> Target:
        group, version, rest = ("", parts[1], parts[2:]) if parts[0] == "api" else (parts[1], parts[2], parts[3:])
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in SUBRESOURCES:
            namespace, rest = rest[1], rest[2:]
        resource = self.store.find(group, version, rest[0])
        name, subresource = (rest[1] if len(rest) > 1 else ""), (rest[2] if len(rest) > 2 else "")
        known = {"status"} if resource.status else set()
        known |= {"binding"} if resource.kind == "Pod" else {"finalize"} if resource.kind == "Namespace" else set()
        if (subresource and subresource not in known) or len(rest) > 3:
            raise failures.no_such_path()
        if resource.namespaced and name and not namespace:
            raise failures.no_such_path()
        return Target(resource, namespace, name, subresource)

    # --- reading ---------------------------------------------------------------------------------------------------

    def _list(self, asked: Asked, target: Target) -> Reply:
        items, version = self.store.listed(target.resource, target.namespace, asked.selector)
        wanted = asked.version
        if wanted is not None and wanted > version:
            raise ApiError(504, "Timeout", f"Too large resource version: {wanted}, current: {version}")
        if asked.one("resourceVersionMatch") == "Exact" and wanted != version:
            raise failures.expired(wanted or 0, version)
        if asked.wants_table:
            return _json(tables.table(target.resource, items, {"resourceVersion": str(version)}, self.store.clock()))
        kind = {"kind": f"{target.resource.kind}List", "apiVersion": target.resource.api_version}
        page, metadata = asked.page(items, version)
        return _json(kind | {"metadata": metadata, "items": page})

    def _shown(self, asked: Asked, target: Target, obj: Json, code: int = 200) -> Reply:
        if asked.wants_table:
            metadata = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
            return _json(tables.table(target.resource, [obj], metadata, self.store.clock()), code)
        return _json(obj, code)

    def _watch(self, asked: Asked, target: Target, own: bool) -> Reply:
        watch = Watch(
            target.resource, target.namespace, asked.selector, asked.version,
            float(asked.one("timeoutSeconds") or WATCH_SECONDS),
            asked.flag("allowWatchBookmarks"), asked.flag("sendInitialEvents"),
        )  # fmt: skip
        shown = _rows(target.resource, self.store) if asked.wants_table else None
        return Reply(200, headers={"content-type": "application/json"}, pieces=self._lines(watch, shown, own))

    def _lines(self, watch: Watch, shown: Callable[[Json], Json] | None, own: bool) -> Iterator[bytes]:
        broken: list[WatchFault] = []

        def interrupted() -> bool:
            fault = None if own or broken else self.faults.for_watch(watch.resource.plural)
            broken.extend([fault] if fault else [])
            return bool(broken)

        try:
            for event in events(self.store, watch, self._bookmark_seconds, interrupted):
                if shown and event["type"] != "BOOKMARK":
                    event = event | {"object": shown(event["object"])}
                yield _line(event)
        except ApiError as error:
            yield _line({"type": "ERROR", "object": error.status})
        for fault in broken:
            yield from _broken(fault)

    # --- writing ---------------------------------------------------------------------------------------------------

    def _create(self, asked: Asked, target: Target) -> Reply:
        if target.subresource == "binding":
            return self._bind(asked, target)
        if target.name:
            raise ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
        obj, warnings = self._read(asked, target, asked.body(), creating=True)
        stored = self.store.create(target.resource, target.namespace, obj, asked.dry_run)
        return _warned(self._shown(asked, target, stored, 201), warnings)

    def _bind(self, asked: Asked, target: Target) -> Reply:
        node = asked.body()["target"]["name"]

        def bound(pod: Json) -> Json:
            if pod["spec"].get("nodeName") or "deletionTimestamp" in pod["metadata"]:
                why = f"pod {target.name} is already assigned to node or is being deleted"
                raise failures.conflict(target.resource, target.name, why)
            pod["spec"]["nodeName"] = node
            return pod

        self.store.update(target.resource, target.namespace, target.name, bound)
        return _json({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}, 201)

    def _write(self, asked: Asked, target: Target, verb: str) -> Reply:
        kind = asked.content_type
        if verb == "patch" and kind == APPLY:
            return self._apply(asked, target)
        taken = [one for one in PATCHES if not (target.resource.custom and one == STRATEGIC)]
        if verb == "patch" and kind not in taken:
            raise failures.unsupported(kind, taken)
        body, warnings = asked.body(), list[str]()

        def change(old: Json) -> Json:
            new, told = self._read(asked, target, PATCH[kind](old, body) if verb == "patch" else body)
            warnings.extend(told)
            return new

        stored = self.store.update(
            target.resource, target.namespace, target.name, change, subresource=target.subresource or None,
            dry_run=asked.dry_run, is_whole=verb == "update",
        )  # fmt: skip
        return _warned(self._shown(asked, target, stored), warnings)

    def _apply(self, asked: Asked, target: Target) -> Reply:
        manager = asked.one("fieldManager")
        if not manager:
            cause = failures.Cause("FieldValueRequired", "fieldManager", "Required value: is required for apply patch")
            raise ApiError(422, "Invalid", f'PatchOptions.meta.k8s.io "" is invalid: fieldManager: {cause.message}',
                           {"causes": [cause._asdict()]})  # fmt: skip
        says, warnings = self._read(asked, target, asked.body())
        try:
            found = self.store.get(target.resource, target.namespace, target.name)
        except ApiError:
            found = None
        if found is None:
            stored, code = self.store.create(target.resource, target.namespace, says, asked.dry_run), 201
        else:
            before = self._applied.get((found["metadata"]["uid"], manager), {})
            stored, code = self.store.update(
                target.resource, target.namespace, target.name, lambda old: patching.applied(old, before, says),
                subresource=target.subresource or None, dry_run=asked.dry_run,
            ), 200  # fmt: skip
        if not asked.dry_run:
            self._applied[(stored["metadata"]["uid"], manager)] = says
        return _warned(self._shown(asked, target, stored, code), warnings)

    def _read(self, asked: Asked, target: Target, sent: Any, creating: bool = False) -> tuple[Json, list[str]]:
        resource = target.resource
        if not isinstance(sent, dict):
            raise bad_request("the object provided is unrecognized: it is no JSON object")
        said = (sent.get("apiVersion", resource.api_version), sent.get("kind", resource.kind))
        if said != (resource.api_version, resource.kind):
            raise bad_request(f"the API version and kind in the data ({'/'.join(said)}) do not match those expected")
        namespace = (sent.get("metadata") or {}).get("namespace", target.namespace)
        if resource.namespaced and namespace != target.namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        unknown: list[str] = []
        obj = admission.read(resource, sent, unknown)
        if unknown and asked.one("fieldValidation") == "Strict":
            raise admission.unknown_fields(unknown)
        if not creating and target.name:
            obj["metadata"].setdefault("name", target.name)
        warn = asked.one("fieldValidation") != "Ignore"
        return obj, [f'unknown field "{path}"' for path in unknown] if warn else []

    def _delete(self, asked: Asked, target: Target) -> Reply:
        deletion = asked.deletion()
        if target.name:
            return self._deleted(target, self.store.get(target.resource, target.namespace, target.name), deletion)
        items, version = self.store.listed(target.resource, target.namespace, asked.selector)
        for one in items:
            self._deleted(target, one, deletion)
        kind = {"kind": f"{target.resource.kind}List", "apiVersion": target.resource.api_version}
        return _json(kind | {"metadata": {"resourceVersion": str(version)}, "items": items})

    def _deleted(self, target: Target, found: Json, deletion: Deletion) -> Reply:
        resource, metadata = target.resource, found["metadata"]
        left = self.store.delete(resource, target.namespace, metadata["name"], deletion)
        if left is not None:
            return _json(left)
        details = {"name": metadata["name"], "group": resource.group, "kind": resource.plural, "uid": metadata["uid"]}
        return _json({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})


def _rows(resource: Resource, store: Store) -> Callable[[Json], Json]:
    return lambda obj: tables.table(resource, [obj], {}, store.clock())


def _broken(fault: WatchFault) -> Iterator[bytes]:
    match fault.how:
        case "error":
            error = ApiError(fault.status, reason(fault.status), f"scripted {fault.status}")
            yield _line({"type": "ERROR", "object": error.status})
        case "truncated":
            yield b'{"type":"MODIFIED","object":{"apiVe'
        case "dropped":
            raise ConnectionError("scripted")


def _line(event: Json) -> bytes:
    return json.dumps(event).encode() + b"\n"


def _json(document: Json, code: int = 200) -> Reply:
    return Reply(code, json.dumps(document).encode(), {"content-type": "application/json"})


def _warned(reply: Reply, warnings: list[str]) -> Reply:
    if not warnings:
        return reply
    return Reply(reply.status, reply.body, {**reply.headers, "warning": f"299 - {json.dumps('; '.join(warnings))}"})
