"""A kubelet and a scheduler in one: it binds every pod to itself and runs it as local processes.

It talks HTTP to any API server, the in-memory one or a real one. It runs no images, makes no networks and mounts
nothing; `tests.support.cluster.pod_files` says what becomes of paths.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import httpx

from tests.support.cluster.client import ApiClient, ClientAccess, RequestRefusedError, path
from tests.support.cluster.objects import Json, now, stamp
from tests.support.cluster.pod_files import Node
from tests.support.cluster.pod_process import PodProcess

AGENT: Final = "kubelet"
NODE_NAME: Final = "here"
WATCHED: Final = ("pods", "configmaps", "secrets")
WATCH_SECONDS: Final = 60
RETRY_SECONDS: Final = 0.1
STOP_SECONDS: Final = 15.0


class Kubelet:
    """Runs as a context manager; at the end every process that it started is gone."""

    def __init__(
        self, access: ClientAccess, folder: Path, *, paths: Mapping[str, Path] | None = None,
        environment: Mapping[str, str] | None = None, host: Sequence[Path] = (), entrypoint: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """`paths`, `host` and `environment` are the node's, see `pod_files.Node`; `entrypoint` is the image's."""
        self.client = ApiClient(access, AGENT)
        self.defect: BaseException | None = None
        binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        self.node = Node(
            folder, self._find, dict(paths or {}), tuple(host), {"PATH": binaries} | dict(environment or {})
        )
        self._entrypoint = tuple(entrypoint)
        self._pods: dict[str, PodProcess] = {}
        self._seen: dict[str, Json] = {}
        self._ended: set[str] = set()
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._follow, args=(plural,), daemon=True, name=f"kubelet-{plural}")
            for plural in WATCHED
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
        if error is None:
            self.check()

    def close(self) -> None:
        """End all pods with SIGKILL and stop watching; nothing is written to the server any more."""
        self._stop.set()
        with self._changed:
            running = list(self._pods.values())
        for one in running:
            one.stop(0)
            one.kill()
        for one in running:
            one.join(STOP_SECONDS)
        self.client.close()

    # --- what a test does ------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise the first error of the kubelet itself."""
        with self._changed:
            found = [self.defect, *(one.defect for one in self._pods.values())]
        for defect in found:
            if defect is not None:
                raise defect

    def running(self) -> list[str]:
        """Names of the pods that have processes now."""
        with self._changed:
            return sorted(one.pod["metadata"]["name"] for uid, one in self._pods.items() if uid not in self._ended)

    def kill(self, pod_name: str, number: int = signal.SIGKILL) -> bool:
        """A signal to the processes of a pod, as the out-of-memory killer or a crash would end it; False if none."""
        found = self._named(pod_name)
        if found is not None:
            found.kill(number)
        return found is not None

    def logs(self, pod_name: str, container: str | None = None) -> str:
        found = self._named(pod_name)
        return found.logs(container) if found else ""

    def drain(self) -> list[str]:
        """Evict every running pod: DisruptionTarget, then deletion with its grace; the names."""
        with self._changed:
            pods = [one.pod for uid, one in self._pods.items() if uid not in self._ended]
        for pod in pods:
            self.evict(pod)
        return [pod["metadata"]["name"] for pod in pods]

    def evict(self, pod: Json) -> None:
        condition = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
                     "lastTransitionTime": stamp(now())}  # fmt: skip
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        with suppress(RequestRefusedError):  # ended and gone meanwhile
            found = self.client.get("pods", name, namespace)
            conditions = [*found["status"].get("conditions", ()), condition]
            self.client.patch("pods", name, {"status": {"conditions": conditions}}, sub="status", namespace=namespace)
            self.client.delete("pods", name, namespace, {"preconditions": {"uid": pod["metadata"]["uid"]}})

    def wait_for(self, condition: Callable[[], bool], seconds: float = 30.0) -> bool:
        """Block until the condition holds; it is looked at whenever a pod changes."""
        with self._changed:
            return self._changed.wait_for(condition, seconds)

    # --- what it sees ----------------------------------------------------------------------------------------------

    def _follow(self, plural: str) -> None:
        try:
            while not self._stop.is_set():
                try:
                    self._list_and_watch(plural)
                except (RequestRefusedError, httpx.HTTPError, RuntimeError, ValueError):
                    self._stop.wait(RETRY_SECONDS)
        except Exception as error:  # noqa: BLE001 a defect of this part must fail the test, in the test's thread
            self.defect = error

    def _list_and_watch(self, plural: str) -> None:
        listed = self.client.list(plural, None)
        for item in listed["items"]:
            self._handle(plural, item)
        since = listed["metadata"]["resourceVersion"]
        options = {"resourceVersion": since, "timeoutSeconds": WATCH_SECONDS}
        with self.client.watch(plural, None, **options) as events:
            for event in events:
                if self._stop.is_set() or event["type"] == "ERROR":
                    return
                if event["type"] != "BOOKMARK":
                    self._handle(plural, event["object"], gone=event["type"] == "DELETED")

    def _handle(self, plural: str, obj: Json, gone: bool = False) -> None:
        if plural == "pods":
            self._see(obj, gone)
            return
        with self._changed:
            running = list(self._pods.values())
        for one in running:
            if one.pod["metadata"]["namespace"] == obj["metadata"]["namespace"]:
                one.refresh()

    def _see(self, pod: Json, gone: bool) -> None:
        uid = pod["metadata"]["uid"]
        with self._changed:
            process = self._pods.get(uid)
            known = uid in self._ended
        if gone:
            if process is not None:
                process.stop(0)
            return
        leaving = "deletionTimestamp" in pod["metadata"]
        over = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
        if process is not None:
            process.pod["metadata"] = pod["metadata"]
            process.refresh()
            if leaving and known:
                self._remove(pod)
            elif leaving:
                process.stop(pod["metadata"].get("deletionGracePeriodSeconds"))
        elif leaving and not over:
            self._report(pod, {"phase": "Failed", "reason": "Deleted before it began"})
        elif leaving:
            self._remove(pod)
        elif not over and pod["spec"].get("nodeName") in (None, NODE_NAME):
            self._take(pod)

    def _take(self, pod: Json) -> None:
        if not pod["spec"].get("nodeName"):
            self._bind(pod)
        process = PodProcess(self.node, pod, self._report, self._entrypoint)
        with self._changed:
            self._pods[pod["metadata"]["uid"]] = process
            self._changed.notify_all()
        if self._stop.is_set():
            return
        process.start()

    def _bind(self, pod: Json) -> None:
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
                   "target": {"apiVersion": "v1", "kind": "Node", "name": NODE_NAME}}  # fmt: skip
        with suppress(RequestRefusedError):  # deleted meanwhile: the next event says so
            self.client.call("POST", path("pods", namespace, name, "binding"), binding)

    # --- what it writes --------------------------------------------------------------------------------------------

    def _report(self, pod: Json, status: Json) -> None:
        """Write a pod's status, keeping conditions of others; at the end of a deleted pod remove it."""
        if self._stop.is_set():
            return
        namespace, name, uid = (pod["metadata"][key] for key in ("namespace", "name", "uid"))
        over = status["phase"] in ("Succeeded", "Failed")
        while not self._stop.is_set():
            try:
                found = self.client.get("pods", name, namespace)
                if found["metadata"]["uid"] != uid:
                    break
                body = {"metadata": {"uid": uid, "resourceVersion": found["metadata"]["resourceVersion"]},
                        "status": _with_conditions_of_others(found, status)}  # fmt: skip
                written = self.client.patch("pods", name, body, sub="status", namespace=namespace)
                if over and "deletionTimestamp" in written["metadata"]:
                    self._remove(written)
                break
            except RequestRefusedError as refused:
                if refused.code == 404:
                    break
                if refused.code != 409:
                    self.defect = refused
                    break
            except (httpx.HTTPError, RuntimeError):
                self._stop.wait(RETRY_SECONDS)
        if over:
            with self._changed:
                self._ended.add(uid)
                self._changed.notify_all()

    def _remove(self, pod: Json) -> None:
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}}
        with suppress(RequestRefusedError):  # somebody else removed it
            self.client.delete("pods", pod["metadata"]["name"], pod["metadata"]["namespace"], options)

    def _find(self, plural: str, namespace: str, name: str) -> Json | None:
        try:
            return self.client.get(plural, name, namespace)
        except (RequestRefusedError, httpx.HTTPError, RuntimeError):
            return None

    def _named(self, pod_name: str) -> PodProcess | None:
        with self._changed:
            return next((one for one in self._pods.values() if one.pod["metadata"]["name"] == pod_name), None)


def _with_conditions_of_others(found: Json, status: Json) -> Json:
    told = [one["type"] for one in status.get("conditions", ())]
    others = [one for one in found["status"].get("conditions", ()) if one["type"] not in told]
    return status | {"conditions": [*status.get("conditions", ()), *others]}
