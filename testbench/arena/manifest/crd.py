"""Makes the CustomResourceDefinitions of the models, so that the API server has the same rules.

    models -> JSON Schema (pydantic) -> structural schema (no references, no null, no titles) -> CRD

Written to `deploy/base/arena/crds` by `make schema` (`testbench.cli.reference`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import yaml
from pydantic import BaseModel

from testbench.arena.manifest.fields import GROUP, INT32_MAX, VERSION
from testbench.arena.manifest.job import ArenaJobSpec
from testbench.arena.manifest.job_status import SUMMARY_ERRORS, SUMMARY_SCORE, SUMMARY_VERDICT, JobStatus

JOB_FILE: Final = "arenajobs.yaml"
REFERENCES_FILE: Final = "references.yaml"

_KEPT: Final[tuple[str, ...]] = (
    "type", "description", "enum", "format", "pattern", "default", "required", "minimum", "maximum", "minLength",
    "maxLength", "minItems", "maxItems", "maxProperties", "x-kubernetes-validations", "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys", "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields",
)  # fmt: skip
_SUMMARY: Final = ".status.result.summary"


class Column(NamedTuple):
    """A column of `kubectl get`; `wide` ones come with `-o wide`."""

    name: str
    type: str
    path: str
    wide: bool = False


COLUMNS: Final = (
    Column("Type", "string", ".spec.type"),
    Column("Phase", "string", ".status.phase"),
    Column("Verdict", "string", f"{_SUMMARY}.{SUMMARY_VERDICT}"),
    Column("Progress", "integer", ".status.progress.completed"),
    Column("Total", "integer", ".status.progress.total"),
    Column("Score", "string", f"{_SUMMARY}.{SUMMARY_SCORE}"),
    Column("Errors", "string", f"{_SUMMARY}.{SUMMARY_ERRORS}"),
    Column("Workers", "integer", ".status.activeWorkers", wide=True),
    Column("Next", "date", ".status.nextScheduleTime", wide=True),
    Column("Age", "date", ".metadata.creationTimestamp"),
)

REFERENCES: Final = (
    ("ArenaSource", "arenasources", "as"),
    ("Provider", "providers", "prov"),
    ("AgentRuntime", "agentruntimes", "ar"),
    ("ToolRegistry", "toolregistries", "tr"),
)
"""Kind, plural and short name of the resources that an ArenaJob refers to."""

_HEADER: Final = """\
# Made from the models by `make schema`: change testbench/arena/manifest/job.py or job_status.py, not this file.
"""
_REFERENCES_HEADER: Final = """\
# The resources that an ArenaJob refers to belong to the system that serves them, with their own definitions. Apply this
# file only to a cluster that has none of them: it takes every spec and status as it is, and checks nothing.
# Made by `make schema` (testbench/arena/manifest/crd.py).
"""


def build_structural_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the model's schema as an API server takes it: no references, no null, every part with a type."""
    schema = model.model_json_schema(by_alias=True, mode="validation")
    return _flatten(schema, schema.get("$defs", {}))


def _flatten(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    whole = _resolve(schema, definitions)
    flat: dict[str, Any] = {key: whole[key] for key in _KEPT if key in whole and not _says_nothing(key, whole[key])}
    if "const" in whole:
        flat["enum"] = [whole["const"]]
    if "default" in flat:
        flat["default"] = _without_null(flat["default"])
    if "description" in flat:
        flat["description"] = " ".join(flat["description"].split())
    if flat.get("type") == "integer" and whole.get("maximum", INT32_MAX + 1) <= INT32_MAX:
        flat["format"] = "int32"
    elif flat.get("type") == "integer":
        flat["format"] = "int64"
    if "items" in whole:
        flat["items"] = _flatten(whole["items"], definitions)
    if "properties" in whole:
        flat["properties"] = {name: _flatten(part, definitions) for name, part in whole["properties"].items()}
    if isinstance(whole.get("additionalProperties"), Mapping):
        flat["additionalProperties"] = _flatten(whole["additionalProperties"], definitions)
    return flat


def _resolve(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Return one schema instead of a reference to it or of `X or null`; keys beside it win, as the description does.

    Of a number or a text only the schema of the text is returned: the API server has a keyword of its own for both.
    """
    beside = {key: value for key, value in schema.items() if key not in ("$ref", "anyOf")}
    if "x-kubernetes-int-or-string" in schema:
        (text,) = [choice for choice in schema["anyOf"] if choice["type"] == "string"]
        return {key: value for key, value in text.items() if key != "type"} | beside
    if "$ref" in schema:
        return _resolve(definitions[schema["$ref"].rpartition("/")[2]], definitions) | beside
    if "anyOf" in schema:
        (only,) = [choice for choice in schema["anyOf"] if choice.get("type") != "null"]
        return _resolve(only, definitions) | beside
    return dict(schema)


def _says_nothing(key: str, value: Any) -> bool:
    return key == "default" and value in (None, "", [], {})


def _without_null(value: Any) -> Any:
    return {key: item for key, item in value.items() if item is not None} if isinstance(value, dict) else value


def build_job_schema() -> dict[str, Any]:
    """Return the `openAPIV3Schema` of ArenaJob."""
    status = {key: value for key, value in build_structural_schema(JobStatus).items() if key != "required"}
    return {
        "type": "object",
        "description": "A test of agents and models: an evaluation, a load test, or data generation.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": build_structural_schema(ArenaJobSpec),
            "status": status,
        },
    }


def build_job_definition() -> dict[str, Any]:
    """Return the whole CustomResourceDefinition of ArenaJob."""
    columns = [
        {"name": column.name, "type": column.type, "jsonPath": column.path} | ({"priority": 1} if column.wide else {})
        for column in COLUMNS
    ]
    return _build_definition("ArenaJob", "arenajobs", "aj", build_job_schema(), columns)


def build_reference_definitions() -> list[dict[str, Any]]:
    """Return definitions that take everything, for the resources that an ArenaJob refers to."""
    return [_build_definition(kind, plural, short, _build_open_schema(), []) for kind, plural, short in REFERENCES]


def _build_open_schema() -> dict[str, Any]:
    free = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "type": "object",
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": dict(free),
            "status": dict(free),
        },
    }


def _build_definition(
    kind: str, plural: str, short: str, schema: Mapping[str, Any], columns: list[dict[str, Any]]
) -> dict[str, Any]:
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": schema},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short],
                "categories": ["arena"],
            },
            "versions": [version | ({"additionalPrinterColumns": columns} if columns else {})],
        },
    }


def build_files() -> dict[str, str]:
    """Return the text of every file of the folder by its name."""
    return {
        JOB_FILE: _HEADER + _dump_yaml(build_job_definition()),
        REFERENCES_FILE: _REFERENCES_HEADER + "---\n".join(map(_dump_yaml, build_reference_definitions())),
    }


class _Dumper(yaml.SafeDumper):
    """Writes equal parts in full: an alias is no good in a file that people read."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _dump_yaml(document: Mapping[str, Any]) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)
