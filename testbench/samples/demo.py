"""What the demos run on: the sample agent as a process of its own, and the files that they ask it.

Called by `testbench demo` and `testbench arena demo`.
"""

from __future__ import annotations

import subprocess  # starts this interpreter with fixed arguments  # nosec B404
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from testbench.errors import WorkError

CONFIG: Final = Path(__file__).with_name("pipeline.yaml")
ARENA_FOLDER: Final = Path(__file__).with_name("arena")
"""The sample bundle, with a manifest `job.yaml` for it."""
_READY: Final = "weather agent ready at "
_ADDRESS_IN_MANIFEST: Final = "http://127.0.0.1:11010/"


@contextmanager
def running_agent() -> Iterator[str]:
    """Start the sample agent on a free port, and stop it at the end; yields its URL.

    Raises:
        WorkError: it does not start; what it said about it is on stderr.
    """
    command = [sys.executable, "-m", "testbench.samples.weather_agent", "--port", "0"]
    agent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603  # nosec B603
    try:
        line = agent.stdout.readline() if agent.stdout else ""
        if not line.startswith(_READY):
            raise WorkError("the sample agent does not start", hint="What it printed before this line says why.")
        yield line.removeprefix(_READY).strip()
    finally:
        agent.terminate()
        agent.wait()


def arena_manifest(agent_url: str) -> str:
    """Return the sample ArenaJob's manifest for an agent at this address."""
    return (ARENA_FOLDER / "job.yaml").read_text(encoding="utf-8").replace(_ADDRESS_IN_MANIFEST, agent_url)
