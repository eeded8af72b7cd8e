"""Jobs for tests of `run` and of what pods call: a manifest and a bundle in a folder, and what came of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from testbench.arena.commands import command
from testbench.arena.manifest.fields import API_VERSION
from testbench.arena.plan.model import Plan
from testbench.cli.phase import main
from testbench.schema.models import EvaluatedExperiment

Json: TypeAlias = dict[str, Any]

EVALUATION: Json = {"evaluation": {"outputFormats": ["junit", "json", "csv"]}}


def provider(name: str, base_url: str, key: str | None = None, **spec: Any) -> list[Json]:
    """A Provider of type openai, with the Secret that holds its key."""
    made: Json = {"type": "openai", "model": f"model-{name}", "baseURL": base_url, **spec}
    if key is not None:
        made["credential"] = {"secretRef": {"name": f"{name}-secret"}}
    documents = [{"apiVersion": API_VERSION, "kind": "Provider", "metadata": {"name": name}, "spec": made}]
    if key is not None:
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"{name}-secret"}}
        documents.append(secret | {"stringData": {"api-key": key}})
    return documents


def agent_runtime(name: str, url: str, protocol: str = "a2a") -> list[Json]:
    """An AgentRuntime that is reached at this address."""
    status = {"facade": {"endpoints": [{"protocol": protocol, "url": url}]}}
    return [{"apiVersion": API_VERSION, "kind": "AgentRuntime", "metadata": {"name": name}, "status": status}]


def arena_job(groups: Mapping[str, Sequence[Json]], **spec: Any) -> Json:
    """A job of the name `nightly`."""
    whole = {"sourceRef": {"name": "bundle"}, "providers": dict(groups), **spec}
    return {"apiVersion": API_VERSION, "kind": "ArenaJob", "metadata": {"name": "nightly"}, "spec": whole}


def model(name: str) -> Json:
    return {"providerRef": {"name": name}}


def agent_entry(name: str) -> Json:
    return {"agentRef": {"name": name}}


def asks(name: str, *inputs: str, text: str = "answer to") -> Json:
    """A scenario whose answers have to contain a text."""
    metric = {"metric_name": "builtin.contains", "threshold": 0.5, "parameters": {"text": text}}
    return {"name": name, "steps": [{"input": each, "metrics": [metric]} for each in inputs]}


@dataclass
class Arena:
    """A folder with a manifest, a bundle and results."""

    root: Path

    @property
    def manifest(self) -> Path:
        return self.root / "job.yaml"

    @property
    def source(self) -> Path:
        return self.root / "bundle"

    @property
    def output(self) -> Path:
        return self.root / "output"

    def write(self, job: Json, *documents: Sequence[Json]) -> None:
        found = [job, *(document for each in documents for document in each)]
        self.manifest.write_text(yaml.safe_dump_all(found))

    def bundle(self, **files: Json) -> None:
        """Files of the bundle by name, without `.yaml`."""
        self.source.mkdir(exist_ok=True)
        for name, content in files.items():
            (self.source / f"{name.replace('__', '.')}.yaml").write_text(yaml.safe_dump(content))

    def call(self, name: str, *arguments: str, output: bool = True) -> int:
        """The exit code of a command on this job."""
        kept = ("--output", str(self.output)) if output else ()
        return main(command, [name, str(self.manifest), "--source", str(self.source), *kept, *arguments])

    @property
    def runs(self) -> list[Path]:
        """The folders of all runs, the oldest first."""
        folder = self.output / "default" / "nightly"
        begun = {path: (path / "plan.json").stat().st_mtime_ns for path in folder.iterdir()} if folder.exists() else {}
        return sorted(begun, key=begun.__getitem__)

    @property
    def run(self) -> Path:
        """The folder of the only run."""
        (found,) = self.runs
        return found

    def results(self, run: Path | None = None) -> EvaluatedExperiment:
        return EvaluatedExperiment.model_validate_json(((run or self.run) / "results.json").read_bytes())

    def summary(self, run: Path | None = None) -> Json:
        found: Json = json.loads(((run or self.run) / "summary.json").read_text())
        return found

    def plan(self, run: Path | None = None) -> Plan:
        return Plan.model_validate_json(((run or self.run) / "plan.json").read_bytes())


TIMES = frozenset({"started_at", "finished_at", "wall_seconds", "latency_ms", "time_to_first_token_ms", "timestamp"})
CHANCE = frozenset({"trace_id", "span_id", "context_id", "task_id"})


def timeless(value: Any) -> Any:
    """The same data without times and random ids."""
    if isinstance(value, dict):
        return {key: timeless(one) for key, one in value.items() if key not in TIMES | CHANCE}
    return [timeless(one) for one in value] if isinstance(value, list) else value
