"""What the operator may do: exactly what is listed here, and what it does is within it. Its workers may do nothing."""

from __future__ import annotations

from typing import Any

import kubernetes_validate  # type: ignore[import-untyped] # has no types
import pytest
import yaml

from testbench.arena.operator import jobs
from testbench.arena.operator.settings import OperatorSettings
from tests.arena.operator.test_pods import RUNS
from tests.deploy.test_manifests import KUBERNETES, rendered
from tests.support.cluster.api_server import ApiServer
from tests.support.manifest_files import DEPLOY, assert_restricted
from tests.support.operator_actions import ManualActions, OperatorThread, run_through
from tests.support.operator_fixture import NAMESPACE, S3, arena_job, references

ALLOWED = {
    "arenajobs": {"get", "list", "watch", "create", "patch", "delete"},
    "arenajobs/status": {"patch"},
    "arenasources": {"get"},
    "providers": {"get"},
    "agentruntimes": {"get"},
    "toolregistries": {"get"},
    "persistentvolumeclaims": {"get"},
    "configmaps": {"get", "create"},
    "jobs": {"get", "list", "watch", "create", "patch", "delete"},
    "pods": {"list"},
    "events": {"list", "create"},
}


def documents(path: str) -> dict[str, Any]:
    found = yaml.safe_load_all((DEPLOY / "base" / path).read_text())
    return {document["kind"]: document for document in found}


def rights(role: dict[str, Any]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for rule in role["rules"]:
        assert set(rule) == {"apiGroups", "resources", "verbs"}
        for resource in rule["resources"]:
            found.setdefault(resource, set()).update(rule["verbs"])
    return found


def test_the_operator_may_do_this_in_one_namespace_and_nothing_else() -> None:
    role = documents("arena/rbac.yaml")["Role"]
    assert rights(role) == ALLOWED
    assert "ClusterRole" not in documents("arena/rbac.yaml")


def test_for_all_namespaces_it_may_do_the_same_and_copy_secrets() -> None:
    role = documents("arena-cluster-wide/rbac.yaml")["ClusterRole"]
    assert rights(role) == ALLOWED | {"secrets": {"get", "create"}}


def test_nothing_is_allowed_of_everything() -> None:
    for path in ("arena/rbac.yaml", "arena-cluster-wide/rbac.yaml"):
        for kind, document in documents(path).items():
            if kind in ("Role", "ClusterRole"):
                assert "*" not in yaml.safe_dump(document)


def test_what_the_operator_does_is_what_it_may_do(server: ApiServer, actions: ManualActions) -> None:
    """A run with growing workers, its removal, a schedule that replaces its run, and a cancelled job."""
    server.calls.clear()
    with OperatorThread(server.origin):
        growing: dict[str, Any] = {
            "workers": {"minReplicas": 1, "maxReplicas": 4},
            "output": S3,
            "ttlSecondsAfterFinished": 0,
        }
        actions.apply(*references(), arena_job(**growing), arena_job("other"))
        actions.until(lambda: actions.get("jobs", "other-all"))
        actions.client.patch(actions.resource("arenajobs"), "other", {"spec": {"cancelled": True}}, namespace=NAMESPACE)
        actions.until(lambda: actions.phase("other") == "Cancelled")
        run_through(actions, ended=lambda: actions.get("arenajobs", "evals") is None, grow=True)
    done = {
        (call.resource + (f"/{call.subresource}" if call.subresource else ""), call.verb)
        for call in server.calls
        if call.agent.startswith("testbench-arena-operator")
    }
    assert done
    assert {(resource, verb) for resource, verb in done if verb not in ALLOWED.get(resource, set())} == set()
    unused = {(resource, verb) for resource, verbs in ALLOWED.items() for verb in verbs} - done
    assert unused <= {
        ("arenajobs", "create"), ("arenajobs", "patch"),  # runs of schedules
        ("agentruntimes", "get"), ("toolregistries", "get"), ("persistentvolumeclaims", "get"),  # other references
        ("jobs", "get"),  # of a name that is taken
    }  # fmt: skip


def test_the_operators_pod_is_restricted_and_alone() -> None:
    deployment = documents("arena/operator.yaml")["Deployment"]
    assert (deployment["spec"]["replicas"], deployment["spec"]["strategy"]["type"]) == (1, "Recreate")
    pod = deployment["spec"]["template"]["spec"]
    assert_restricted(pod["securityContext"], pod["containers"])


def test_every_namespace_enforces_the_restricted_standard() -> None:
    for document in yaml.safe_load_all((DEPLOY / "base/arena/namespaces.yaml").read_text()):
        assert document["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_workers_are_reached_by_nobody_and_do_not_reach_the_clouds_credentials() -> None:
    policies = {
        document["metadata"]["name"]: document["spec"]
        for document in yaml.safe_load_all((DEPLOY / "base/arena/network-policy.yaml").read_text())
    }
    workers = policies["arena-workers"]
    assert (workers["ingress"], workers["policyTypes"]) == ([], ["Ingress", "Egress"])
    blocks = [to["ipBlock"] for rule in workers["egress"] for to in rule.get("to", ())]
    assert [block["except"] for block in blocks] == [["169.254.0.0/16"]]
    wanted = workers["podSelector"]["matchLabels"].items()
    for job in (
        jobs.build_plan_job(RUNS["s3"], OperatorSettings()),
        jobs.build_work_job(RUNS["s3"], jobs.Size(10, 2), 1, OperatorSettings()),
    ):
        assert wanted <= job["spec"]["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize("folder", ["base/arena", "base/arena-cluster-wide"])
def test_what_is_deployed_renders_and_fits_kubernetes_own_schema(folder: str) -> None:
    found = rendered(folder)
    kinds = [document["kind"] for document in found]
    roles = ("Role", "RoleBinding") if folder == "base/arena" else ("ClusterRole", "ClusterRoleBinding")
    assert {kind for kind in kinds if kind.startswith(("Role", "ClusterRole"))} == set(roles)
    own = [each for each in found if each["apiVersion"] != "apiextensions.k8s.io/v1"]
    for document in own:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    (operator,) = (document for document in found if document["kind"] == "Deployment")
    command = [*operator["spec"]["template"]["spec"]["containers"][0]["command"]]
    assert command == ["python3", "-m", "testbench", "operator"]
