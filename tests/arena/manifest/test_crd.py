"""The CustomResourceDefinition: in step with the models, structural, and of the same opinion as they are."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import cel
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from testbench.arena.manifest import crd
from testbench.arena.manifest.documents import load_documents, validate_manifest
from testbench.arena.manifest.fields import API_VERSION, GROUP
from testbench.arena.manifest.job import EXACTLY_ONE_ENTRY, ArenaJob
from testbench.arena.manifest.job_status import JobStatus

BASE = Path(__file__).parents[3] / "deploy" / "base" / "arena"
SAMPLES = sorted((BASE / "samples").glob("*.yaml"))
FORBIDDEN = {"$ref", "anyOf", "oneOf", "allOf", "not", "title", "const", "patternProperties", "propertyNames"}


# --- an API server's reading of a custom resource -------------------------------------------------------------------


def defaulted(schema: dict[str, Any], value: Any) -> Any:
    """What an API server makes of a value first: null keys removed, defaults filled in."""
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        kept = {name: item for name, item in value.items() if not (item is None and name in properties)}
        for name, part in properties.items():
            if name not in kept and "default" in part:
                kept[name] = copy.deepcopy(part["default"])
        below = schema.get("additionalProperties", {})
        return {name: defaulted(properties.get(name, below), item) for name, item in kept.items()}
    if isinstance(value, list):
        return [defaulted(schema.get("items", {}), item) for item in value]
    return value


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema as `kubectl` checks it, where an unknown key is an error; `$` is the end of the text, as in RE2."""
    out = dict(schema)
    if "pattern" in out:
        out["pattern"] = out["pattern"].replace("$", r"\Z")
    if "properties" in out:
        out["properties"] = {name: closed(part) for name, part in out["properties"].items()}
        out["additionalProperties"] = False
    elif isinstance(out.get("additionalProperties"), dict):
        out["additionalProperties"] = closed(out["additionalProperties"])
    if "items" in out:
        out["items"] = closed(out["items"])
    if out.get("x-kubernetes-int-or-string"):
        out["type"] = ["integer", "string"]
    return out


def broken_rules(schema: dict[str, Any], value: Any) -> Iterator[str]:
    for rule in schema.get("x-kubernetes-validations", ()):
        if cel.evaluate(rule["rule"], {"self": value}) is not True:
            yield rule["message"]
    if isinstance(value, dict):
        for name, item in value.items():
            part = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
            if isinstance(part, dict):
                yield from broken_rules(part, item)
    elif isinstance(value, list):
        for item in value:
            yield from broken_rules(schema["items"], item)


@cache
def spec_validator() -> tuple[dict[str, Any], Draft202012Validator]:
    schema = crd.build_job_schema()["properties"]["spec"]
    return schema, Draft202012Validator(closed(schema))


def refused_by_the_server(spec: dict[str, Any]) -> list[str]:
    schema, validator = spec_validator()
    complete = defaulted(schema, spec)
    return [error.message for error in validator.iter_errors(complete)] or list(broken_rules(schema, complete))


def refused_by_the_models(spec: dict[str, Any]) -> list[str]:
    document = {"apiVersion": API_VERSION, "kind": "ArenaJob", "metadata": {"name": "j"}, "spec": spec}
    try:
        validate_manifest(ArenaJob, document)
    except ValidationError as error:
        return [fault["msg"] for fault in error.errors()]
    return []


# --- manifests, good ones and near misses ---------------------------------------------------------------------------


