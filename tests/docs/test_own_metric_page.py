"""What `docs/how-to/own-metric.md` tells a metric author to write passes mypy in its strict mode.

That it judges is tested in `test_metrics_page`, and that it can be installed by the commands of the page.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.docs_pages import ROOT, blocks

PAGE = ROOT / "docs/how-to/own-metric.md"
JUDGED = """\
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from testbench.metrics.adapter import FrameworkAdapter
from testbench.metrics.judge.judge import Judge, Question
from testbench.metrics.protocol import MetricCallable, MetricResult, MetricSpec, Sample


class Answer(BaseModel):
    calm: bool


class Asking:
    def __init__(self, judge: Judge) -> None:
        self.judge = judge

    async def __call__(self, sample: Sample, **overrides: Any) -> MetricResult:
        answer = await self.judge.ask(Question(f"Is this calm? {sample.response}", Answer))
        return MetricResult(score=float(answer.calm))


class AskingAdapter(FrameworkAdapter):
    framework = "asking"

    def specs(self) -> Mapping[str, MetricSpec]:
        return {"Calm": MetricSpec("asking", "Calm", "A judge finds the answer calm.", needs_llm=True)}

    def create(self, name: str, parameters: Mapping[str, Any], judge: Judge | None) -> MetricCallable:
        assert judge is not None
        return Asking(judge)
"""


def test_an_author_s_file_passes_mypy_in_its_strict_mode(tmp_path: Path) -> None:
    programs = [block.text for block in blocks(PAGE.read_text()) if block.language == "python"]
    assert programs
    for number, program in enumerate([*programs, JUDGED]):
        (tmp_path / f"author_{number}.py").write_text(program)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", str(tmp_path / "cache"), "."]
    environment = {"PATH": "/usr/bin:/bin", "MYPYPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout
