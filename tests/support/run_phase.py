"""What the tests of the phase run share: a working folder with an experiment, and the phase called as a command."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbench.cli.phase import main
from testbench.run import command
from testbench.schema.models import ExecutedExperiment, ExecutedStep

OUTPUT = "data/experiments/executed_experiment.json"
JOURNAL = f"{OUTPUT}.journal"


@dataclass(frozen=True)
class Desk:
    """The current folder, with an experiment for the phase to find."""

    folder: Path

    def ask(self, *scenarios: str | tuple[str, ...], **more: Any) -> None:
        """Write an experiment; a scenario is the texts of its steps."""
        conversations = [(scenario,) if isinstance(scenario, str) else scenario for scenario in scenarios]
        document = {
            "scenarios": [
                {"name": f"scenario {number}", "steps": [{"input": text} for text in texts]}
                for number, texts in enumerate(conversations, start=1)
            ]
        }
        path = self.folder / "data/datasets/experiment.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document | more))

    def run(self, url: str, *arguments: str) -> int:
        """The phase in this process; its exit code."""
        return main(command, [url, *arguments])

    def executed(self) -> ExecutedExperiment:
        return ExecutedExperiment.model_validate_json((self.folder / OUTPUT).read_bytes())

    def steps(self) -> list[ExecutedStep]:
        return [step for scenario in self.executed().scenarios for step in scenario.steps]

    def left(self) -> set[str]:
        """The names of all files beside the output."""
        return {path.name for path in (self.folder / OUTPUT).parent.glob("*")}
