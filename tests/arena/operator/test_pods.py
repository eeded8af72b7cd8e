"""The Jobs that the operator makes: valid for Kubernetes, without rights, and with the rules of failure."""

from __future__ import annotations

import json
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped] # has no types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbench.arena.cluster import api
from testbench.arena.cluster.api import Json
from testbench.arena.operator import jobs
from testbench.arena.operator.metadata import (
    name_copied_secret,
    name_plan_job,
    name_reduce_job,
    name_run_config,
    name_start_config,
    name_whole_job,
    name_work_job,
    shorten_name,
)
from testbench.arena.operator.observed import Run
from testbench.arena.operator.pods import build_result_url
from testbench.arena.operator.references import PROVIDER_KEYS, PodSetup, Resolved, SecretCopy, resolve
from testbench.arena.operator.settings import OperatorSettings
from testbench.arena.runs.target_clients import COMMON_KEYS
from tests.support.manifest_files import assert_restricted
from tests.support.operator_fixture import NAMESPACE, S3, START, arena_job, manifest, objects, references

KUBERNETES = "1.32"
PVC = {"type": "pvc", "pvc": {"claimName": "kept", "subPath": "batch-001/"}}
URL = {"status": {"artifact": {"url": "https://sources/x/bundle.zip?sig=1", "checksum": f"sha256:{'a' * 64}"}}}


def made(*extra: Json, **spec: Any) -> Run:
    """The run of a job whose references are all there."""
    content = manifest(arena_job(**spec))
    found = resolve(content, objects(*references(), *extra))
    assert isinstance(found, Resolved)
    return Run("20260301T120000Z-0123abcd", content, found.setup)


def all_jobs(run: Run) -> list[Json]:
    settings = OperatorSettings()
    return [
        jobs.build_plan_job(run, settings), jobs.build_work_job(run, jobs.Size(10, 4), 1, settings),
        jobs.build_reduce_job(run, jobs.Size(10, 4), 1, settings), jobs.build_whole_job(run, settings),
    ]  # fmt: skip


CLAIM = {
    "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "kept", "namespace": NAMESPACE},
    "spec": {"accessModes": ["ReadWriteMany"]},
}  # fmt: skip
OVERRIDES: Json = {
    "labels": {"team": "qa"}, "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"},
    "nodeSelector": {"pool": "load"}, "tolerations": [{"key": "load", "operator": "Exists", "tolerationSeconds": 30,
    "effect": "NoExecute"}], "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"team": "qa"}}}]}},
    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
    "priorityClassName": "low", "imagePullSecrets": [{"name": "registry"}],
    "resources": {"requests": {"cpu": 2, "memory": "4Gi"}, "limits": {"memory": "4Gi"}},
    "extraEnv": [{"name": "TESTBENCH_LOG_FORMAT", "value": "text"}, {"name": "TESTBENCH_TRACE_CONTENT", "value": "0"}],
}  # fmt: skip
RUNS = {
    "no output": made(),
    "overrides": made(output=S3, workers={"replicas": 4, "podOverrides": OVERRIDES}),
    "s3": made(output=S3, workers={"replicas": 4}),
    "pvc": made(CLAIM, output=PVC, workers={"replicas": 4}),
    "load test": made(output=S3, type="loadtest", workers={"replicas": 4}),
    "data generation": made(output=S3, type="datagen"),
    "an archive": made({**references()[0], "spec": {}, **URL}, output=S3),
}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_every_job_fits_kubernetes_own_schema_and_asks_for_no_rights(run: Run) -> None:
    for job in all_jobs(run):
        kubernetes_validate.validate(job, KUBERNETES, strict=True)
        pod = job["spec"]["template"]["spec"]
        assert_restricted(pod["securityContext"], pod["containers"] + pod.get("initContainers", []))
        assert pod["automountServiceAccountToken"] is False
        assert pod["restartPolicy"] == "Never"
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert all("hostPath" not in volume for volume in pod["volumes"])


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_every_mount_has_its_volume_and_every_path_of_the_command_its_mount(run: Run) -> None:
    for job in all_jobs(run):
        pod = job["spec"]["template"]["spec"]
        volumes = [volume["name"] for volume in pod["volumes"]]
        assert len(volumes) == len(set(volumes))
        for container in pod["containers"] + pod.get("initContainers", []):
            mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
            assert set(mounts.values()) <= set(volumes)
            paths = [word for word in container["command"] if word.startswith(("/etc/arena", "/var/arena"))]
            assert paths
            assert [path for path in paths if not any(path.startswith(mount) for mount in mounts)] == []


