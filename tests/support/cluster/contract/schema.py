"""What a server does by the schema of our own CustomResourceDefinition: prune, default, validate, CEL."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.support.cluster.client import ApiClient, RequestRefusedError
from tests.support.cluster.contract.objects import refusal
from tests.support.cluster.contract.samples import ARENAJOBS, DEFINITIONS, SAMPLES, arena_job
from tests.support.cluster.objects import Json

NAMED = [path.stem for path in sorted(SAMPLES.glob("*.yaml"))]


def test_defaults_are_filled_in(api: ApiClient, namespace: str) -> None:
    made = api.create(ARENAJOBS, arena_job(schedule={"cron": "0 2 * * *"}, loadTest={}), namespace)["spec"]
    assert made["type"] == "evaluation"
    assert made["workers"] == {"replicas": 1}
    assert made["schedule"] == {"cron": "0 2 * * *", "timezone": "UTC", "concurrencyPolicy": "Forbid"}
    assert made["loadTest"]["rampUp"] == "30s"
    assert "output" not in made


def test_a_null_stands_for_nothing(api: ApiClient, namespace: str) -> None:
    made = api.create(ARENAJOBS, arena_job(type=None, output=None, workers={"replicas": None}), namespace)["spec"]
    assert (made["type"], made["workers"]) == ("evaluation", {"replicas": 1})
    assert "output" not in made


def test_unknown_fields_are_pruned_with_a_warning(api: ApiClient, namespace: str) -> None:
    odd = arena_job(wrokers={"replicas": 2})
    assert refusal(lambda: api.create(ARENAJOBS, odd, namespace, fieldValidation="Strict")) == (400, "BadRequest")
    assert "wrokers" not in api.create(ARENAJOBS, odd, namespace)["spec"]
    told = {"status": {"phase": "Running", "phaze": "x"}}
    assert api.patch(ARENAJOBS, "a", told, sub="status", namespace=namespace)["status"] == {"phase": "Running"}


WRONG: dict[str, tuple[Json, str]] = {
    "no source": ({"sourceRef": None}, "spec.sourceRef"),
    "an unknown type": ({"type": "chaos"}, "spec.type"),
    "a text for a number": ({"trials": "3"}, "spec.trials"),
    "a number for a text": ({"arenaFile": 3}, "spec.arenaFile"),
    "too few trials": ({"trials": 0}, "spec.trials"),
    "too many trials": ({"trials": 2**31}, "spec.trials"),
    "half a trial": ({"trials": 1.5}, "spec.trials"),
    "a bad duration": ({"loadTest": {"duration": "soon"}}, "spec.loadTest.duration"),
    "an empty file name": ({"arenaFile": ""}, "spec.arenaFile"),
    "a long file name": ({"arenaFile": "x" * 513}, "spec.arenaFile"),
    "too many patterns": ({"scenarios": {"include": ["x"] * 257}}, "spec.scenarios.include"),
    "a bad format": ({"evaluation": {"outputFormats": ["xml"]}}, "spec.evaluation.outputFormats[0]"),
    "a bad name": ({"sourceRef": {"name": "A_b"}}, "spec.sourceRef.name"),
    "a list for an object": ({"workers": []}, "spec.workers"),
    "a rule over two fields": ({"workers": {"minReplicas": 3, "maxReplicas": 2}}, "spec.workers"),
    "a rule over times": ({"loadTest": {"rampUp": "2m", "duration": "1m"}}, "spec.loadTest"),
    "a rule with a choice": ({"output": {"type": "s3", "pvc": {"claimName": "x"}}}, "spec.output"),
    "a rule in a map of lists": ({"providers": {"group": [{}]}}, "spec.providers[group][0]"),
    "a name in a map of lists": (
        {"providers": {"group": [{"agentRef": {"name": "A_b"}}]}},
        "spec.providers.group[0].agentRef.name",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_the_schema_forbids_is_named(api: ApiClient, namespace: str, case: str) -> None:
    spec, field = WRONG[case]
    with pytest.raises(RequestRefusedError) as caught:
        api.create(ARENAJOBS, arena_job(**spec), namespace)
    assert caught.value.code == 422, caught.value
    assert field in caught.value.fields, caught.value


def test_a_broken_rule_answers_with_its_message(api: ApiClient, namespace: str) -> None:
    with pytest.raises(RequestRefusedError, match="minReplicas is greater than maxReplicas"):
        api.create(ARENAJOBS, arena_job(workers={"minReplicas": 3, "maxReplicas": 2}), namespace)


def test_a_status_is_validated_too(api: ApiClient, namespace: str) -> None:
    api.create(ARENAJOBS, arena_job(), namespace)
    bad: Any = {"status": {"phase": "Lost"}}
    assert refusal(lambda: api.patch(ARENAJOBS, "a", bad, sub="status", namespace=namespace)) == (422, "Invalid")
    condition = {"type": "Ready", "status": "True", "reason": "Done", "lastTransitionTime": "2026-01-02T03:04:05Z"}
    twice = {"status": {"conditions": [condition, condition]}}
    assert refusal(lambda: api.patch(ARENAJOBS, "a", twice, sub="status", namespace=namespace))[0] == 422
    late = {"status": {"conditions": [condition | {"lastTransitionTime": "yesterday"}]}}
    assert refusal(lambda: api.patch(ARENAJOBS, "a", late, sub="status", namespace=namespace))[0] == 422
    good = {"status": {"conditions": [condition]}}
    assert api.patch(ARENAJOBS, "a", good, sub="status", namespace=namespace)["status"] == good["status"]


@pytest.mark.parametrize("name", NAMED)
def test_every_sample_is_taken(api: ApiClient, namespace: str, name: str) -> None:
    for sample in yaml.safe_load_all((SAMPLES / f"{name}.yaml").read_text()):
        if sample["kind"] == "ArenaJob":
            sample["metadata"]["namespace"] = namespace
            made = api.create(ARENAJOBS, sample, namespace, fieldValidation="Strict")
            assert made["spec"].items() >= {"sourceRef": sample["spec"]["sourceRef"]}.items()


def test_a_definition_with_a_broken_rule_is_refused(api: ApiClient) -> None:
    definition: Json = yaml.safe_load(yaml.safe_dump(DEFINITIONS[0]))
    definition["spec"]["group"] = "broken.example.com"
    definition["metadata"]["name"] = f"arenajobs.{definition['spec']['group']}"
    spec = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["x-kubernetes-validations"] = [{"rule": "self.sourceRef.name =="}]
    assert refusal(lambda: api.create("customresourcedefinitions", definition)) == (422, "Invalid")
