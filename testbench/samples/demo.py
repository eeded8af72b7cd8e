"""`make demo`: starts the sample agent on a free port, runs the whole pipeline against it, and stops it again.

The agent and the pipeline are processes of their own, as they would be for a user's agent.
"""

from __future__ import annotations

import signal
import subprocess  # starts this interpreter with fixed arguments  # nosec B404
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbench.errors import ExitCode
from testbench.samples.locate import sample_path

CONFIG = Path(__file__).with_name("pipeline.yaml")
READY = "weather agent ready at "


def main() -> int:
    """Run the demo; the exit code is the pipeline's."""
    signal.signal(signal.SIGTERM, raise_interrupt)
    try:
        with running_agent() as agent_url:
            print(f"The sample agent answers at {agent_url}\n", flush=True)
            return _pipeline(agent_url)
    except KeyboardInterrupt:
        return int(ExitCode.INTERRUPTED)


@contextmanager
def running_agent() -> Iterator[str]:
    """The agent's URL while it runs."""
    command = [sys.executable, "-m", "testbench.samples.weather_agent", "--port", "0"]
    agent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603  # nosec B603
    try:
        line = agent.stdout.readline() if agent.stdout else ""
        if not line.startswith(READY):
            raise SystemExit(agent.wait())
        yield line.removeprefix(READY).strip()
    finally:
        agent.terminate()
        agent.wait()


def _pipeline(agent_url: str) -> int:
    settings = {"run.agent_url": agent_url, "setup.dataset": str(sample_path("experiment.yaml"))}
    overrides = [argument for key, value in settings.items() for argument in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "testbench.pipeline", str(CONFIG), *overrides]
    return subprocess.run(command, check=False).returncode  # noqa: S603  # nosec B603


def raise_interrupt(number: int, frame: object) -> None:
    """SIGTERM ends a demo like Ctrl-C does."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
