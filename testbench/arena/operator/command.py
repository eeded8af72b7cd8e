"""`testbench operator`: the controller for ArenaJobs, as a process.

Runs until SIGTERM. It keeps nothing: killed at any moment and started again, it goes on from what is in the cluster.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from testbench import defaults
from testbench.cli.options import Seconds, option
from testbench.cli.phase import Outcome, phase, run_async
from testbench.errors import InputError
from testbench.safe_text import printable

if TYPE_CHECKING:
    from testbench.arena.cluster.api import Json
    from testbench.arena.operator.settings import OperatorSettings


@phase("operator", within="arena")
@option("--namespace", "namespaces", multiple=True, show_default="all", help="Namespace to look after; again for more.")
@option("--image", default=defaults.OPERATOR_IMAGE, help="Of the workers.")
@option(
    "--image-pull-policy", default=defaults.OPERATOR_PULL_POLICY, type=click.Choice(["Always", "IfNotPresent", "Never"])
)
@option(
    "--worker-service-account",
    default=defaults.OPERATOR_SERVICE_ACCOUNT,
    help="Of the workers, who get no token of it.",
)
@option("--worker-resources", metavar="JSON", help="Requests and limits of every worker.")
@option("--allow-cross-namespace", is_flag=True, help="Let jobs use Providers of other namespaces.")
@option(
    "--retries",
    default=defaults.OPERATOR_RETRIES,
    type=click.IntRange(0, 100),
    help="Of a shard, before it counts as failed.",
)
@option(
    "--gang-timeout",
    type=Seconds(),
    default=defaults.OPERATOR_START_TIMEOUT_S,
    help="Seconds in which all workers of a load test have to be ready.",
)
@option(
    "--start-lead",
    type=Seconds(),
    default=defaults.OPERATOR_START_LEAD_S,
    help="Seconds from then to their common start.",
)
@option(
    "--health-port",
    default=defaults.OPERATOR_HEALTH_PORT,
    type=click.IntRange(0, 65535),
    help="Of /healthz and /readyz.",
)
@option("--kubeconfig", type=click.Path(path_type=Path), help="Instead of the pod's own service account.")
@option("--server", metavar="URL", help="An API server that asks for no credentials, e.g. kubectl proxy.")
def command(**options: Any) -> Outcome:
    """Keep ArenaJobs running: their Jobs, their schedules and their status."""
    run_async(_run(options))
    return Outcome("stopped; what is in the cluster goes on")


async def _run(options: dict[str, Any]) -> None:
    from testbench.arena.cluster.access import find_access
    from testbench.arena.cluster.http import HttpCluster
    from testbench.arena.operator.loop import OperatorLoop, serve_probes

    settings = _settings(options)
    access = find_access(os.environ, options["kubeconfig"], options["server"])
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with HttpCluster(access) as cluster:
        loop = OperatorLoop(cluster, settings, options["namespaces"])
        async with serve_probes(options["health_port"], lambda: loop.alive, lambda: loop.ready):
            await loop.run(stop)


def _settings(options: dict[str, Any]) -> OperatorSettings:
    from testbench.arena.operator.settings import OperatorSettings

    return OperatorSettings(
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
