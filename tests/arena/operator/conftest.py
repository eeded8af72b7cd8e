"""A strict API server for the operator, and a user and the Job controller played by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cluster.api_server import ApiServer
from tests.support.operator_actions import ManualActions, api_server, manual_actions


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with api_server() as part:
        yield part


@pytest.fixture
def actions(server: ApiServer) -> Iterator[ManualActions]:
    with manual_actions(server) as part:
        yield part
