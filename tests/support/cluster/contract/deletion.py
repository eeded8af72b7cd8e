"""Deletion: finalizers, preconditions, owners, propagation, namespaces."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from tests.support.cluster.client import ApiClient, RequestRefusedError, path
from tests.support.cluster.contract.objects import refusal
from tests.support.cluster.contract.samples import ARENAJOBS, arena_job, config_map, indexed_job, owned
from tests.support.cluster.objects import Json, Resource
from tests.support.cluster.waiting import until

MARK = "example.com/wait"


def gone(api: ApiClient, resource: str | Resource, name: str, namespace: str) -> bool:
    try:
        api.get(resource, name, namespace)
    except RequestRefusedError as refused:
        return refused.code == 404
    return False


def test_a_finalizer_holds_an_object_back(api: ApiClient, namespace: str) -> None:
    made = api.create(ARENAJOBS, arena_job() | {"metadata": {"name": "a", "finalizers": [MARK]}}, namespace)
    left = api.delete(ARENAJOBS, "a", namespace)
    assert left["metadata"]["deletionTimestamp"]
    assert left["metadata"]["generation"] == made["metadata"]["generation"] + 1
    again = {"metadata": {"finalizers": [MARK, "example.com/another"]}}
    assert refusal(lambda: api.patch(ARENAJOBS, "a", again, namespace=namespace)) == (422, "Invalid")
    api.patch(ARENAJOBS, "a", {"metadata": {"finalizers": None}}, namespace=namespace)
    assert gone(api, ARENAJOBS, "a", namespace)


def test_deletion_has_preconditions(api: ApiClient, namespace: str) -> None:
    made = api.create("configmaps", config_map(), namespace)
    other = {"preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}}
    assert refusal(lambda: api.delete("configmaps", "a", namespace, other)) == (409, "Conflict")
    api.patch("configmaps", "a", {"data": {"k": "2"}}, namespace=namespace)
    old = {"preconditions": {"resourceVersion": made["metadata"]["resourceVersion"]}}
    assert refusal(lambda: api.delete("configmaps", "a", namespace, old)) == (409, "Conflict")
    answer = api.delete("configmaps", "a", namespace, {"preconditions": {"uid": made["metadata"]["uid"]}})
    assert (answer["kind"], answer["status"]) == ("Status", "Success")


def test_what_an_object_owns_goes_with_it(api: ApiClient, namespace: str) -> None:
    owner = api.create(ARENAJOBS, arena_job(), namespace)
    api.create("configmaps", owned(config_map("child"), owner), namespace)
    api.create("configmaps", config_map("other"), namespace)
    api.delete(ARENAJOBS, "a", namespace)
    until(lambda: gone(api, "configmaps", "child", namespace), "the end of what was owned")
    assert not gone(api, "configmaps", "other", namespace)


def test_an_owner_that_is_not_there_ends_an_object(api: ApiClient, namespace: str) -> None:
    owner = api.create("configmaps", config_map("owner"), namespace)
    api.delete("configmaps", "owner", namespace)
    api.create("configmaps", owned(config_map("child"), owner), namespace)
    until(lambda: gone(api, "configmaps", "child", namespace), "the end of the orphan")


def test_one_of_two_owners_is_enough(api: ApiClient, namespace: str) -> None:
    first = api.create("configmaps", config_map("first"), namespace)
    second = api.create("configmaps", config_map("second"), namespace)
    child = owned(config_map("child"), first)
    child["metadata"]["ownerReferences"] += owned(config_map("x"), second)["metadata"]["ownerReferences"]
    api.create("configmaps", child, namespace)
    api.create("configmaps", owned(config_map("witness"), first), namespace)
    api.delete("configmaps", "first", namespace)
    until(lambda: gone(api, "configmaps", "witness", namespace), "the end of the first owner's other child")
    assert not gone(api, "configmaps", "child", namespace)
    api.delete("configmaps", "second", namespace)
    until(lambda: gone(api, "configmaps", "child", namespace), "the end of what nobody owns")


def test_orphans_stay(api: ApiClient, namespace: str) -> None:
    owner = api.create("configmaps", config_map("owner"), namespace)
    api.create("configmaps", owned(config_map("child"), owner), namespace)
    until(lambda: _knows_owner(api, owner, namespace), "a garbage collector that has seen the owner")
    api.delete("configmaps", "owner", namespace, {"propagationPolicy": "Orphan"})
    until(lambda: gone(api, "configmaps", "owner", namespace), "the end of the owner")
    child = api.get("configmaps", "child", namespace)
    assert "ownerReferences" not in child["metadata"]


def test_foreground_deletion_ends_what_blocks_first(api: ApiClient, namespace: str) -> None:
    owner = api.create("configmaps", config_map("owner"), namespace)
    child = owned(config_map("child", finalizers=[MARK]), owner, blockOwnerDeletion=True)
    api.create("configmaps", child, namespace)
    until(lambda: _knows_owner(api, owner, namespace), "a garbage collector that has seen the owner")
    api.delete("configmaps", "owner", namespace, {"propagationPolicy": "Foreground"})
    until(lambda: "deletionTimestamp" in api.get("configmaps", "child", namespace)["metadata"], "the child's deletion")
    assert "foregroundDeletion" in api.get("configmaps", "owner", namespace)["metadata"]["finalizers"]
    api.patch("configmaps", "child", {"metadata": {"finalizers": None}}, namespace=namespace)
    until(lambda: gone(api, "configmaps", "owner", namespace), "the end of the owner")


def test_pods_survive_their_job_unless_a_policy_is_named(api: ApiClient, namespace: str) -> None:
    for name in ("kept", "swept"):
        api.create("jobs", indexed_job(name, "exit 0", completions=1), namespace)
        until(partial(_pods_of, api, name, namespace), "a pod")
    api.delete("jobs", "kept", namespace)
    api.delete("jobs", "swept", namespace, {"propagationPolicy": "Background"})
    until(lambda: gone(api, "jobs", "kept", namespace), "the end of the Job")
    until(lambda: not _pods_of(api, "swept", namespace), "the end of the pods")
    (pod,) = _pods_of(api, "kept", namespace)
    assert "ownerReferences" not in pod["metadata"]


def test_a_collection_is_deleted_by_its_labels(api: ApiClient, namespace: str) -> None:
    api.create("configmaps", config_map("a", labels={"x": "1"}), namespace)
    api.create("configmaps", config_map("b"), namespace)
    api.call("DELETE", path("configmaps", namespace), params={"labelSelector": "x=1"})
    names = [one["metadata"]["name"] for one in api.items("configmaps", namespace)]
    assert (names.count("a"), names.count("b")) == (0, 1)


def test_a_namespace_goes_with_all_that_is_in_it(api: ApiClient, namespace: str) -> None:
    api.create("configmaps", config_map("a", finalizers=[MARK]), namespace)
    api.create("configmaps", config_map("b"), namespace)
    assert api.delete("namespaces", namespace)["status"]["phase"] == "Terminating"
    until(lambda: gone(api, "configmaps", "b", namespace), "the end of its objects")
    assert refusal(lambda: api.create("configmaps", config_map("c"), namespace)) == (403, "Forbidden")
    api.patch("configmaps", "a", {"metadata": {"finalizers": None}}, namespace=namespace)
    until(lambda: gone(api, "namespaces", namespace, namespace), "the end of the namespace")


def _pods_of(api: ApiClient, job: str, namespace: str) -> Sequence[Json]:
    return api.items("pods", namespace, labelSelector=f"batch.kubernetes.io/job-name={job}")


def _knows_owner(api: ApiClient, owner: Json, namespace: str) -> bool:
    """Whether the collector has built its graph: it has when it ends a child of nobody that came after the owner's."""
    ghost = owned(config_map("ghost"), {**owner, "metadata": {"name": "nobody", "uid": "no-such-uid"}})
    try:
        api.create("configmaps", ghost, namespace)
    except RequestRefusedError as refused:
        if refused.code != 409:
            raise
    return gone(api, "configmaps", "ghost", namespace)
