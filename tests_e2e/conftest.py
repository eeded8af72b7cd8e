"""Fixtures of the end-to-end tests: parts of the unit tests, the sample agent as a process, and a working folder."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import (  # noqa: F401 - fixtures are found by their names here
    attempts_to_leave,
    chat,
    clean_environment,
    judge,
    loopback_guard,
    nobody,
    otlp,
    s3,
    s3_server,
)

ROOT = Path(__file__).parents[1]
READY = "weather agent ready at "


@dataclass(frozen=True)
class Ended:
    """A script that ended: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def last_line(self) -> str:
        """The line that says the same as the exit code: on stdout, or on stderr after an error."""
        return (self.out or self.err).splitlines()[-1]


Script = Callable[..., Ended]


@dataclass(frozen=True)
class Bench:
    """A working folder and the scripts run in it, as `python testbench/<name>.py` from a checkout would."""

    folder: Path

    def run(self, name: str, *arguments: str, timeout: float = 300) -> Ended:
        done = subprocess.run(
            [sys.executable, str(ROOT / "testbench" / f"{name}.py"), *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def read(self, path: str) -> Any:
        return json.loads((self.folder / path).read_text())

    def files(self) -> set[str]:
        """Every file in the working folder, hidden and temporary ones too."""
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture(scope="session")
def weather_agent() -> Iterator[str]:
    """The sample agent as a process of its own; its URL."""
    command = [sys.executable, "-m", "testbench.samples.weather_agent", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as agent:
        try:
            assert agent.stdout is not None
            line = agent.stdout.readline()
            assert line.startswith(READY), line
            yield line.removeprefix(READY).strip()
        finally:
            agent.terminate()
