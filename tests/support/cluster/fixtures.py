"""The in-memory cluster as pytest fixtures: test modules import those that they take."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster.api_server import ApiServer
from tests.support.cluster.client import ApiClient, ClientAccess
from tests.support.cluster.contract.samples import DEFINITIONS
from tests.support.cluster.job_controller import JobController
from tests.support.cluster.kubelet import Kubelet


@pytest.fixture
def server() -> Iterator[ApiServer]:
    """The API server with our CustomResourceDefinitions and the Job controller; retries come at once."""
    with ApiServer() as part, JobController(part.store):
        with ApiClient(ClientAccess(part.origin)) as client:
            for definition in DEFINITIONS:
                client.create("customresourcedefinitions", definition)
        part.calls.clear()
        yield part


@pytest.fixture
def api(server: ApiServer) -> Iterator[ApiClient]:
    with ApiClient(ClientAccess(server.origin)) as client:
        yield client


@pytest.fixture
def namespace(api: ApiClient) -> str:
    api.create("namespaces", {"metadata": {"name": "contract"}})
    return "contract"


@pytest.fixture
def kubelet(server: ApiServer, tmp_path: Path) -> Iterator[Kubelet]:
    with Kubelet(ClientAccess(server.origin), tmp_path) as part:
        yield part
