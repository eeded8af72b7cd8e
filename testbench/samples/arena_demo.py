"""`make arena-demo`: starts the sample agent on a free port, runs the sample ArenaJob against it, and stops it again.

The manifest is the sample's with the agent's real address; agent and job are processes of their own.
"""

from __future__ import annotations

import signal
import subprocess  # starts this interpreter with fixed arguments  # nosec B404
import sys
import tempfile
from pathlib import Path

from testbench.errors import ExitCode
from testbench.samples.demo import raise_interrupt, running_agent

SAMPLES = Path(__file__).with_name("arena")
SAMPLE_ADDRESS = "http://127.0.0.1:11010/"


def main() -> int:
    """Run the demo; the exit code is the job's."""
    signal.signal(signal.SIGTERM, raise_interrupt)
    try:
        with running_agent() as agent_url, tempfile.TemporaryDirectory(prefix="testbench-arena-") as folder:
            print(f"The sample agent answers at {agent_url}\n", flush=True)
            manifest = Path(folder) / "job.yaml"
            manifest.write_text((SAMPLES / "job.yaml").read_text().replace(SAMPLE_ADDRESS, agent_url))
            command = [sys.executable, "-m", "testbench.arena.cli", "run", str(manifest), "--source", str(SAMPLES)]
            return subprocess.run(command, check=False).returncode  # noqa: S603  # nosec B603
    except KeyboardInterrupt:
        return int(ExitCode.INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
