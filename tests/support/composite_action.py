"""A small interpreter of a composite action: its shell steps run for real, the steps that use other actions are noted.

It knows the expressions that the project's own action has, and fails on any other.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EXPRESSION = re.compile(r"\$\{\{\s*([\w.-]+)\s*\}\}")
UNLESS_EMPTY = re.compile(r"always\(\) && (inputs\.[\w-]+) != ''")


@dataclass
class ActionRun:
    """How a run of the action ended, and what it left."""

    code: int = 0
    log: str = ""
    summary: str = ""
    outputs: dict[str, str] = field(default_factory=dict)
    used: dict[str, dict[str, str]] = field(default_factory=dict)
    """The inputs of every other action, by its name without the version."""


@dataclass(frozen=True)
class Runner:
    """A machine that runs the action in `workspace`; `context` is what `github.` and `runner.` expressions mean."""

    workspace: Path
    temp: Path
    context: Mapping[str, str]
    environment: Mapping[str, str]

    def run(self, action: Mapping[str, Any], **inputs: str) -> ActionRun:
        """Run the steps one after the other; inputs are given with `_` for `-`."""
        given = {name.replace("_", "-"): text for name, text in inputs.items()}
        assert given.keys() <= action["inputs"].keys()
        known = dict(self.context)
        for name, declared in action["inputs"].items():
            known[f"inputs.{name}"] = given.get(name, self._text(str(declared.get("default", "")), known))
        ended = ActionRun()
        for step in action["runs"]["steps"]:
            if not self._wanted(step.get("if"), ended.code, known):
                continue
            if "uses" in step:
                filled = {name: self._text(str(text), known) for name, text in step["with"].items()}
                ended.used[step["uses"].partition("@")[0]] = filled
                continue
            code, log, outputs = self._shell(step, known)
            known |= {f"steps.{step.get('id')}.outputs.{name}": text for name, text in outputs.items()}
            ended.code, ended.log = ended.code or code, ended.log + log
        ended.outputs = {name: self._text(told["value"], known) for name, told in action["outputs"].items()}
        summary = self.temp / "step-summary"
        ended.summary = summary.read_text() if summary.exists() else ""
        return ended

    def _wanted(self, condition: str | None, code: int, known: Mapping[str, str]) -> bool:
        if condition is None:
            return code == 0
        if unless_empty := UNLESS_EMPTY.fullmatch(condition):
            return known[unless_empty[1]] != ""
        assert condition == "always()", condition
        return True

    def _text(self, template: str, known: Mapping[str, str]) -> str:
        """A template with its expressions filled in; an output that no step has set is empty, as on GitHub."""

        def value(found: re.Match[str]) -> str:
            return known.get(found[1], "") if found[1].startswith("steps.") else known[found[1]]

        return EXPRESSION.sub(value, template)

    def _shell(self, step: Mapping[str, Any], known: Mapping[str, str]) -> tuple[int, str, dict[str, str]]:
        assert step["shell"] == "bash"
        script, outputs = self.temp / "step.sh", self.temp / "step-outputs"
        script.write_text(step["run"])
        outputs.write_text("")
        environment = {
            **os.environ,
            **self.environment,
            "GITHUB_OUTPUT": str(outputs),
            "GITHUB_STEP_SUMMARY": str(self.temp / "step-summary"),
            **{name: self._text(str(text), known) for name, text in step.get("env", {}).items()},
        }
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
            cwd=self.workspace,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )
        told = dict(line.split("=", 1) for line in outputs.read_text().splitlines())
        return done.returncode, done.stdout + done.stderr, told
