"""A whole arena: API server, Job controller, kubelet and the operator, with workers that are real processes.

    with arena_cluster(folder) as arena:
        arena.bundle({"greets.yaml": ...}); arena.create(provider, ...); arena.start(job)
        arena.ended("nightly")

The operator runs in a thread of this process, because a test kills it more often than processes can start.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml

from testbench.arena.cluster.access import Access
from testbench.arena.cluster.http import HttpCluster
from testbench.arena.operator.loop import OperatorLoop
from testbench.arena.operator.settings import OperatorSettings
from tests.support.cluster.api_server import ApiServer
from tests.support.cluster.client import ApiClient, ClientAccess
from tests.support.cluster.contract.samples import ARENAJOBS, DEFINITIONS
from tests.support.cluster.definitions import resources_of
from tests.support.cluster.job_controller import JobController
from tests.support.cluster.kubelet import Kubelet
from tests.support.cluster.objects import BUILT_IN, Json, Resource
from tests.support.cluster.store import Store
from tests.support.cluster.waiting import until

NAMESPACE: Final = "arena"
CLAIM: Final = "results"
QUICK: Final = OperatorSettings(
    round_interval_s=0.02, backoff_s=0.02, status_interval_s=0.1, reference_poll_s=0.1, start_lead_s=2
)
ROOT: Final = Path(__file__).parents[3]
ENDED: Final = ("Succeeded", "Failed", "Cancelled")
STOP_SECONDS: Final = 20.0
HISTORY: Final = 100_000
"""All changes of a test are kept: `made` counts them."""
_CUSTOM: Final = tuple(one for definition in DEFINITIONS for one in resources_of(definition))
BY_KIND: Final[Mapping[str, Resource]] = {one.kind: one for one in (*BUILT_IN, *_CUSTOM)}


class Operator:
    """The operator in a thread with a loop of its own."""

    def __init__(self, access: Access, settings: OperatorSettings, now: Callable[[], datetime]) -> None:
        self.failed: BaseException | None = None
        self._access, self._settings, self._now = access, settings, now
        self._begun = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._task: asyncio.Task[None]
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True, name="operator")
        self._thread.start()
        self._begun.wait(STOP_SECONDS)

    def kill(self) -> None:
        """End it wherever it is: between two requests, or in the middle of one."""
        with suppress(RuntimeError):  # its loop is closed: it has ended before
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(STOP_SECONDS)
        if self._thread.is_alive():
            raise TimeoutError("the operator does not end")

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._work())
        self._begun.set()
        try:
            await self._task
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # noqa: BLE001 the test's thread has to hear of it
            self.failed = error

    async def _work(self) -> None:
        async with HttpCluster(self._access) as cluster:
            await OperatorLoop(cluster, self._settings, (NAMESPACE,), self._now).run(asyncio.Event())


@dataclass
class ArenaCluster:
    """What a test does with it. Names are in the namespace `arena`."""

    client: ApiClient
    kubelet: Kubelet
    settings: OperatorSettings
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    token: str | None = None
    """Of the operator, where it is not to have the rights of the test."""
    operators: list[Operator] = field(default_factory=list)

    def start_operator(self) -> Operator:
        access = self.client.access
        tls = ssl.create_default_context(cafile=access.certificate) if access.certificate else None
        known = Access(access.url, self.token or access.token, tls=tls)
        self.operators.append(Operator(known, self.settings, self.now))
        return self.operators[-1]

    def restart_operator(self) -> None:
        """Kill the operator and start another one."""
        self.operators[-1].kill()
        self.start_operator()

    def create(self, *documents: Json) -> None:
        """Objects of any kind; their status is written too."""
        for document in documents:
            resource = BY_KIND[document["kind"]]
            self.client.create(resource, document, NAMESPACE)
            if "status" in document and resource.status:
                name, status = document["metadata"]["name"], {"status": document["status"]}
                self.client.patch(resource, name, status, sub="status", namespace=NAMESPACE)

    def bundle(self, name: str, files: Mapping[str, Json]) -> None:
        """An ArenaSource of a ConfigMap with these YAML files."""
        data = {path.replace("/", "__"): yaml.safe_dump(content) for path, content in files.items()}
        source = {"type": "configmap", "configMap": {"name": name}}
        self.create(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data},
            {"apiVersion": ARENAJOBS.api_version, "kind": "ArenaSource", "metadata": {"name": name}, "spec": source},
        )

    def claim(self) -> None:
        """The claim that several pods may write to."""
        spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
        self.create({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": CLAIM}, "spec": spec})

    @property
    def results(self) -> Path:
        """The claim's files."""
        return self.kubelet.node.claim_folder(NAMESPACE, CLAIM)

    def job(self, name: str) -> Json:
        return self.client.get(ARENAJOBS, name, NAMESPACE)

    def remove(self, name: str) -> None:
        self.client.delete(ARENAJOBS, name, NAMESPACE)

    def kube_jobs(self) -> Sequence[Json]:
        return self.client.items("jobs", NAMESPACE)

    def pods(self) -> Sequence[Json]:
        return self.client.items("pods", NAMESPACE)

    def ended(self, name: str, seconds: float = 60.0) -> Json:
        """The ArenaJob when its phase is one of an end; what the pods said is in the error if it never is."""

        def look() -> Json | None:
            self.kubelet.check()
            found = self.job(name)
            return found if found.get("status", {}).get("phase") in ENDED else None

        try:
            return until(look, f"the end of {name}", seconds)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.story()}") from error

    def story(self) -> str:
        """What a person would look at: the status, the Jobs, the pods and the ends of their logs."""
        lines = [f"{one['metadata']['name']}: {one.get('status')}" for one in self.client.items(ARENAJOBS, NAMESPACE)]
        lines += [f"job {one['metadata']['name']}: {one['status']}" for one in self.kube_jobs()]
        for one in self.pods():
            name = one["metadata"]["name"]
            lines.append(f"pod {name}: {one['status'].get('phase')}\n{self.kubelet.logs(name)[-1500:]}")
        return "\n".join(lines)


