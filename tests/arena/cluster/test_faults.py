"""What a test can make the in-memory API server do wrong, and the log of what was asked of it."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.support.cluster.api_server import ApiServer
from tests.support.cluster.client import ApiClient, RequestRefusedError
from tests.support.cluster.contract.samples import config_map
from tests.support.cluster.faults import Break
from tests.support.cluster.fixtures import api, namespace, server  # noqa: F401
from tests.support.cluster.kubelet import AGENT


def test_chosen_requests_fail_and_change_nothing(server: ApiServer, api: ApiClient) -> None:  # noqa: F811
    server.faults.fail(503, times=2, verb="create", resource="configmaps")
    for _ in range(2):
        with pytest.raises(RequestRefusedError) as caught:
            api.create("configmaps", config_map())
        assert (caught.value.code, caught.value.reason) == (503, "ServiceUnavailable")
    assert not api.items("configmaps")
    assert api.create("configmaps", config_map())
    assert server.faults.left == 0


def test_a_lost_answer_is_a_write_that_happened(server: ApiServer, api: ApiClient) -> None:  # noqa: F811
    server.faults.lose_answers(verb="create")
    with pytest.raises(httpx.RemoteProtocolError):
        api.create("configmaps", config_map())
    assert [one["metadata"]["name"] for one in api.items("configmaps")] == ["a"]


@pytest.mark.parametrize(
    ("how", "seen"),
    [("error", "ERROR"), ("truncated", json.JSONDecodeError), ("dropped", httpx.RemoteProtocolError), ("ended", None)],
)
def test_an_open_watch_breaks(
    server: ApiServer,  # noqa: F811
    api: ApiClient,  # noqa: F811
    how: Break,
    seen: str | type[Exception] | None,
) -> None:
    with api.watch("configmaps", resourceVersion="1") as events:
        api.create("configmaps", config_map())
        assert next(events)["type"] == "ADDED"
        server.faults.break_watch(how, "configmaps", status=500)
        if isinstance(seen, type):
            with pytest.raises(seen):
                next(events)
        else:
            event = next(events, None)
            assert (event and event["type"]) == seen


def test_a_watch_from_before_the_history_is_told_so(server: ApiServer, api: ApiClient) -> None:  # noqa: F811
    since = api.list("configmaps")["metadata"]["resourceVersion"]
    api.create("configmaps", config_map())
    server.store.history.forget()
    with api.watch("configmaps", resourceVersion=since) as events:
        (event,) = events
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")


@pytest.mark.parametrize("status", [401, 403, 404, 410, 429, 500])
def test_a_watch_can_be_refused(server: ApiServer, api: ApiClient, status: int) -> None:  # noqa: F811
    server.faults.fail(status, verb="watch", resource="configmaps")
    with pytest.raises(RequestRefusedError) as caught, api.watch("configmaps"):
        pass
    assert caught.value.code == status


def test_bookmarks_come_while_nothing_happens() -> None:
    from tests.support.cluster.client import ClientAccess

    with ApiServer(bookmark_seconds=0.01) as quick, ApiClient(ClientAccess(quick.origin)) as client:
        since = client.list("configmaps")["metadata"]["resourceVersion"]
        with client.watch("configmaps", resourceVersion=since, allowWatchBookmarks="true") as events:
            mark = next(events)
    assert mark["type"] == "BOOKMARK"
    assert mark["object"]["metadata"]["resourceVersion"] == since


def test_a_kind_that_is_no_longer_served_ends_its_watches(server: ApiServer, api: ApiClient) -> None:  # noqa: F811
    from tests.support.cluster.contract.samples import ARENAJOBS

    with api.watch(ARENAJOBS) as events:
        api.delete("customresourcedefinitions", "arenajobs.omnia.altairalabs.ai")
        assert list(events) == []
    with pytest.raises(RequestRefusedError) as caught:
        api.list(ARENAJOBS)
    assert caught.value.code == 404


def test_the_log_tells_who_asked_for_what(server: ApiServer, api: ApiClient) -> None:  # noqa: F811
    api.create("configmaps", config_map())
    with pytest.raises(RequestRefusedError):
        api.get("secrets", "none")
    assert [(call.verb, call.resource, call.name) for call in server.calls] == [
        ("create", "configmaps", ""),
        ("get", "secrets", "none"),
    ]
    server.faults.fail(500, verb="get")
    with ApiClient(api.access, AGENT) as own:
        own.get("configmaps", "a")
    assert len(server.calls_of("get", "configmaps")) == 0
    assert server.faults.left == 1
