"""The operator as a process: `python -m testbench.arena.operator`.

Runs until SIGTERM. It keeps nothing: killed at any moment and started again, it goes on from what is in the cluster.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

import click

from testbench import defaults
from testbench.arena.cluster.access import find_access
from testbench.arena.cluster.api import Json
from testbench.arena.cluster.http import HttpCluster
from testbench.arena.operator.loop import OperatorLoop, serve_probes
from testbench.arena.operator.settings import Settings
from testbench.errors import InputError, TestbenchError
from testbench.safe_text import printable

PREFIX = "TESTBENCH_ARENA_OPERATOR"


@click.command(context_settings={"auto_envvar_prefix": PREFIX, "show_default": True})
@click.option("--namespace", "namespaces", multiple=True, help="Look after this namespace; again for more. [all]")
@click.option("--image", default=defaults.OPERATOR_IMAGE, help="Of the workers.")
@click.option(
    "--image-pull-policy", default=defaults.OPERATOR_PULL_POLICY, type=click.Choice(["Always", "IfNotPresent", "Never"])
)
@click.option(
    "--worker-service-account",
    default=defaults.OPERATOR_SERVICE_ACCOUNT,
    help="Of the workers, who get no token of it.",
)
@click.option("--worker-resources", metavar="JSON", help="Requests and limits of every worker.")
@click.option("--allow-cross-namespace", is_flag=True, help="Let jobs use Providers of other namespaces.")
@click.option(
    "--retries",
    default=defaults.OPERATOR_RETRIES,
    type=click.IntRange(0, 100),
    help="Of a shard, before it counts as failed.",
)
@click.option(
    "--gang-timeout",
    default=defaults.OPERATOR_START_TIMEOUT_S,
    help="Seconds until all workers of a load test have to be ready.",
)
@click.option("--start-lead", default=defaults.OPERATOR_START_LEAD_S, help="Seconds from then to their common start.")
@click.option(
    "--health-port",
    default=defaults.OPERATOR_HEALTH_PORT,
    type=click.IntRange(0, 65535),
    help="Of /healthz and /readyz.",
)
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="Instead of the pod's own service account.")
@click.option("--server", metavar="URL", help="An API server that asks for no credentials, e.g. kubectl proxy.")
def command(**options: Any) -> None:
    """Keep ArenaJobs running: their Jobs, their schedules and their status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        asyncio.run(_run(options))
    except TestbenchError as error:
        click.echo(f"error: {error.message}\nhint: {error.hint}", err=True)
        sys.exit(int(error.exit_code))


async def _run(options: dict[str, Any]) -> None:
    settings = _settings(options)
    access = find_access(os.environ, options["kubeconfig"], options["server"])
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with HttpCluster(access) as cluster:
        loop = OperatorLoop(cluster, settings, options["namespaces"])
        async with serve_probes(options["health_port"], lambda: loop.alive, lambda: loop.ready):
            await loop.run(stop)


def _settings(options: dict[str, Any]) -> Settings:
    return Settings(
        image=options["image"],
        image_pull_policy=options["image_pull_policy"],
        service_account=options["worker_service_account"],
        cross_namespace=options["allow_cross_namespace"],
        retries=options["retries"],
        start_timeout_s=options["gang_timeout"],
        start_lead_s=options["start_lead"],
        resources=_resources(options["worker_resources"]),
    )


def _resources(text: str | None) -> Json | None:
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        hint = """Write it as a container has it: {"requests": {"cpu": "1"}, "limits": {"memory": "2Gi"}}."""
        raise InputError(f"--worker-resources: {printable(text, 100)} is not a JSON object", hint=hint)
    return found


if __name__ == "__main__":
    command()
