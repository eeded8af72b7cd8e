"""The ArenaJob as a user writes it: what is accepted, what every default is, and what is refused with which words."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError

from testbench.arena.manifest.documents import validate_manifest
from testbench.arena.manifest.fields import API_VERSION
from testbench.arena.manifest.job import (
    EXACTLY_ONE_ENTRY,
    MIN_ABOVE_MAX,
    OUTPUT_OF_ITS_TYPE,
    OUTSIDE,
    RAMP_FITS,
    ArenaJob,
    IdentifiedEntry,
    Workers,
    parse_seconds,
)
from testbench.arena.manifest.pod_overrides import (
    KEY_RESERVED,
    KEYLESS,
    SECONDS_OF_OTHERS,
    SYSTEM_PRIORITY,
    VALUE_OF_EXISTS,
)
from testbench.schema.files import describe


def job(**spec: Any) -> ArenaJob:
    """A job whose spec has these keys, as a manifest would name them."""
    return validate_manifest(ArenaJob, document(spec))


def document(spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": "ArenaJob",
        "metadata": {"name": "j"},
        "spec": {"sourceRef": {"name": "s"}} | spec,
    }


def test_the_defaults_are_those_of_the_resource() -> None:
    spec = job(loadTest={}, dataGen={}, schedule={"cron": "0 2 * * *"}).spec
    assert (spec.type, spec.workers.replicas, spec.trials, spec.arena_file) == ("evaluation", 1, 1, "config.arena.yaml")
    assert spec.load_test is not None
    assert (spec.load_test.ramp_up, spec.load_test.duration, spec.load_test.target_rps) == ("30s", "5m", None)
    assert spec.data_gen is not None
    assert (spec.data_gen.count, spec.data_gen.format) == (100, "jsonl")
    assert spec.schedule is not None
    assert (spec.schedule.timezone, spec.schedule.concurrency_policy) == ("UTC", "Forbid")


@pytest.mark.parametrize("entry", [{}, {"providerRef": {"name": "p"}, "agentRef": {"name": "a"}}])
def test_an_entry_is_a_provider_or_an_agent_and_never_both_or_neither(entry: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=EXACTLY_ONE_ENTRY):
        job(providers={"default": [entry]})


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"workers": {"minReplicas": 3, "maxReplicas": 2}}, MIN_ABOVE_MAX),
        ({"loadTest": {"rampUp": "5m1s"}}, RAMP_FITS),
        ({"loadTest": {"rampUp": "0s", "duration": "0s"}}, "above 0"),
        ({"output": {"type": "s3", "pvc": {"claimName": "c"}}}, OUTPUT_OF_ITS_TYPE),
        ({"output": {"type": "pvc"}}, OUTPUT_OF_ITS_TYPE),
        ({"output": {"type": "pvc", "pvc": {"claimName": "c", "subPath": "a/../.."}}}, OUTSIDE),
        ({"loadTest": {"thresholds": [{"metric": "error_rate", "operator": "<", "value": "5s"}]}}, "only latency"),
        ({"loadTest": {"thresholds": [{"metric": "latency_p95", "operator": "<", "value": "fast"}]}}, "pattern"),
        ({"type": "benchmark"}, "evaluation"),
        ({"sourceref": {"name": "s"}}, "not permitted"),
        ({"source_ref": {"name": "s"}}, "not permitted"),
        ({"trials": "3"}, "integer"),
        ({"unknown": None}, "not permitted"),
        ({"cancelled": "yes"}, "boolean"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_reason(spec: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        job(**spec)


def test_null_is_the_same_as_leaving_a_key_out() -> None:
    assert job(trials=None, workers={"replicas": None}, scenarios=None) == job()


def test_extensions_of_later_versions_are_taken() -> None:
    spec = job(
        arenaFile="evals/config.arena.yaml",
        trials=3,
        verbose=True,
        sessionRecording=True,
        loadTest={"concurrency": 4, "vusPerWorker": 2, "ramp": {"up": "10s"}, "budgetLimit": "2.50"},
    ).spec
    assert spec.load_test is not None
    assert spec.load_test.ramp is not None
    assert (spec.trials, spec.load_test.concurrency, spec.load_test.ramp.up) == (3, 4, "10s")


def test_a_group_may_be_a_map_from_the_ids_of_the_arena_file_and_stays_one() -> None:
    group = {"openai-gpt": {"providerRef": {"name": "p", "namespace": "n"}}, "Bot_1": {"agentRef": {"name": "a"}}}
    given = job(providers={"default": group, "judge": [{"providerRef": {"name": "j"}}]})
    assert given.spec.providers is not None
    entries = given.spec.providers["default"]
    assert [(entry.id, entry.name) for entry in entries if isinstance(entry, IdentifiedEntry)] == [
        ("openai-gpt", "n/p"),
        ("Bot_1", "a"),
    ]
    dumped = given.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert dumped["spec"]["providers"] == {"default": group, "judge": [{"providerRef": {"name": "j"}}]}
    assert validate_manifest(ArenaJob, dumped) == given


@pytest.mark.parametrize(
    ("group", "words"),
    [
        ({"a": {}}, EXACTLY_ONE_ENTRY),
        ({"a": {"providerRef": {"name": "p"}, "agentRef": {"name": "a"}}}, EXACTLY_ONE_ENTRY),
        ({"a": {"providerRef": {"name": "P"}}}, r"spec\.providers\.default\.a\.providerRef\.name"),
        ({"": {"providerRef": {"name": "p"}}}, "at least 1 character"),
        ({str(number): {"providerRef": {"name": "p"}} for number in range(65)}, "at most 64"),
        ([{"id": "a", "providerRef": {"name": "p"}}], "not permitted"),
        ({"a": {"provider_ref": {"name": "p"}}}, "not permitted"),
    ],
)
def test_the_rules_of_a_list_hold_for_a_map_too(group: Any, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        job(providers={"default": group})
    assert re.search(words, describe(caught.value))


def overridden(**overrides: Any) -> ArenaJob:
    return job(workers={"podOverrides": overrides})


@pytest.mark.parametrize(
    "name", ["TESTBENCH_ARENA_REDUCE_MIN_PASS_RATE", "TESTBENCH_LOG_LEVEL", "OTEL_RESOURCE_ATTRIBUTES"]
)
def test_a_job_may_set_how_it_is_judged_and_what_is_logged(name: str) -> None:
    assert overridden(extraEnv=[{"name": name, "value": "0.9"}]).spec.workers.pod_overrides


def test_pods_may_be_placed_and_labelled() -> None:
    made = overridden(
        labels={"team": "qa"},
        tolerations=[{"key": "load", "operator": "Exists", "effect": "NoSchedule"}],
        affinity={"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        resources={"requests": {"cpu": 2, "memory": "1Gi"}},
        extraEnv=[{"name": "TESTBENCH_LOG_FORMAT", "value": "text"}],
    )
    assert validate_manifest(ArenaJob, made.model_dump(mode="json", by_alias=True, exclude_none=True)) == made


@pytest.mark.parametrize(
    "name", ["serviceAccountName", "extraVolumes", "extraVolumeMounts", "extraEnvFrom", "securityContext"]
)
def test_what_decides_over_rights_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(ValidationError, match=f"{name} cannot be set by a job, only labels, annotations, nodeSelector"):
        overridden(**{name: None})


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"labels": {"omnia.altairalabs.ai/job-uid": "x"}}, KEY_RESERVED),
        ({"labels": {"app.kubernetes.io/name": "gateway"}}, KEY_RESERVED),
        ({"labels": {"a b": "x"}}, "cannot be the key of a label"),
        ({"labels": {"a\n": "x"}}, "cannot be the key of a label"),
        ({"nodeSelector": {"-a": "x"}}, "cannot be the key of a label"),
        ({"annotations": {"container.apparmor.security.beta.kubernetes.io/work": "unconfined"}}, KEY_RESERVED),
        ({"priorityClassName": "system-cluster-critical"}, SYSTEM_PRIORITY),
        ({"tolerations": [{"effect": "NoSchedule"}]}, KEYLESS),
        ({"tolerations": [{"key": "a", "operator": "Exists", "value": "x"}]}, VALUE_OF_EXISTS),
        ({"tolerations": [{"key": "a", "tolerationSeconds": 5}]}, SECONDS_OF_OTHERS),
        ({"affinity": {"nodeAfinity": {}}}, "not permitted"),
        ({"resources": {"claims": []}}, "not permitted"),
        ({"resources": {"requests": {"cpu": "lots"}}}, "pattern"),
        ({"resources": {"requests": {"cpu": True}}}, "valid integer"),
        ({"extraEnv": [{"name": "PYTHONPATH", "value": "/etc/arena/source"}]}, "pattern"),
        ({"extraEnv": [{"name": "TESTBENCH_ARENA_RUN_ALL_OUTPUT", "value": "/tmp/lost"}]}, "pattern"),
        ({"extraEnv": [{"name": "LD_PRELOAD", "value": "x.so"}]}, "pattern"),
        ({"extraEnv": [{"name": "HTTPS_PROXY", "value": "http://x"}]}, "pattern"),
        ({"extraEnv": [{"name": "OPENAI_API_BASE", "value": "http://x"}]}, "pattern"),
        ({"extraEnv": [{"name": "TESTBENCH_LOG_LEVEL", "value": "$(OPENAI_API_KEY)"}]}, "pattern"),
        (
            {"extraEnv": [{"name": "TESTBENCH_LOG_LEVEL", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]},
            "permitted",
        ),
    ],
)
def test_no_override_loosens_what_a_pod_may_do_or_shows_it_a_key(overrides: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        overridden(**overrides)


@pytest.mark.parametrize(
    ("duration", "expected"), [("90s", 90), ("1h30m", 5400), ("1.5s", 1.5), ("250ms", 0.25), ("0.1s0.2s", 0.3)]
)
def test_a_duration_is_its_seconds(duration: str, expected: float) -> None:
    assert parse_seconds(duration) == expected


@pytest.mark.parametrize(
    ("workers", "fewest", "most"),
    [
        ({}, 1, 1),
        ({"replicas": 4}, 4, 4),
        ({"minReplicas": 2, "maxReplicas": 20}, 2, 20),
        ({"replicas": 5, "maxReplicas": 3}, 3, 3),
        ({"replicas": 2, "minReplicas": 6}, 6, 6),
    ],
)
def test_workers_grow_only_where_there_is_a_maximum(workers: dict[str, int], fewest: int, most: int) -> None:
    found = validate_manifest(Workers, workers)
    assert (found.fewest, found.most) == (fewest, most)
