"""Runs a TestWorkflow on this machine as a standalone Testkube agent would: templates, parameters, conditions, retries
and artifacts. Each phase is called in this process, in a folder that stands for `/app`.

Testkube's rules that matter here: a template sees only the parameters that it is given; a step runs if its condition
holds, and a step inside a template only if its own holds as well; `passed` means that nothing has failed so far; the
workflow passes if no step fails; artifacts are taken whatever became of their step.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Literal
from unittest.mock import patch

from testbench.cli.phase import main
from tests.support.manifest_files import Document, load, template

EXPRESSION = re.compile(r"\{\{\s*(.*?)\s*\}\}")
NOT_EMPTY = re.compile(r'(config\.\w+) != ""')
EXECUTION = {"execution.id": "65f0c0ffee", "execution.number": "7"}


@dataclass(frozen=True)
class Ran:
    """What became of a step: the exit code of every attempt; none of a step that was skipped."""

    codes: tuple[int, ...] = ()

    @property
    def status(self) -> Literal["passed", "failed", "skipped"]:
        if not self.codes:
            return "skipped"
        return "failed" if self.codes[-1] else "passed"


@dataclass
class Execution:
    """One run of a workflow: its steps by name in their order, and the artifacts that were there to be taken."""

    folder: Path
    steps: dict[str, Ran] = field(default_factory=dict)
    artifacts: dict[str, bytes] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return all(ran.status != "failed" for ran in self.steps.values())

    @property
    def statuses(self) -> dict[str, str]:
        return {name: ran.status for name, ran in self.steps.items()}


def run_workflow(
    name: str, folder: Path, config: Mapping[str, str], secrets: Mapping[str, str] | None = None
) -> Execution:
    """Run `deploy/local/NAME.yaml` in `folder`, which is the working directory. `secrets` is the Secret by key."""
    workflow = load(f"local/{name}.yaml")
    about = {**EXECUTION, "workflow.name": workflow["metadata"]["name"]}
    scope = {**about, **bound(workflow["spec"], config)}
    execution = Execution(folder)
    for step in workflow["spec"]["steps"]:
        called = template(step["template"]["name"].removesuffix("-template"))
        given = {key: resolved(value, scope) for key, value in step["template"]["config"].items()}
        within = {**about, **bound(called, given)}
        (inner,) = called["steps"]
        if holds(step.get("condition"), execution, scope) and holds(inner.get("condition"), execution, within):
            execution.steps[step["name"]] = attempted(inner, within, secrets or {}, folder)
            take(inner.get("artifacts", {}).get("paths", ()), execution)
        else:
            execution.steps[step["name"]] = Ran()
    return execution


def bound(spec: Document, given: Mapping[str, str]) -> dict[str, str]:
    """The parameters of a workflow or template as `config.NAME`; one that is not declared is a fault."""
    declared = spec["config"]
    assert set(given) <= set(declared), f"not declared: {set(given) - set(declared)}"
    values = {name: given.get(name, schema.get("default")) for name, schema in declared.items()}
    return {f"config.{name}": str(value) for name, value in values.items() if value is not None}


def resolved(text: str, scope: Mapping[str, str]) -> str:
    return EXPRESSION.sub(lambda found: scope[found[1]], text)


def holds(condition: str | None, execution: Execution, scope: Mapping[str, str]) -> bool:
    """Whether an expression of the few forms that the workflows use holds: always, passed, config.x != ""."""
    terms = (condition or "passed").split(" && ")
    return all(_term(term, execution, scope) for term in terms)


def _term(term: str, execution: Execution, scope: Mapping[str, str]) -> bool:
    if term in ("always", "passed"):
        return term == "always" or execution.passed
    comparison = NOT_EMPTY.fullmatch(term)
    assert comparison, f"no such expression: {term}"
    return scope[comparison[1]] != ""


def variables(
    entries: Iterable[Document], scope: Mapping[str, str], secrets: Mapping[str, str]
) -> Iterable[tuple[str, str]]:
    for entry in entries:
        if "value" in entry:
            yield entry["name"], resolved(entry["value"], scope)
            continue
        reference = entry["valueFrom"]["secretKeyRef"]
        if reference["key"] in secrets or not reference["optional"]:
            yield entry["name"], secrets[reference["key"]]


def attempted(step: Document, scope: Mapping[str, str], secrets: Mapping[str, str], folder: Path) -> Ran:
    """Call the phase that a template's step names until it passes, once and as often again as it may be retried."""
    run, retries = step["run"], step.get("retry", {}).get("count", 0)
    interpreter, flag, module = run["command"]
    assert (interpreter, flag) == ("python3", "-m")
    phase = import_module(module).command
    arguments = [resolved(argument, scope).replace("/app/", f"{folder}/") for argument in run.get("args", ())]
    codes: list[int] = []
    with patch.dict(os.environ, dict(variables(run.get("env", ()), scope, secrets))):
        while not codes or (codes[-1] and len(codes) <= retries):
            codes.append(main(phase, arguments))
    return Ran(tuple(codes))


def take(paths: Iterable[str], execution: Execution) -> None:
    found = (path for path in paths if (execution.folder / path).is_file())
    execution.artifacts.update({path: (execution.folder / path).read_bytes() for path in found})
