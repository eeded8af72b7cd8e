"""What an ArenaJob refers to: found, waited for, or refused, each with its reason."""

from __future__ import annotations

from typing import Any

import pytest

from testbench.arena.cluster import api
from testbench.arena.cluster.api import Json
from testbench.arena.operator.references import NeedsObjects, ObjectReference, Refused, Resolved, Waiting, resolve
from tests.support.operator_fixture import NAMESPACE, S3, OperatorFixture, arena_job, manifest, objects, references

SHARED = {
    "apiVersion": "omnia.altairalabs.ai/v1alpha1", "kind": "Provider",
    "metadata": {"name": "gpt", "namespace": "shared", "annotations": {"note": "not for workers"}},
    "spec": {"type": "openai", "model": "m", "secretRef": {"name": "keys", "key": "k"}},
}  # fmt: skip


def agent(status: Json) -> Json:
    return {
        "apiVersion": "omnia.altairalabs.ai/v1alpha1", "kind": "AgentRuntime",
        "metadata": {"name": "support", "namespace": NAMESPACE}, "spec": {}, "status": status,
    }  # fmt: skip


def source(**content: Any) -> Json:
    return {**references()[0], "spec": {"type": "git"}, **content}


def test_what_is_asked_for_is_read_step_by_step() -> None:
    first = resolve(manifest(arena_job()), {})
    assert isinstance(first, NeedsObjects)
    assert {reference.kind.name for reference in first.references} == {"ArenaSource", "Provider"}
    known = {one: objects(*references())[one] for one in first.references}
    assert resolve(manifest(arena_job()), known) == NeedsObjects(
        (ObjectReference(api.CONFIG_MAP, NAMESPACE, "bundle"),)
    )


@pytest.mark.parametrize(
    ("missing", "reason"),
    [("ArenaSource", "ArenaSourceMissing"), ("Provider", "ProviderMissing"), ("ConfigMap", "ConfigMapMissing")],
)
def test_what_does_not_exist_is_waited_for_by_name(missing: str, reason: str) -> None:
    there = [content for content in references() if content["kind"] != missing]
    found = resolve(manifest(arena_job()), objects(*there))
    assert isinstance(found, Waiting)
    assert found.reason == reason
    assert f"{missing} arena/" in found.message


@pytest.mark.parametrize(
    ("content", "answer", "reason"),
    [
        ({}, Waiting, "SourceNotReady"),
        ({"status": {"artifact": {"url": "http://x/b.tgz"}}}, Refused, "SourceNotSupported"),
        ({"status": {"artifact": {"url": "file:///etc/passwd", "checksum": "x"}}}, Refused, "SourceNotSupported"),
        ({"status": {"artifact": {"url": "s3://b/c", "checksum": "x"}}}, Refused, "SourceNotSupported"),
    ],
)
def test_a_source_that_nobody_delivered_or_checked_is_no_source(content: Json, answer: type, reason: str) -> None:
    found = resolve(manifest(arena_job()), objects(source(**content), *references()[1:]))
    assert isinstance(found, answer)
    assert isinstance(found, Waiting | Refused)
    assert found.reason == reason


def test_no_address_is_told_with_its_secrets() -> None:
    artifact = {"status": {"artifact": {"url": "ftp://user:hunter2@x/b?sig=hunter2", "checksum": "x"}}}
    found = resolve(manifest(arena_job()), objects(source(**artifact), *references()[1:]))
    assert "hunter2" not in repr(found)


@pytest.mark.parametrize("key", ["..__passwd", "a____b", "__etc__passwd"])
def test_a_key_that_leads_out_of_the_bundle_is_refused(key: str) -> None:
    bundle = {**references()[1], "data": {key: "x"}}
    found = resolve(manifest(arena_job()), objects(references()[0], bundle, references()[2]))
    assert isinstance(found, Refused)
    assert found.reason == "SourceInvalid"


