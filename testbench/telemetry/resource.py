"""Who sends: the resource of traces, data points and events, the same for all of them.

It carries no `service.instance.id` unless the environment gives one. The SDK's default is random for each process, and
in Prometheus, where it becomes the label `instance`, every run would start a new series of every gauge.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

from testbench import __version__
from testbench.telemetry import attributes as names
from testbench.telemetry.content import attribute_text


def resource_attributes(workflow_name: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The resource as OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME say, with Testbench's own below and above it.

    As the specification asks, OTEL_SERVICE_NAME wins over `service.name` in OTEL_RESOURCE_ATTRIBUTES, and a pair that
    cannot be read is left out.
    """
    own = {names.SERVICE_NAME: names.SERVICE, names.SERVICE_VERSION: __version__}
    pairs = (pair.partition("=") for pair in environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","))
    given = {key.strip(): unquote(value.strip()) for key, equals, value in pairs if key.strip() and equals}
    service = environ.get("OTEL_SERVICE_NAME", "").strip()
    named = {names.SERVICE_NAME: service} if service else {}
    resource = own | given | named | {names.WORKFLOW_NAME: workflow_name}
    return {key: attribute_text(value) for key, value in resource.items()}
