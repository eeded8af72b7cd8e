"""The objects that the contract uses."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from tests.support.cluster.definitions import resources_of
from tests.support.cluster.objects import Json, Resource

CRDS: Final = Path(__file__).parents[4] / "deploy" / "base" / "arena" / "crds"
SAMPLES: Final = CRDS.parent / "samples"
DEFINITIONS: Final[tuple[Json, ...]] = tuple(
    document for path in sorted(CRDS.glob("*.yaml")) for document in yaml.safe_load_all(path.read_text()) if document
)
ARENAJOBS: Final[Resource] = next(
    one for definition in DEFINITIONS for one in resources_of(definition) if one.plural == "arenajobs"
)


def config_map(name: str = "a", data: dict[str, str] | None = None, **metadata: Any) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name} | metadata, "data": data or {"k": "v"}}


def arena_job(name: str = "a", **spec: Any) -> Json:
    return {
        "apiVersion": ARENAJOBS.api_version,
        "kind": "ArenaJob",
        "metadata": {"name": name},
        "spec": {"sourceRef": {"name": "bundle"}} | spec,
    }


def pod_template(script: str, **spec: Any) -> Json:
    """A pod whose only container runs a shell script."""
    container = {"name": "main", "image": "none", "command": ["/bin/sh", "-c", script]}
    return {"spec": {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container]} | spec}


def pod(name: str, script: str = "exit 0", **spec: Any) -> Json:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}} | pod_template(script, **spec)


def indexed_job(name: str, script: str, completions: int = 3, **spec: Any) -> Json:
    """An Indexed Job as the arena's operator writes them: retries per index, pods replaced when they have failed."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {
            "completions": completions,
            "parallelism": completions,
            "completionMode": "Indexed",
            "backoffLimitPerIndex": 0,
            "podReplacementPolicy": "Failed",
            "template": pod_template(script),
        }
        | spec,
    }


def owned(obj: Json, owner: Json, **more: Any) -> Json:
    """The object with one owner reference."""
    reference = {key: owner[key] for key in ("apiVersion", "kind")}
    reference |= {key: owner["metadata"][key] for key in ("name", "uid")}
    return obj | {"metadata": obj["metadata"] | {"ownerReferences": [reference | more]}}
