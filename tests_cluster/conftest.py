"""Fixtures over a real control plane; everything is skipped where its programs are not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest

from tests.conftest import attempts_to_leave, clean_environment, loopback_guard  # noqa: F401 found by their names
from tests.support.cluster.client import ApiClient, ClientAccess, RequestRefusedError
from tests.support.cluster.contract.samples import DEFINITIONS
from tests.support.cluster.kubelet import Kubelet
from tests.support.cluster.waiting import until
from tests_cluster.control_plane import PROGRAMS, control_plane

VARIABLE: Final = "CLUSTER_BINARIES"
"""The folder of the programs; `make cluster-test` sets it."""


@pytest.fixture(scope="session")
def programs() -> Path:
    folder = Path(os.environ.get(VARIABLE, ""))
    missing = [name for name in PROGRAMS if not (folder / name).is_file()]
    if VARIABLE not in os.environ or missing:
        pytest.skip(f"no control plane: {VARIABLE} must name a folder with {', '.join(PROGRAMS)}")
    return folder


@pytest.fixture(scope="session")
def access(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClientAccess]:
    with control_plane(programs, tmp_path_factory.mktemp("control-plane")) as found:
        with ApiClient(found) as client:
            for definition in DEFINITIONS:
                client.create("customresourcedefinitions", definition)
                until(partial(_established, client, definition["metadata"]["name"]), "an established kind")
        yield found


@pytest.fixture(scope="session")
def _kubelet(access: ClientAccess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubelet]:
    with Kubelet(access, tmp_path_factory.mktemp("kubelet")) as part:
        yield part


@pytest.fixture
def kubelet(_kubelet: Kubelet) -> Iterator[Kubelet]:
    yield _kubelet
    _kubelet.check()


@pytest.fixture
def api(access: ClientAccess) -> Iterator[ApiClient]:
    with ApiClient(access) as client:
        yield client


@pytest.fixture
def namespace(api: ApiClient) -> Iterator[str]:
    name = f"contract-{uuid4().hex[:8]}"
    api.create("namespaces", {"metadata": {"name": name}})
    until(lambda: any(one["metadata"]["name"] == "default" for one in api.items("serviceaccounts", name)), "an account")
    yield name
    with suppress(RequestRefusedError):  # deleted by the test
        api.delete("namespaces", name)


def _established(client: ApiClient, name: str) -> bool:
    found = client.get("customresourcedefinitions", name)
    return any(
        one["type"] == "Established" and one["status"] == "True"
        for one in found.get("status", {}).get("conditions") or ()
    )