def test_an_indexed_job_has_the_measured_rules() -> None:
    spec = jobs.build_work_job(RUNS["s3"], jobs.Size(10, 4), 1, OperatorSettings())["spec"]
    assert (spec["completionMode"], spec["podReplacementPolicy"]) == ("Indexed", "Failed")
    assert (spec["completions"], spec["backoffLimitPerIndex"], spec["maxFailedIndexes"]) == (4, 3, 1)
    rules = [(rule["action"], rule.get("onExitCodes", {}).get("values")) for rule in spec["podFailurePolicy"]["rules"]]
    assert rules == [("FailIndex", [78]), ("Ignore", [75, 143]), ("Ignore", None)]
    command = spec["template"]["spec"]["containers"][0]["command"]
    assert command[:6] == ["python3", "-m", "testbench", "arena", "work", "/etc/arena/run/manifest.json"]
    assert command[command.index("--index") + 1] == "$(JOB_COMPLETION_INDEX)"


def test_a_job_of_one_pod_is_not_tried_again_once_it_has_said_its_word() -> None:
    spec = jobs.build_whole_job(RUNS["s3"], OperatorSettings())["spec"]
    assert spec["podReplacementPolicy"] == "Failed"
    rules = [(rule["action"], rule.get("onExitCodes", {}).get("values")) for rule in spec["podFailurePolicy"]["rules"]]
    assert rules == [("FailJob", [1, 2, 4, 78]), ("Ignore", [75, 143]), ("Ignore", None)]


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_everything_goes_with_its_job_and_never_keeps_it(run: Run) -> None:
    for job in all_jobs(run):
        (owner,) = job["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["controller"], owner["blockOwnerDeletion"]) == ("ArenaJob", True, False)
        assert "finalizers" not in job["metadata"]


def test_a_load_test_is_a_gang_that_is_not_tried_again() -> None:
    spec = jobs.build_work_job(RUNS["load test"], jobs.Size(10, 4), 1, OperatorSettings())["spec"]
    assert (spec["completions"], spec["parallelism"], spec["backoffLimitPerIndex"]) == (4, 4, 0)
    volumes = {volume["name"]: volume for volume in spec["template"]["spec"]["volumes"]}
    assert volumes["start"]["configMap"] == {"name": "evals-start", "optional": True}


def test_one_pod_without_a_store_is_not_tried_again_because_nothing_of_it_is_left() -> None:
    assert jobs.build_whole_job(RUNS["no output"], OperatorSettings())["spec"]["backoffLimit"] == 0
    assert jobs.build_whole_job(RUNS["s3"], OperatorSettings())["spec"]["backoffLimit"] == 3


def test_a_providers_key_is_a_file_of_its_own_folder() -> None:
    pod = jobs.build_plan_job(RUNS["s3"], OperatorSettings())["spec"]["template"]["spec"]
    (volume,) = (volume for volume in pod["volumes"] if volume["name"] == "credentials")
    found = {part["secret"]["name"]: part["secret"] for part in volume["projected"]["sources"]}
    assert {item["path"] for item in found["keys"]["items"]} == {f"arena_gpt/{key}" for key in PROVIDER_KEYS}
    assert {item["path"].partition("/")[0] for item in found["s3-keys"]["items"]} == {"output"}
    assert all(secret["optional"] for secret in found.values())


def test_pods_get_every_key_that_workers_look_for() -> None:
    assert set(PROVIDER_KEYS) == set(COMMON_KEYS)


def test_files_of_a_config_map_lie_in_folders() -> None:
    pod = jobs.build_plan_job(RUNS["s3"], OperatorSettings())["spec"]["template"]["spec"]
    (volume,) = (volume for volume in pod["volumes"] if volume["name"] == "source")
    assert {item["path"] for item in volume["configMap"]["items"]} == {"config.arena.yaml", "scenarios/a.yaml"}


def test_an_archive_is_fetched_before_the_worker_starts() -> None:
    pod = jobs.build_plan_job(RUNS["an archive"], OperatorSettings())["spec"]["template"]["spec"]
    command = pod["initContainers"][0]["command"]
    assert command[3:] == [
        URL["status"]["artifact"]["url"], URL["status"]["artifact"]["checksum"], "/var/arena/source/bundle.zip",
        "/dev/termination-log",
    ]  # fmt: skip
    worker = pod["containers"][0]["command"]
    assert worker[worker.index("--source") + 1] == "/var/arena/source/bundle.zip"


def test_results_in_a_claim_are_below_its_sub_path_and_shown_as_people_find_them() -> None:
    run = RUNS["pvc"]
    command = jobs.build_plan_job(run, OperatorSettings())["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command[command.index("--output") + 1] == "/var/arena/output/batch-001"
    assert build_result_url(run, "file:///var/arena/output/x") == f"pvc://kept/batch-001/arena/evals/{run.id}"
    assert build_result_url(RUNS["s3"], "s3://results/evals/x") == "s3://results/evals/x"
    assert build_result_url(RUNS["no output"], "/var/arena/output/x") is None


def test_the_configuration_of_a_run_is_read_back_as_it_was_and_holds_no_secret() -> None:
    content = manifest(arena_job(output=S3))
    found = resolve(content, objects(*references()))
    assert isinstance(found, Resolved)
    body = jobs.build_run_config(content, found)
    kubernetes_validate.validate(body, KUBERNETES, strict=True)
    run = jobs.read_run(body, "r")
    assert (run.manifest.spec, run.setup) == (content.spec, found.setup)
    kept = [document["kind"] for document in json.loads(body["data"]["manifest.json"])["items"]]
    assert kept == ["ArenaJob", "ArenaSource", "Provider"]


def test_a_copied_secret_belongs_to_the_job() -> None:
    body = jobs.build_secret_copy(manifest(arena_job()), SecretCopy("shared_gpt", "shared", "keys"))
    kubernetes_validate.validate(body, KUBERNETES, strict=True)
    assert body["metadata"]["ownerReferences"][0]["kind"] == api.ARENA_JOB.name
    kubernetes_validate.validate(jobs.build_start_config(manifest(arena_job()), START), KUBERNETES, strict=True)


def test_what_a_job_says_of_its_pods_is_added_to_all_of_them() -> None:
    plain = {job["metadata"]["name"]: job["spec"]["template"] for job in all_jobs(RUNS["s3"])}
    for job in all_jobs(RUNS["overrides"]):
        name, template = job["metadata"]["name"], job["spec"]["template"]
        before, pod, container = plain[name], template["spec"], template["spec"]["containers"][0]
        placed = {key: OVERRIDES[key] for key in OVERRIDES.keys() & set(pod)}
        assert len(placed) == 6
        assert pod == before["spec"] | placed | {"containers": [container]}
        assert template["metadata"]["labels"] == before["metadata"]["labels"] | {"team": "qa"}
        assert template["metadata"]["annotations"] == OVERRIDES["annotations"]
        variables = {variable["name"]: variable["value"] for variable in container["env"]}
        assert variables == {"HOME": "/tmp", "TESTBENCH_LOG_FORMAT": "text", "TESTBENCH_TRACE_CONTENT": "0"}
        assert len(variables) == len(container["env"])
        resources = container.pop("resources")
        assert (resources == OVERRIDES["resources"]) is name.endswith(("-work", "-all"))
        untouched = {key: value for key, value in before["spec"]["containers"][0].items() if key != "resources"}
        assert container == untouched | {"env": container["env"]}


def test_a_run_keeps_its_overrides_and_a_pod_without_any_has_no_empty_ones() -> None:
    content = manifest(arena_job(output=S3, workers={"podOverrides": OVERRIDES}))
    found = resolve(content, objects(*references()))
    assert isinstance(found, Resolved)
    assert jobs.read_run(jobs.build_run_config(content, found), "r").manifest.spec == content.spec
    template = jobs.build_plan_job(made(output=S3, workers={"podOverrides": {"labels": {}}}), OperatorSettings())[
        "spec"
    ]["template"]
    assert template == jobs.build_plan_job(RUNS["s3"], OperatorSettings())["spec"]["template"]
    assert not {"nodeSelector", "tolerations", "affinity", "priorityClassName"} & set(template["spec"])
    assert "annotations" not in template["metadata"]


@given(st.from_regex(r"\A[a-z0-9]([-a-z0-9.]{0,250}[a-z0-9])?\Z"))
def test_every_name_is_a_dns_label_with_room_for_an_index(job: str) -> None:
    made_names = [
        name_plan_job(job), name_whole_job(job), name_work_job(job), name_reduce_job(job, 10),
        name_run_config(job), name_start_config(job), name_copied_secret(job, "a_b"),
    ]  # fmt: skip
    for name in made_names:
        assert len(f"{name}-9999") <= 63
        assert "." not in name
    assert len(set(made_names)) == len(made_names)


def test_no_two_jobs_share_names() -> None:
    long = "a" * 60
    assert len({shorten_name(job) for job in ("a.b", "a-b", long, f"{long}b")}) == 4


@pytest.mark.parametrize(
    ("workers", "load", "shards"),
    [
        ({"replicas": 3}, {"targetRPS": 1000}, 3),
        ({"minReplicas": 5, "maxReplicas": 50}, {"targetRPS": 500}, 5),
        ({"minReplicas": 5, "maxReplicas": 50}, {"targetRPS": 2001}, 9),
        ({"minReplicas": 5, "maxReplicas": 50}, {"targetRPS": 50_000}, 50),
        ({"minReplicas": 5, "maxReplicas": 50}, {}, 5),
    ],
)
def test_a_load_test_takes_as_many_workers_as_its_rate_needs(workers: Json, load: Json, shards: int) -> None:
    job = manifest(arena_job(type="loadtest", workers=workers, loadTest=load, output=S3))
    assert jobs.count_shards(job, 1, OperatorSettings()) == shards


def test_a_setup_of_a_newer_operator_is_refused_and_not_half_understood() -> None:
    body = {
        "data": {jobs.SETUP_KEY: json.dumps({"source": {}, "new": 1}), jobs.MANIFEST_KEY: json.dumps({"items": []})}
    }
    with pytest.raises(ValueError, match="missing"):
        jobs.read_run(body, "r")
    with pytest.raises(ValueError, match="new"):
        PodSetup.model_validate_json(body["data"][jobs.SETUP_KEY])


def test_the_reducer_gets_memory_for_all_items_unless_somebody_decided() -> None:
    def limit(items: int, settings: OperatorSettings) -> object:
        job = jobs.build_reduce_job(RUNS["s3"], jobs.Size(items, 4), 1, settings)
        return job["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]

    assert (limit(10, OperatorSettings()), limit(100_000, OperatorSettings())) == ("2048Mi", "4930Mi")
    assert limit(100_000, OperatorSettings(resources={"limits": {"memory": "1Gi"}})) == "1Gi"
