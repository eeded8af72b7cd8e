"""The files below `deploy` as documents, and what several tests ask of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
PHASES = ("setup", "run", "evaluate", "publish", "visualize", "gate")
WORKFLOWS = ("ragas-evaluation-workflow", "multi-turn-workflow")

Document = dict[str, Any]


def load(path: str) -> Document:
    """The one document of a file below `deploy`."""
    document: Document = yaml.safe_load((DEPLOY / path).read_text())
    return document


def workflow(name: str) -> Document:
    """What a workflow's file says below `spec`."""
    spec: Document = load(f"local/{name}.yaml")["spec"]
    return spec


def template(phase: str) -> Document:
    """What a phase's template says below `spec`."""
    document = load(f"base/templates/{phase}-template.yaml")
    assert document["metadata"]["name"] == f"{phase}-template"
    spec: Document = document["spec"]
    return spec


def nodes(value: Any) -> Iterator[Any]:
    """A value and everything in it."""
    yield value
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in inside:
        yield from nodes(item)


def assert_restricted(pod: Document, containers: list[Document]) -> None:
    """Pod Security Standard `restricted`, and a root file system that cannot be written."""
    assert pod["runAsNonRoot"] is True
    assert pod["runAsUser"] > 0
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers:
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["readOnlyRootFilesystem"] is True