@dataclass
class InMemoryArena(ArenaCluster):
    """The arena on the in-memory API server, which can be asked and told more than a real one."""

    server: ApiServer = field(kw_only=True)

    def made(self, resource: str) -> list[str]:
        """Names of all objects of a resource (`jobs.batch`) that ever came into being, in order."""
        return [
            change.key.name
            for change in self.server.store.changes_after(0)
            if change.key.resource == resource and change.old is None
        ]


Arena = TypeVar("Arena", bound=ArenaCluster)


@contextmanager
def arena_cluster(
    folder: Path, settings: OperatorSettings = QUICK, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Iterator[InMemoryArena]:
    """Everything but an operator, which `start_operator` begins; at the end all of it is gone.

    `now` is the time of the operator, of the Job controller and of what the API server writes.
    """
    with (
        ApiServer(Store(now, HISTORY)) as server,
        JobController(server.store),
        ApiClient(ClientAccess(server.origin)) as client,
    ):
        for definition in DEFINITIONS:
            client.create("customresourcedefinitions", definition)
        client.create("namespaces", {"metadata": {"name": NAMESPACE}})
        with (
            arena_kubelet(client.access, folder) as kubelet,
            ended_operators(InMemoryArena(client, kubelet, settings, now, server=server)) as arena,
        ):
            yield arena


def arena_kubelet(access: ClientAccess, folder: Path) -> Kubelet:
    """A kubelet whose pods find Testbench, as they do in its image."""
    environment = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return Kubelet(access, folder, environment=environment, host=(ROOT,))


@contextmanager
def ended_operators(arena: Arena) -> Iterator[Arena]:
    """The same arena; at the end its operators are ended too, and the first defect of one is raised."""
    try:
        yield arena
    finally:
        for operator in arena.operators:
            operator.kill()
    for operator in arena.operators:
        if operator.failed:
            raise operator.failed


def scenario(name: str, **more: Any) -> Json:
    """A scenario of one step that every answer of the scripted chat passes."""
    metric = {"metric_name": "builtin.contains", "threshold": 0.5, "parameters": {"text": "answer to"}}
    return {"name": name, "steps": [{"input": f"hello {name}", "metrics": [metric]}]} | more


def provider(name: str, base_url: str) -> Json:
    spec = {"type": "openai", "model": f"model-{name}", "baseURL": base_url}
    return {"apiVersion": ARENAJOBS.api_version, "kind": "Provider", "metadata": {"name": name}, "spec": spec}


def arena_job(name: str, **spec: Any) -> Json:
    """A job over the source `bundle` with the provider `gpt`."""
    whole = {"sourceRef": {"name": "bundle"}, "providers": {"default": [{"providerRef": {"name": "gpt"}}]}, **spec}
    return {"apiVersion": ARENAJOBS.api_version, "kind": "ArenaJob", "metadata": {"name": name}, "spec": whole}


def on_claim(**spec: Any) -> Json:
    """The part of a spec that keeps results on the claim."""
    return {"output": {"type": "pvc", "pvc": {"claimName": CLAIM}}, **spec}
