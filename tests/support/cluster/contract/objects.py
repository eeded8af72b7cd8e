"""Create, read, write: versions, conflicts, patches, selectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.support.cluster.client import APPLY, JSON_PATCH, STRATEGIC, ApiClient, RequestRefusedError, path
from tests.support.cluster.contract.samples import ARENAJOBS, arena_job, config_map, pod


def refusal(call: Callable[[], Any]) -> tuple[int, str]:
    """Code and reason of a refused request."""
    with pytest.raises(RequestRefusedError) as caught:
        call()
    return caught.value.code, caught.value.reason


def test_a_new_object_has_an_identity_and_a_version(api: ApiClient, namespace: str) -> None:
    made = api.create("configmaps", config_map(), namespace)
    assert made["metadata"].keys() >= {"uid", "resourceVersion", "creationTimestamp"}
    assert made["metadata"]["namespace"] == namespace
    assert "generation" not in made["metadata"]
    assert api.get("configmaps", "a", namespace)["metadata"]["uid"] == made["metadata"]["uid"]


def test_a_name_is_taken_once(api: ApiClient, namespace: str) -> None:
    api.create("configmaps", config_map(), namespace)
    assert refusal(lambda: api.create("configmaps", config_map(), namespace)) == (409, "AlreadyExists")


def test_what_is_not_there_is_not_found(api: ApiClient, namespace: str) -> None:
    assert refusal(lambda: api.get("configmaps", "none", namespace)) == (404, "NotFound")
    assert refusal(lambda: api.delete("configmaps", "none", namespace)) == (404, "NotFound")
    assert refusal(lambda: api.patch("configmaps", "none", {}, namespace=namespace)) == (404, "NotFound")
    assert refusal(lambda: api.create("configmaps", config_map(), "no-such-namespace")) == (404, "NotFound")
    assert refusal(lambda: api.call("GET", "/apis/batch/v1/namespaces/default/nothings")) == (404, "NotFound")


def test_a_stale_write_is_a_conflict(api: ApiClient, namespace: str) -> None:
    old = api.create("configmaps", config_map(), namespace)
    api.patch("configmaps", "a", {"data": {"k": "new"}}, namespace=namespace)
    assert refusal(lambda: api.replace("configmaps", old, namespace=namespace)) == (409, "Conflict")
    version = {"metadata": {"resourceVersion": old["metadata"]["resourceVersion"]}, "data": {"k": "x"}}
    assert refusal(lambda: api.patch("configmaps", "a", version, namespace=namespace)) == (409, "Conflict")
    assert api.get("configmaps", "a", namespace)["data"] == {"k": "new"}


def test_a_write_without_a_version_depends_on_the_kind(api: ApiClient, namespace: str) -> None:
    api.create("configmaps", config_map(), namespace)
    assert api.replace("configmaps", config_map(data={"k": "2"}), namespace=namespace)["data"] == {"k": "2"}
    api.create(ARENAJOBS, arena_job(), namespace)
    assert refusal(lambda: api.replace(ARENAJOBS, arena_job(), namespace=namespace)) == (422, "Invalid")


def test_writing_the_same_again_is_no_write(api: ApiClient, namespace: str) -> None:
    made = api.create("configmaps", config_map(), namespace)
    again = api.patch("configmaps", "a", {"data": {"k": "v"}}, namespace=namespace)
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    assert (
        api.replace("configmaps", made, namespace=namespace)["metadata"]["resourceVersion"]
        == (made["metadata"]["resourceVersion"])
    )


def test_the_generation_counts_changes_of_the_spec(api: ApiClient, namespace: str) -> None:
    assert api.create(ARENAJOBS, arena_job(), namespace)["metadata"]["generation"] == 1
    labelled = api.patch(ARENAJOBS, "a", {"metadata": {"labels": {"x": "y"}}}, namespace=namespace)
    assert labelled["metadata"]["generation"] == 1
    told = api.patch(ARENAJOBS, "a", {"status": {"phase": "Running"}}, sub="status", namespace=namespace)
    assert told["metadata"]["generation"] == 1
    assert api.patch(ARENAJOBS, "a", {"spec": {"trials": 3}}, namespace=namespace)["metadata"]["generation"] == 2


def test_status_and_spec_are_written_apart(api: ApiClient, namespace: str) -> None:
    made = api.create(ARENAJOBS, arena_job() | {"status": {"phase": "Succeeded"}}, namespace)
    assert "status" not in made
    both = {"spec": {"trials": 5}, "status": {"phase": "Running"}}
    changed = api.patch(ARENAJOBS, "a", both, namespace=namespace)
    assert (changed["spec"]["trials"], changed.get("status")) == (5, None)
    other = {"spec": {"trials": 9}, "status": {"phase": "Running"}, "metadata": {"labels": {"x": "y"}}}
    told = api.patch(ARENAJOBS, "a", other, sub="status", namespace=namespace)
    assert (told["spec"]["trials"], told["status"]) == (5, {"phase": "Running"})
    assert "labels" not in told["metadata"]


def test_a_status_write_needs_the_current_version(api: ApiClient, namespace: str) -> None:
    old = api.create(ARENAJOBS, arena_job(), namespace)
    api.patch(ARENAJOBS, "a", {"spec": {"trials": 5}}, namespace=namespace)
    stale = old | {"status": {"phase": "Running"}}
    assert refusal(lambda: api.replace(ARENAJOBS, stale, "status", namespace)) == (409, "Conflict")


def test_merge_and_json_patches(api: ApiClient, namespace: str) -> None:
    api.create("configmaps", config_map(data={"a": "1", "b": "2"}), namespace)
    assert api.patch("configmaps", "a", {"data": {"a": None, "c": "3"}}, namespace=namespace)["data"] == {
        "b": "2",
        "c": "3",
    }
    steps = [{"op": "test", "path": "/data/b", "value": "2"}, {"op": "replace", "path": "/data/b", "value": "4"}]
    assert api.patch("configmaps", "a", steps, kind=JSON_PATCH, namespace=namespace)["data"]["b"] == "4"
    assert refusal(lambda: api.patch("configmaps", "a", steps, kind=JSON_PATCH, namespace=namespace))[0] == 422


def test_a_strategic_merge_is_for_built_in_kinds(api: ApiClient, namespace: str) -> None:
    api.create(ARENAJOBS, arena_job(), namespace)
    asked = {"spec": {"trials": 2}}
    assert refusal(lambda: api.patch(ARENAJOBS, "a", asked, kind=STRATEGIC, namespace=namespace))[0] == 415
    api.create("pods", pod("a"), namespace)
    image = {"spec": {"containers": [{"name": "main", "image": "other"}]}}
    (container,) = api.patch("pods", "a", image, kind=STRATEGIC, namespace=namespace)["spec"]["containers"]
    assert (container["image"], container["command"]) == ("other", ["/bin/sh", "-c", "exit 0"])


def test_server_side_apply_takes_back_what_it_no_longer_says(api: ApiClient, namespace: str) -> None:
    def apply(data: dict[str, str], manager: str) -> Any:
        body = config_map(data=data)
        return api.patch("configmaps", "a", body, kind=APPLY, namespace=namespace, fieldManager=manager)

    assert apply({"x": "1", "y": "1"}, "one")["data"] == {"x": "1", "y": "1"}
    assert apply({"z": "1"}, "two")["data"] == {"x": "1", "y": "1", "z": "1"}
    assert apply({"y": "1"}, "one")["data"] == {"y": "1", "z": "1"}
    body = config_map()
    assert refusal(lambda: api.patch("configmaps", "a", body, kind=APPLY, namespace=namespace))[0] in (400, 422)


def test_a_body_of_another_kind_name_or_place_is_refused(api: ApiClient, namespace: str) -> None:
    assert refusal(lambda: api.create("configmaps", pod("a"), namespace))[0] == 400
    elsewhere = config_map("a", namespace="default")
    assert refusal(lambda: api.create("configmaps", elsewhere, namespace)) == (400, "BadRequest")
    api.create("configmaps", config_map(), namespace)
    where = path("configmaps", namespace, "a")
    assert refusal(lambda: api.call("PUT", where, config_map("b")))[0] == 400


def test_the_uid_of_a_write_is_a_precondition(api: ApiClient, namespace: str) -> None:
    api.create("configmaps", config_map(), namespace)
    other = {"uid": "00000000-0000-0000-0000-000000000000"}
    whole = config_map("a", uid=other["uid"])
    assert refusal(lambda: api.replace("configmaps", whole, namespace=namespace)) == (409, "Conflict")
    part = {"metadata": other}
    assert refusal(lambda: api.patch("configmaps", "a", part, namespace=namespace)) == (422, "Invalid")


def test_labels_and_fields_select(api: ApiClient, namespace: str) -> None:
    for name, labels in (("a", {"app": "x", "tier": "1"}), ("b", {"app": "x"}), ("c", {"app": "y"})):
        api.create("configmaps", config_map(name, labels=labels), namespace)

    def found(**params: str) -> list[str]:
        return [one["metadata"]["name"] for one in api.items("configmaps", namespace, **params)]

    assert found(labelSelector="app=x") == ["a", "b"]
    assert found(labelSelector="app=x,!tier") == ["b"]
    assert found(labelSelector="app in (x, y),tier notin (1)", fieldSelector="metadata.name!=b") == ["c"]
    assert found(fieldSelector="metadata.name=c") == ["c"]
    assert refusal(lambda: found(fieldSelector="spec.nothing=c"))[0] == 400


def test_a_made_up_name_begins_as_asked(api: ApiClient, namespace: str) -> None:
    body = {"metadata": {"generateName": "run-"}, "data": {}}
    names = {api.create("configmaps", body, namespace)["metadata"]["name"] for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("run-") and len(name) == len("run-") + 5 for name in names)


def test_a_dry_run_changes_nothing(api: ApiClient, namespace: str) -> None:
    assert api.create("configmaps", config_map(), namespace, dryRun="All")["metadata"]["uid"]
    assert refusal(lambda: api.get("configmaps", "a", namespace))[0] == 404
    api.create("configmaps", config_map(), namespace)
    api.patch("configmaps", "a", {"data": {"k": "2"}}, namespace=namespace, dryRun="All")
    api.delete("configmaps", "a", namespace, {"dryRun": ["All"]})
    assert api.get("configmaps", "a", namespace)["data"] == {"k": "v"}


def test_bad_names_labels_and_keys_are_refused(api: ApiClient, namespace: str) -> None:
    assert refusal(lambda: api.create("configmaps", config_map("Upper"), namespace)) == (422, "Invalid")
    long_label = config_map("a", labels={"x": "y" * 64})
    assert refusal(lambda: api.create("configmaps", long_label, namespace)) == (422, "Invalid")
    assert refusal(lambda: api.create("configmaps", config_map(data={"a/b": "c"}), namespace)) == (422, "Invalid")
    number: Any = {"k": 1}
    assert refusal(lambda: api.create("configmaps", config_map(data=number), namespace)) == (400, "BadRequest")


def test_an_immutable_config_map_stays(api: ApiClient, namespace: str) -> None:
    api.create("configmaps", config_map() | {"immutable": True}, namespace)
    change = {"data": {"k": "2"}}
    assert refusal(lambda: api.patch("configmaps", "a", change, namespace=namespace)) == (422, "Invalid")


def test_a_secret_is_kept_encoded(api: ApiClient, namespace: str) -> None:
    made = api.create("secrets", {"metadata": {"name": "s"}, "stringData": {"key": "value"}}, namespace)
    assert (made["data"], made["type"]) == ({"key": "dmFsdWU="}, "Opaque")
    assert "stringData" not in made
    plain = {"metadata": {"name": "t"}, "data": {"key": "not base64!"}}
    assert refusal(lambda: api.create("secrets", plain, namespace))[0] == 400


def test_unknown_fields_are_dropped_or_refused(api: ApiClient, namespace: str) -> None:
    odd = config_map() | {"dta": {"k": "v"}}
    assert refusal(lambda: api.create("configmaps", odd, namespace, fieldValidation="Strict")) == (400, "BadRequest")
    assert "dta" not in api.create("configmaps", odd, namespace)


def test_a_lease_changes_hands_by_its_version(api: ApiClient, namespace: str) -> None:
    body = {"metadata": {"name": "leader"}, "spec": {"holderIdentity": "a", "leaseDurationSeconds": 15}}
    held = api.create("leases", body, namespace)
    taken = api.replace("leases", held | {"spec": held["spec"] | {"holderIdentity": "b"}}, namespace=namespace)
    assert taken["spec"]["holderIdentity"] == "b"
    late = held | {"spec": held["spec"] | {"holderIdentity": "c"}}
    assert refusal(lambda: api.replace("leases", late, namespace=namespace)) == (409, "Conflict")


def test_a_table_has_the_columns_of_the_definition(api: ApiClient, namespace: str) -> None:
    api.create(ARENAJOBS, arena_job(type="loadtest"), namespace)
    status = {"phase": "Running", "progress": {"total": 4, "completed": 1, "failed": 0, "pending": 3}}
    api.patch(ARENAJOBS, "a", {"status": status}, sub="status", namespace=namespace)
    accept = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}
    table = httpx.Response.json(api.http.get(path(ARENAJOBS, namespace), headers=accept))
    names = [column["name"] for column in table["columnDefinitions"]]
    row = dict(zip(names, table["rows"][0]["cells"], strict=True))
    assert names[:6] == ["Name", "Type", "Phase", "Verdict", "Progress", "Total"]
    assert (row["Name"], row["Type"], row["Phase"], row["Progress"], row["Total"]) == ("a", "loadtest", "Running", 1, 4)
    assert row["Age"].endswith("s")
