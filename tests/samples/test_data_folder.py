"""`data/` of a checkout: the samples are the package's, and what the phases write there is no change to commit."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from testbench import defaults
from testbench.samples.locate import sample_path

ROOT = Path(__file__).parents[2]
SAMPLES = ("weather.csv", "experiment.yaml")
WRITTEN = (
    defaults.EXPERIMENT_FILE,
    defaults.EXECUTED_FILE,
    defaults.EVALUATED_FILE,
    defaults.REPORT_FILE,
    defaults.VERDICT_FILE,
    defaults.JUNIT_FILE,
    defaults.JUDGE_CACHE / "answers.db",
    Path("data/arena/default/job/run/summary.json"),
)


def is_ignored(path: Path) -> bool:
    return subprocess.run(["git", "check-ignore", "--quiet", "--no-index", path], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_is_that_of_the_package(name: str) -> None:
    assert (ROOT / "data/datasets" / name).read_bytes() == sample_path(name).read_bytes()


@pytest.mark.parametrize("path", WRITTEN, ids=str)
def test_what_a_phase_writes_is_ignored(path: Path) -> None:
    assert is_ignored(path)


@pytest.mark.parametrize("name", ["README.md", *(f"datasets/{name}" for name in SAMPLES)])
def test_what_belongs_to_the_repository_is_not_ignored(name: str) -> None:
    assert not is_ignored(Path("data") / name)
