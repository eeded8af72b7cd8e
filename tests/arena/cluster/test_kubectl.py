"""kubectl drives the in-memory API server: what a person types works there too."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.support.cluster.api_server import ApiServer
from tests.support.cluster.client import ApiClient
from tests.support.cluster.contract.samples import ARENAJOBS, CRDS, SAMPLES, arena_job
from tests.support.cluster.fixtures import api, server  # noqa: F401

pytestmark = pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")

Run = Callable[..., str]


@pytest.fixture
def kubectl(server: ApiServer, tmp_path: Path) -> Run:  # noqa: F811
    def run(*words: str, given: str | None = None, fails: bool = False) -> str:
        command = ["kubectl", f"--server={server.origin}", "--kubeconfig=/dev/null",
                   f"--cache-dir={tmp_path / 'cache'}", *words]  # fmt: skip
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode != 0) is fails, done.stderr
        return done.stderr if fails else done.stdout

    return run


def test_our_files_are_applied_and_listed(kubectl: Run, api: ApiClient) -> None:  # noqa: F811
    api.create("namespaces", {"metadata": {"name": "arena"}})
    assert "configured" in kubectl("apply", "--validate=false", "-f", str(CRDS))
    kubectl("apply", "--validate=false", "-f", str(SAMPLES))
    lines = kubectl("get", "arenajobs", "--namespace=arena").splitlines()
    assert lines[0].split() == ["NAME", "TYPE", "PHASE", "VERDICT", "PROGRESS", "TOTAL", "SCORE", "ERRORS", "AGE"]
    assert len(lines) == 1 + sum(
        document["kind"] == "ArenaJob"
        for path in SAMPLES.glob("*.yaml")
        for document in yaml.safe_load_all(path.read_text())
    )
    assert kubectl("get", "aj", "--namespace=arena", "--output=name").splitlines()[0].startswith("arenajob.omnia")


def test_an_object_is_applied_twice_patched_replaced_and_deleted(kubectl: Run) -> None:
    apply = ("apply", "--validate=false", "--filename=-")
    assert "created" in kubectl(*apply, given=json.dumps(arena_job(trials=2)))
    assert "unchanged" in kubectl(*apply, given=json.dumps(arena_job(trials=2)))
    assert "configured" in kubectl(*apply, given=json.dumps(arena_job()))
    assert kubectl("get", "arenajob", "a", "--output=jsonpath={.spec.trials}") == "1"
    kubectl("patch", "arenajob", "a", "--type=merge", '--patch={"spec":{"trials":4}}')
    whole = json.loads(kubectl("get", "arenajob", "a", "--output=json"))
    whole["spec"]["trials"] = 5
    kubectl("replace", "--validate=false", "--filename=-", given=json.dumps(whole))
    assert kubectl("get", "arenajob", "a", "--output=jsonpath={.spec.trials}") == "5"
    assert "deleted" in kubectl("delete", "arenajob", "a")
    assert "NotFound" in kubectl("get", "arenajob", "a", fails=True)


def test_a_person_waits_for_a_condition(kubectl: Run, api: ApiClient) -> None:  # noqa: F811
    kubectl("apply", "--validate=false", "--filename=-", given=json.dumps(arena_job()))
    condition = {"type": "Ready", "status": "True", "reason": "Done", "lastTransitionTime": "2026-01-02T03:04:05Z"}
    status = {"phase": "Succeeded", "conditions": [condition]}
    api.patch(ARENAJOBS, "a", {"status": status}, sub="status")
    assert "condition met" in kubectl("wait", "--for=condition=Ready", "arenajob/a", "--timeout=20s")


def test_a_script_waits_for_the_end_and_then_asks_how_it_was(kubectl: Run, api: ApiClient) -> None:  # noqa: F811
    kubectl("apply", "--validate=false", "--filename=-", given=json.dumps(arena_job()))
    at = "2026-01-02T03:04:05Z"
    condition = {"type": "Ready", "status": "False", "reason": "BelowThreshold", "lastTransitionTime": at}
    status = {"phase": "Failed", "conditions": [condition], "completionTime": at}
    api.patch(ARENAJOBS, "a", {"status": status}, sub="status")
    end = "--for=jsonpath={.status.completionTime}"
    assert "condition met" in kubectl("wait", "arenajob/a", end, "--timeout=20s")
    assert "condition not met" in kubectl("wait", "arenajob/a", "--for=condition=Ready", "--timeout=0", fails=True)


def test_a_refusal_reads_like_the_real_one(kubectl: Run) -> None:
    wrong = arena_job(workers={"minReplicas": 3, "maxReplicas": 2})
    said = kubectl("apply", "--validate=false", "--filename=-", given=json.dumps(wrong), fails=True)
    assert 'The ArenaJob "a" is invalid' in said
    assert "minReplicas is greater than maxReplicas" in said


def test_server_side_apply_works(kubectl: Run) -> None:
    options = ("apply", "--server-side", "--validate=false", "--filename=-")
    assert "serverside-applied" in kubectl(*options, given=json.dumps(arena_job(trials=3)))
    kubectl(*options, given=json.dumps(arena_job()))
    assert kubectl("get", "arenajob", "a", "--output=jsonpath={.spec.trials}") == "1"
