"""What the docs tell a reader to type is typed, and prints what they show.

The blocks of a page (marked as `tests.support.docs_pages` says) run in their order in one empty folder, with the
scripts and the sample datasets where a checkout has them. The ports of the docs stand for the sample agent, a judge, a
collector, and nobody.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.docs_pages import PAGES, ROOT, Block, blocks
from tests_e2e.conftest import Bench

if TYPE_CHECKING:
    from tests.support.servers.otlp_receiver import OtlpReceiver
    from tests.support.servers.scripted_judge import ScriptedJudge

RUNNABLE = [page for page in PAGES if any(block.mark.startswith("run") for block in blocks(page.read_text()))]
UV = """#!/bin/sh
case "$1" in
  run) shift; exec "$@" ;;
  pip) exec python "$(dirname "$0")/install.py" "$3" ;;
esac
exit 2
"""
"""`uv run` in this environment, and `uv pip install` of a package without dependencies."""
INSTALL = """
import shutil, sys, tomllib
from pathlib import Path

source, site = Path(sys.argv[1]), Path(__file__).with_name("site")
package = tomllib.loads((source / "pyproject.toml").read_text())["project"]
shutil.copytree(source, site, dirs_exist_ok=True)
about = site / f"{package['name'].replace('-', '_')}-{package['version']}.dist-info"
about.mkdir()
(about / "METADATA").write_text(f"Name: {package['name']}\\nVersion: {package['version']}\\n")
for group, points in package["entry-points"].items():
    lines = [f"[{group}]", *(f"{name} = {place}" for name, place in points.items())]
    (about / "entry_points.txt").write_text("\\n".join(lines))
"""
HASTE = {"TESTBENCH_RUN_RETRIES": "0", "TESTBENCH_PUBLISH_TIMEOUT": "1"}
"""Somebody who is not there is not waited for as long as in real life."""
VARYING = re.compile(r"[\d.,]+(?= (?:s|ms|MB|steps/s)\b)|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC")


@dataclass
class Reader:
    """Somebody who types what a page says, in a folder of their own."""

    folder: Path
    places: Mapping[str, str]
    """What stands in the docs for an address, and the address."""
    exports: str = ""
    printed: str = ""

    def follow(self, block: Block) -> None:
        kind, _, about = block.mark.partition(": ")
        if kind == "file":
            path = self.folder / about
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self._placed(block.text))
        elif kind == "run":
            self._type(block.text, int(about.removeprefix("exit ") or 0))
        elif kind == "output":
            self._compare(block.text)

    def _type(self, script: str, code: int) -> None:
        text = self._placed(script)
        done = subprocess.run(
            ["bash", "-e", "-c", f"{self.exports}\n{text}"],
            cwd=self.folder,
            env=HASTE
            | {
                "PATH": f"{self.folder}/.bin:{Path(sys.executable).parent}:/usr/bin:/bin",
                "PYTHONPATH": f"{self.folder}/.bin/site",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=300,
        )
        self.printed = done.stdout
        for shown, real in self.places.items():
            self.printed = self.printed.replace(real, shown)
        assert done.returncode == code, f"{script}{self.printed}"
        self.exports += "".join(f"{line}\n" for line in text.splitlines() if line.startswith("export "))

    def _placed(self, text: str) -> str:
        for shown, real in self.places.items():
            text = text.replace(shown, real)
        return text

    def _compare(self, shown: str) -> None:
        ahead = iter(_steady(self.printed).splitlines())
        for line in _steady(shown).splitlines():
            assert line == "…" or line in ahead, (
                f"{line!r} is not what was printed, or not in this order:\n{self.printed}"
            )


def _steady(text: str) -> str:
    """Without what differs from run to run: durations, rates and sizes."""
    return "\n".join(" ".join(VARYING.sub("N", line).split()) for line in text.splitlines())


@pytest.fixture
def reader(tmp_path: Path, weather_agent: str, judge: ScriptedJudge, otlp: OtlpReceiver, nobody: str) -> Reader:
    (tmp_path / ".bin").mkdir()
    (tmp_path / ".bin/uv").write_text(UV)
    (tmp_path / ".bin/install.py").write_text(INSTALL)
    (tmp_path / ".bin/uv").chmod(0o755)
    (tmp_path / "testbench").symlink_to(ROOT / "testbench")
    (tmp_path / "data/datasets").mkdir(parents=True)
    for name in ("weather.csv", "experiment.yaml"):
        shutil.copy(ROOT / "data/datasets" / name, tmp_path / "data/datasets")
    places = {
        "localhost:11010": _address(weather_agent),
        "localhost:11001": _address(judge.base_url),
        "localhost:4318": _address(otlp.endpoint),
        "localhost:11099": _address(nobody),
    }
    return Reader(tmp_path, places)


def _address(url: str) -> str:
    return url.split("/")[2]


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.stem)
def test_what_a_page_tells_to_type_does_what_it_says(page: Path, reader: Reader) -> None:
    for block in blocks(page.read_text()):
        reader.follow(block)


def _attributes(page: str, first_cell: str) -> set[str]:
    """What the row of a table names in its last cell."""
    (row,) = (line for line in page.splitlines() if line.startswith(f"| {first_cell}"))
    return set(re.findall("`([^`]+)`", re.sub(r"\([^)]*\)", "", row.split("|")[-2])))


def test_the_telemetry_page_lists_the_attributes_that_are_sent(
    bench: Bench, weather_agent: str, judge: ScriptedJudge, otlp: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp.endpoint)
    monkeypatch.setenv("OPENAI_API_BASE", judge.base_url)
    dataset = str(ROOT / "testbench/samples/datasets/weather.csv")
    assert (
        bench.run("setup", dataset, "--limit=2", "--metric=Faithfulness=0.0", "--metric=builtin.tool_calls").code == 0
    )
    assert bench.run("run", weather_agent, "--repeats=2").code == 0
    assert bench.run("evaluate", "--model=judge").code == 0
    assert bench.run("publish", "weather", "exec-001", "1").code == 0
    page = (ROOT / "docs/reference/telemetry.md").read_text()
    sent: dict[str, set[str]] = {}
    for span in otlp.spans:
        sent.setdefault(span.name.split()[0], set()).update(span.attributes)
    assert sent == {
        "scenario": _attributes(page, "`scenario {name}`"),
        "step": _attributes(page, "`step {number}`"),
        "POST": _attributes(page, "the HTTP method"),
        "evaluate": _attributes(page, "`evaluate {metric}`"),
    }
    common = _attributes(page, "`testbench_evaluation_pass_rate`")
    for gauge, more in (("pass_rate", set()), ("score_mean", set()), ("errors", {"result"})):
        points = otlp.points_of(f"testbench_evaluation_{gauge}")
        assert {frozenset(point.attributes) for point in points} == {frozenset(common | more)}