def test_an_agent_is_waited_for_until_it_has_an_address() -> None:
    content = manifest(arena_job(providers={"default": [{"agentRef": {"name": "support"}}]}))
    waiting = resolve(content, objects(*references(), agent({})))
    assert isinstance(waiting, Waiting)
    assert waiting.reason == "AgentNotReady"
    found = resolve(content, objects(*references(), agent({"a2a": {"endpoint": "http://support:8080"}})))
    assert isinstance(found, Resolved)
    assert found.documents[-1]["status"]["a2a"]["endpoint"] == "http://support:8080"


def across(allowed: bool) -> object:
    entry = {"providerRef": {"name": "gpt", "namespace": "shared"}}
    content = manifest(arena_job(providers={"default": [entry]}))
    return resolve(content, objects(*references(), SHARED), cross_namespace=allowed)


def test_another_namespaces_provider_is_for_operators_that_allow_it() -> None:
    refused = across(allowed=False)
    assert isinstance(refused, Refused)
    assert refused.reason == "CrossNamespace"
    found = across(allowed=True)
    assert isinstance(found, Resolved)
    assert found.copies == (("shared_gpt", "shared", "keys"),)
    assert found.setup.credentials[0].secret == ""
    assert found.documents[-1]["metadata"] == {"name": "gpt", "namespace": "shared"}


@pytest.mark.parametrize(
    ("modes", "replicas", "one_pod", "told"),
    [
        (["ReadWriteMany"], 4, False, False),
        (["ReadWriteOnce"], 4, True, True),
        (["ReadWriteOnce", "ReadWriteMany"], 4, False, False),
        (["ReadWriteOnce"], 1, True, False),
        ([], 4, True, True),
    ],
)
def test_only_a_claim_of_many_writers_has_many_workers(
    modes: list[str], replicas: int, one_pod: bool, told: bool
) -> None:
    claim = {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "kept", "namespace": NAMESPACE},
        "spec": {"accessModes": modes},
    }  # fmt: skip
    output = {"type": "pvc", "pvc": {"claimName": "kept"}}
    content = manifest(arena_job(workers={"replicas": replicas}, output=output))
    found = resolve(content, objects(*references(), claim))
    assert isinstance(found, Resolved)
    assert (found.setup.one_pod, bool(found.setup.why_one_pod)) == (one_pod, told)


def test_an_s3_output_of_one_worker_is_one_pod() -> None:
    found = resolve(manifest(arena_job(output=S3)), objects(*references()))
    assert isinstance(found, Resolved)
    assert found.setup.one_pod


def test_a_waiting_job_says_what_for_and_begins_when_it_comes() -> None:
    cluster = OperatorFixture()
    cluster.apply(*references()[:2], arena_job())
    cluster.settle()
    assert cluster.status().phase == "Pending"
    assert cluster.reason(kind="ConfigValid")[:2] == ("Unknown", "ProviderMissing")
    assert cluster.events().count("ProviderMissing") == 1
    cluster.apply(references()[2])
    cluster.settle()
    assert cluster.status().phase == "Running"


def test_a_secret_of_another_namespace_is_copied_for_the_job_and_nowhere_else() -> None:
    from testbench.arena.operator.settings import OperatorSettings

    cluster = OperatorFixture(settings=OperatorSettings(cross_namespace=True))
    entry = {"providerRef": {"name": "gpt", "namespace": "shared"}}
    secret = {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys", "namespace": "shared"},
        "data": {"k": "aHVudGVyMg=="},
    }  # fmt: skip
    cluster.apply(*references(), SHARED, secret, arena_job(providers={"default": [entry]}))
    cluster.settle()
    (copy,) = (
        body for (kind, where, _), body in cluster.cluster.objects.items() if (kind, where) == (api.SECRET, NAMESPACE)
    )
    assert copy["data"] == secret["data"]
    rest = [body for (kind, _, _), body in cluster.cluster.objects.items() if kind != api.SECRET]
    assert "aHVudGVyMg" not in repr(rest)
