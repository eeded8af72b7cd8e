"""The ArenaJob as a user writes it: what is accepted, what every default is, and what is refused with which words."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from testbench.arena.documents import validated
from testbench.arena.manifest import (
    API_VERSION,
    EXACTLY_ONE_ENTRY,
    MIN_ABOVE_MAX,
    OUTPUT_OF_ITS_TYPE,
    RAMP_FITS,
    ArenaJob,
    Workers,
    seconds,
)


def job(**spec: Any) -> ArenaJob:
    """A job whose spec has these keys, as a manifest would name them."""
    return validated(ArenaJob, document(spec))


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


@pytest.mark.parametrize(
    ("duration", "expected"), [("90s", 90), ("1h30m", 5400), ("1.5s", 1.5), ("250ms", 0.25), ("0.1s0.2s", 0.3)]
)
def test_a_duration_is_its_seconds(duration: str, expected: float) -> None:
    assert seconds(duration) == expected


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
    found = validated(Workers, workers)
    assert (found.fewest, found.most) == (fewest, most)
