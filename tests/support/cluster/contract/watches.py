"""LIST and WATCH: events from a version on, selections, bookmarks, ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cluster.client import ApiClient, RequestRefusedError
from tests.support.cluster.contract.samples import ARENAJOBS, arena_job, config_map
from tests.support.cluster.objects import Json


def told(events: Iterator[Json], count: int) -> list[tuple[str, str]]:
    """Type and name of the next events; bookmarks are left out."""
    out: list[tuple[str, str]] = []
    while len(out) < count:
        event = next(events)
        if event["type"] != "BOOKMARK":
            out.append((event["type"], event["object"]["metadata"]["name"]))
    return out


def version(api: ApiClient, namespace: str) -> str:
    return str(
        api.list("configmaps", namespace, fieldSelector="metadata.name!=kube-root-ca.crt")["metadata"][
            "resourceVersion"
        ]
    )


OURS = {"labelSelector": "ours=yes"}


def ours(name: str, data: dict[str, str] | None = None) -> Json:
    return config_map(name, data, labels={"ours": "yes"})


def test_a_list_carries_kind_and_version(api: ApiClient, namespace: str) -> None:
    api.create(ARENAJOBS, arena_job(), namespace)
    listed = api.list(ARENAJOBS, namespace)
    assert (listed["kind"], listed["apiVersion"]) == ("ArenaJobList", ARENAJOBS.api_version)
    assert int(listed["metadata"]["resourceVersion"]) >= int(listed["items"][0]["metadata"]["resourceVersion"])
    assert [one["metadata"]["name"] for one in api.items(ARENAJOBS, None) if one["metadata"]["namespace"] == namespace]


def test_a_long_list_comes_in_pages(api: ApiClient, namespace: str) -> None:
    for number in range(5):
        api.create(ARENAJOBS, arena_job(f"a{number}"), namespace)
    first = api.list(ARENAJOBS, namespace, limit=2)
    assert (len(first["items"]), first["metadata"]["remainingItemCount"]) == (2, 3)
    second = api.list(ARENAJOBS, namespace, limit=2, **{"continue": first["metadata"]["continue"]})
    last = api.list(ARENAJOBS, namespace, limit=2, **{"continue": second["metadata"]["continue"]})
    names = [one["metadata"]["name"] for page in (first, second, last) for one in page["items"]]
    assert names == ["a0", "a1", "a2", "a3", "a4"]
    assert not last["metadata"].get("continue")


def test_a_watch_goes_on_from_a_version(api: ApiClient, namespace: str) -> None:
    api.create("configmaps", ours("before"), namespace)
    since = version(api, namespace)
    api.create("configmaps", ours("a"), namespace)
    api.patch("configmaps", "a", {"data": {"k": "2"}}, namespace=namespace)
    with api.watch("configmaps", namespace, resourceVersion=since, **OURS) as events:
        assert told(events, 2) == [("ADDED", "a"), ("MODIFIED", "a")]
        api.delete("configmaps", "a", namespace)
        assert told(events, 1) == [("DELETED", "a")]


def test_a_watch_without_a_version_begins_with_what_is_there(api: ApiClient, namespace: str) -> None:
    api.create("configmaps", ours("a"), namespace)
    with api.watch("configmaps", namespace, **OURS) as events:
        assert told(events, 1) == [("ADDED", "a")]
        api.create("configmaps", ours("b"), namespace)
        assert told(events, 1) == [("ADDED", "b")]


def test_a_deleted_object_has_the_version_of_its_deletion(api: ApiClient, namespace: str) -> None:
    made = api.create("configmaps", ours("a"), namespace)
    with api.watch("configmaps", namespace, resourceVersion=made["metadata"]["resourceVersion"], **OURS) as events:
        api.delete("configmaps", "a", namespace)
        event = next(events)
    assert int(event["object"]["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])


def test_an_object_enters_and_leaves_a_selection(api: ApiClient, namespace: str) -> None:
    since = version(api, namespace)
    with api.watch("configmaps", namespace, resourceVersion=since, **OURS) as events:
        api.create("configmaps", config_map("a"), namespace)
        api.patch("configmaps", "a", {"metadata": {"labels": {"ours": "yes"}}}, namespace=namespace)
        api.patch("configmaps", "a", {"metadata": {"labels": {"ours": "no"}}}, namespace=namespace)
        assert told(events, 2) == [("ADDED", "a"), ("DELETED", "a")]


def test_a_status_write_is_an_event(api: ApiClient, namespace: str) -> None:
    made = api.create(ARENAJOBS, arena_job(), namespace)
    with api.watch(ARENAJOBS, namespace, resourceVersion=made["metadata"]["resourceVersion"]) as events:
        api.patch(ARENAJOBS, "a", {"status": {"phase": "Running"}}, sub="status", namespace=namespace)
        event = next(events)
    assert (event["type"], event["object"]["status"]) == ("MODIFIED", {"phase": "Running"})


def test_a_watch_ends_after_its_time_with_a_bookmark(api: ApiClient, namespace: str) -> None:
    since = version(api, namespace)
    options = {"resourceVersion": since, "timeoutSeconds": 1, "allowWatchBookmarks": "true"}
    with api.watch("configmaps", namespace, **options, **OURS) as events:
        kinds = {event["type"] for event in events}
    assert kinds <= {"BOOKMARK"}


def test_initial_events_end_with_a_marked_bookmark(api: ApiClient, namespace: str) -> None:
    api.create("configmaps", ours("a"), namespace)
    options = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    with api.watch("configmaps", namespace, **options, **OURS) as events:
        first, mark = next(events), next(events)
    assert (first["type"], mark["type"]) == ("ADDED", "BOOKMARK")
    assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_a_version_from_the_future_is_no_list(api: ApiClient, namespace: str) -> None:
    with pytest.raises(RequestRefusedError) as caught:
        api.list("configmaps", namespace, resourceVersion=str(10**9))
    assert caught.value.code == 504


def test_a_version_that_is_no_number_is_refused(api: ApiClient, namespace: str) -> None:
    with pytest.raises(RequestRefusedError) as caught:
        api.list("configmaps", namespace, resourceVersion="new", resourceVersionMatch="NotOlderThan")
    assert caught.value.code in (400, 422)
