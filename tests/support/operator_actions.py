"""The operator in a thread against the strict API server, with a user and the Job controller played by hand."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import yaml

from testbench.arena.cluster import api
from testbench.arena.cluster.access import Access
from testbench.arena.cluster.api import Json
from testbench.arena.cluster.http import HttpCluster
from testbench.arena.operator.loop import OperatorLoop
from testbench.arena.operator.settings import OperatorSettings
from tests.support.cluster.api_server import ApiServer
from tests.support.cluster.client import ApiClient, ClientAccess, RequestRefusedError
from tests.support.manifest_files import DEPLOY
from tests.support.operator_fixture import NAMESPACE, S3, arena_job, conclusion

PROBE_TIMEOUT_S = 20.0
FAST = OperatorSettings(round_interval_s=0.01, backoff_s=0.005, status_interval_s=0.05, reference_poll_s=0.05)


class OperatorThread:
    """The operator in a thread with a loop of its own."""

    def __init__(self, origin: str, settings: OperatorSettings = FAST) -> None:
        self._origin, self._settings = origin, settings
        self._begun = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self.failed: BaseException | None = None

    def __enter__(self) -> OperatorThread:
        self._thread.start()
        assert self._begun.wait(PROBE_TIMEOUT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PROBE_TIMEOUT_S)
        assert not self._thread.is_alive()
        assert self.failed is None

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with HttpCluster(Access(self._origin)) as cluster:
            self.loop = OperatorLoop(cluster, self._settings, (NAMESPACE,))
            self._begun.set()
            try:
                await self.loop.run(self._stop)
            except BaseException as error:  # the test's thread has to hear of it
                self.failed = error
                raise


class ManualActions:
    """What a user and the Job controller do, by hand."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.client = ApiClient(ClientAccess(server.origin), "kubelet")

    def apply(self, *objects: Json) -> None:
        for body in objects:
            kind = next(kind for kind in vars(api).values() if getattr(kind, "name", "") == body["kind"])
            self.client.create(self.resource(kind.plural), body, NAMESPACE)

    def resource(self, plural: str) -> Any:
        return next(each for each in self.server.store.resources if each.plural == plural)

    def get(self, plural: str, name: str) -> Json | None:
        try:
            return self.client.get(self.resource(plural), name, NAMESPACE)
        except RequestRefusedError:
            return None

    def until(self, what: Callable[[], Any]) -> Any:
        """Wait until `what` returns something true, and return it; asked again after every change in the cluster."""
        for _ in range(400):
            if found := what():
                return found
            self.server.store.wait_after(self.server.store.version, PROBE_TIMEOUT_S / 400)
        raise AssertionError(f"in vain: {self.client.items(self.resource('arenajobs'), NAMESPACE)}")

    def phase(self, name: str = "evals") -> str | None:
        status: Json = (self.get("arenajobs", name) or {}).get("status", {})
        phase: str | None = status.get("phase")
        return phase

    def end(self, job: str, message: str, **status: Any) -> None:
        found = self.until(lambda: self.get("jobs", job))
        labels = {"batch.kubernetes.io/job-name": job}
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": job, "uid": found["metadata"]["uid"]}
        spec = {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never"}
        pod = {"metadata": {"name": f"{job}-x", "labels": labels, "ownerReferences": [owner]}, "spec": spec}
        self.client.create("pods", pod, NAMESPACE)
        ended = {"exitCode": 0, "message": message, "finishedAt": "2026-01-01T00:00:00Z"}
        container = {"name": "c", "state": {"terminated": ended}, "ready": False, "restartCount": 0}
        change = {"status": {"phase": "Succeeded", "containerStatuses": [container]}}
        self.client.patch("pods", f"{job}-x", change, sub="status", namespace=NAMESPACE)
        done = {"type": "Complete", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        change = {"status": {"conditions": [done], **status}}
        self.client.patch("jobs", job, change, sub="status", namespace=NAMESPACE)


@contextmanager
def api_server() -> Iterator[ApiServer]:
    """An API server with the namespace and our CustomResourceDefinitions."""
    with ApiServer() as running:
        with ApiClient(ClientAccess(running.origin)) as client:
            client.create("namespaces", {"metadata": {"name": NAMESPACE}})
            for file in ("arenajobs", "references"):
                for crd in yaml.safe_load_all((DEPLOY / f"base/arena/crds/{file}.yaml").read_text()):
                    client.create("customresourcedefinitions", crd)
        yield running


@contextmanager
def manual_actions(server: ApiServer) -> Iterator[ManualActions]:
    made = ManualActions(server)
    yield made
    made.client.close()


def run_through(
    actions: ManualActions, name: str = "evals", *, ended: Callable[[], bool] | None = None, grow: bool = False
) -> None:
    """Bring a job to its end; with `grow`, its workers are all ready once, so that there may be more."""
    actions.end(f"{name}-plan", json.dumps({"digest": f"sha256:{'0' * 64}", "items": 10}))
    if grow:
        actions.until(lambda: actions.get("jobs", f"{name}-work"))
        status = {"status": {"active": 1, "ready": 1}}
        actions.client.patch("jobs", f"{name}-work", status, sub="status", namespace=NAMESPACE)
        actions.until(lambda: (actions.get("jobs", f"{name}-work") or {})["spec"]["parallelism"] > 1)
    actions.end(f"{name}-work", "", completedIndexes="0-3", succeeded=4)
    actions.end(f"{name}-reduce", conclusion(10))
    actions.until(ended or (lambda: actions.phase(name) == "Succeeded"))


def job_with_workers(name: str = "evals") -> Json:
    return arena_job(name, workers={"replicas": 4}, output=S3)