def some(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


def keys(**optional: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=optional)


NAMES = some("a", "my-source", "a.b", "x" * 253, "", "A", "-a", "a_b", "x" * 254, 5, None, "a\n")
COUNTS = some(1, 3, 2_147_483_647, 0, -1, 2_147_483_648, "3", True, 2.0, 2.5, None)
DURATIONS = some("30s", "5m", "1h30m", "300s", "0.1s0.2s", "0.3s", "0s", "1ms", "", "5", "5 m", "99999h", "1e3s", 5)
TEXTS = some("", "evals/", "../x", "x" * 900, "x" * 901, 7, None)
REFS = keys(name=NAMES)
PROVIDER_REFS = keys(name=NAMES, namespace=NAMES)
ENTRIES = keys(providerRef=PROVIDER_REFS | st.none(), agentRef=REFS, other=st.none())
GROUPS = st.lists(ENTRIES, max_size=2) | st.dictionaries(some("openai-gpt", "Jury_1"), ENTRIES, max_size=2)
LABELS = st.dictionaries(
    some("team", "example.com/team", "job-name", f"{GROUP}/x"), some("qa", "", "q a", 1), max_size=1
)
OVERRIDES = keys(
    labels=LABELS,
    annotations=LABELS,
    nodeSelector=LABELS,
    tolerations=st.lists(
        keys(
            key=some("gpu", ""),
            operator=some("Exists", "Equal", "Lt"),
            value=some("yes", "a b"),
            effect=some("NoExecute", "NoSchedule", "Never"),
            tolerationSeconds=some(0, 5, -1),
        ),
        max_size=1,
    ),
    affinity=keys(nodeAffinity=some({"any": ["thing"]}, [], None), nodeAfinity=some({})),
    topologySpreadConstraints=st.lists(some({"maxSkew": 1}, "x"), max_size=1),
    priorityClassName=some("low", "system-node-critical", "A"),
    imagePullSecrets=st.lists(REFS, max_size=1),
    resources=keys(
        requests=st.dictionaries(some("cpu"), some(1, "250m", "1.5Gi", "lots", 0.5, True, "1\n")), claims=some([])
    ),
    extraEnv=st.lists(
        keys(
            name=some(
                "TESTBENCH_LOG_FORMAT",
                "OTEL_RESOURCE_ATTRIBUTES",
                "PYTHONPATH",
                "TESTBENCH_LOG_LEVEL\n",
                "TESTBENCH_ARENA_WORK_CONCURRENCY",
                "TESTBENCH_ARENA_WORK_OUTPUT",
            ),
            value=some("json", "", "$(OPENAI_API_KEY)", 1),
            valueFrom=some({}),
        ),
        max_size=1,
    ),
    serviceAccountName=some("admin"),
)
THRESHOLDS = keys(
    metric=some("latency_p95", "error_rate", "ttft_avg", "speed"),
    operator=some("<", ">=", "=="),
    value=some("0.5", "800ms", "3", "fast", "", 3, "1.5s\n"),
)
SPECS = keys(
    sourceRef=REFS,
    arenaFile=some("config.arena.yaml", "", "x" * 513),
    type=some("evaluation", "loadtest", "datagen", "other", None),
    trials=COUNTS,
    scenarios=keys(include=st.lists(some("a*.yaml", "", 3), max_size=2), exclude=some([], None, "a")),
    evaluation=keys(outputFormats=st.lists(some("junit", "json", "csv", "html"), max_size=3)),
    loadTest=keys(
        rampUp=DURATIONS,
        duration=DURATIONS,
        targetRPS=COUNTS,
        thresholds=st.lists(THRESHOLDS, max_size=2),
        budgetLimit=some("1", "2.50", "-1", "1.", 3),
        budgetCurrency=some("USD", "EUR"),
    ),
    dataGen=keys(count=COUNTS, format=some("json", "jsonl", "csv", "xml")),
    workers=keys(replicas=COUNTS, minReplicas=COUNTS, maxReplicas=COUNTS, podOverrides=OVERRIDES),
    providers=st.dictionaries(some("default", "judge", "any group"), GROUPS, max_size=2),
    toolRegistries=st.lists(REFS, max_size=2),
    output=keys(
        type=some("s3", "pvc", "gcs"),
        s3=keys(bucket=some("b", ""), prefix=TEXTS, region=TEXTS, endpoint=some("http://x"), secretRef=REFS),
        pvc=keys(claimName=NAMES, subPath=TEXTS),
    ),
    schedule=keys(
        cron=some("0 2 * * *", "daily", "* * * * *"),
        timezone=some("UTC", "", "America/New_York"),
        concurrencyPolicy=some("Allow", "Forbid", "Replace", "Never"),
    ),
    ttlSecondsAfterFinished=some(0, 86400, -1, "1h"),
    cancelled=some(True, False, "yes", 1, None),
    unknownKey=some(1),
)


def parts(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The spec with a valid source and one further key each, so that a fault elsewhere hides none."""
    for name, value in spec.items():
        yield {"sourceRef": {"name": "s"}} | {name: value}
    for name, value in (spec.get("workers", {}).get("podOverrides") or {}).items():
        yield {"sourceRef": {"name": "s"}, "workers": {"podOverrides": {name: value}}}


def listed(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec with every group as a list: a map of entries is the one thing that only the models take."""
    groups = spec.get("providers", {})
    lists = {name: list(group.values()) if isinstance(group, dict) else group for name, group in groups.items()}
    return spec | ({"providers": lists} if groups else {})


@given(SPECS)
@settings(max_examples=250, deadline=None)
def test_the_api_server_and_the_models_accept_the_same_manifests(spec: dict[str, Any]) -> None:
    for part in (spec, *parts(spec)):
        models, lists = refused_by_the_models(part), listed(part)
        server = refused_by_the_server(lists)
        assert bool(server) == bool(models), (part, server, models)
        assert lists == part or refused_by_the_server(part), part


def test_the_server_refuses_both_or_neither_with_the_words_of_the_rule() -> None:
    both = {"providerRef": {"name": "p"}, "agentRef": {"name": "a"}}
    for entry in ({}, both):
        spec = {"sourceRef": {"name": "s"}, "providers": {"default": [entry]}}
        assert refused_by_the_server(spec) == [EXACTLY_ONE_ENTRY]


# --- the files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [crd.JOB_FILE, crd.REFERENCES_FILE])
def test_the_definitions_are_those_of_the_models(name: str) -> None:
    assert (BASE / "crds" / name).read_text() == crd.build_files()[name], "run `make schema`"


def spec_of(sample: Path) -> dict[str, Any]:
    """Of the only job in the file."""
    (job,) = (one for one in yaml.safe_load_all(sample.read_text()) if one["kind"] == "ArenaJob")
    return dict(job["spec"])


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_every_sample_is_accepted_by_models_and_server(sample: Path) -> None:
    assert load_documents(sample).job().metadata.name
    assert refused_by_the_server(spec_of(sample)) == []


def test_there_is_a_sample_of_every_kind_of_job() -> None:
    assert {load_documents(sample).job().spec.type for sample in SAMPLES} == {"evaluation", "loadtest", "datagen"}


def test_the_schema_is_structural_and_bounded() -> None:
    """What the API server demands before it takes a definition: types everywhere, no logic, and bounds for CEL."""

    def check(schema: dict[str, Any], place: str) -> None:
        if schema.get("x-kubernetes-int-or-string"):
            assert schema.keys() <= {"x-kubernetes-int-or-string", "pattern"}, place
            return
        assert schema.get("type"), place
        assert not FORBIDDEN & schema.keys(), place
        if schema["type"] == "array":
            assert "maxItems" in schema, place
            check(schema["items"], f"{place}[]")
        if isinstance(schema.get("additionalProperties"), dict):
            assert "maxProperties" in schema, place
            check(schema["additionalProperties"], f"{place}{{}}")
        if schema["type"] == "string" and "enum" not in schema and "format" not in schema:
            assert "maxLength" in schema, place
        if "default" in schema:
            assert Draft202012Validator(closed(schema)).is_valid(schema["default"]), place
        for name, part in schema.get("properties", {}).items():
            check(part, f"{place}.{name}")

    for name in ("spec", "status"):
        check(crd.build_job_schema()["properties"][name], name)


def test_a_column_shows_what_the_schema_has() -> None:
    for column in crd.COLUMNS:
        if column.path.startswith(".metadata"):
            continue
        schema = crd.build_job_schema()
        for name in column.path.strip(".").split("."):
            schema = schema.get("properties", {}).get(name) or schema["additionalProperties"]
        kind = "date" if schema.get("format") == "date-time" else schema["type"]
        assert kind == column.type, column


def test_a_status_of_the_types_fits_the_schema() -> None:
    status = JobStatus.model_validate(
        {
            "phase": "Running",
            "progress": {"total": 3},
            "result": {"url": "s3://b/run", "summary": {"verdict": "pass"}},
            "conditions": [
                {"type": "Ready", "status": "True", "reason": "Done", "lastTransitionTime": "2026-01-01T00:00:00Z"}
            ],
        }
    )
    dumped = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    schema = closed(crd.build_job_schema()["properties"]["status"])
    assert [error.message for error in Draft202012Validator(schema).iter_errors(dumped)] == []
    assert dumped["progress"] == {"total": 3, "completed": 0, "failed": 0, "pending": 0}
