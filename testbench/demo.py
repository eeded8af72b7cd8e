"""The whole pipeline against the sample agent, in the working directory: what a newcomer runs first."""

from __future__ import annotations

import sys
from typing import Any

import click

from testbench.cli.phase import Outcome, main, phase


@phase("demo")
def command(**options: Any) -> Outcome:
    """Start the sample weather agent, ask it the sample scenarios, and end with a verdict and a report.

    It needs no key and no network, and writes below ./data as every run does.
    """
    from testbench import pipeline
    from testbench.samples.demo import CONFIG, running_agent
    from testbench.samples.locate import sample_path

    with running_agent() as agent_url:
        click.echo(f"The sample agent answers at {agent_url}\n", err=options["as_json"])
        overrides = {"run": {"agent_url": agent_url}, "setup": {"dataset": str(sample_path("experiment.yaml"))}}
        return pipeline.run_phases(CONFIG, overrides, as_json=options["as_json"])


if __name__ == "__main__":
    sys.exit(main(command))
