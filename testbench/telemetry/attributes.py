"""Every name that leaves Testbench over OTLP, and what of a text or an environment may become the value of one.

Dashboards, alerts and links are built on these names, so they change here and nowhere else, but for what execution
and metrics tell their spans (`testbench.schema.tracing`). Names without a dot are the telemetry contract; `gen_ai.*`
are OpenTelemetry's conventions for generative AI (status: development), `error.type`, `service.*` and those of HTTP
clients its stable ones.

Inputs, references, answers and a judge's reasons are content: `TESTBENCH_TRACE_CONTENT=false` keeps all of it out of
spans, data points and events.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

from testbench import __version__
from testbench.schema import tracing
from testbench.schema.tracing import CONTEXT_ID, SCENARIO_ID, STEP_ID, TASK_ID

SERVICE_NAME: Final = "service.name"
SERVICE_VERSION: Final = "service.version"
SERVICE: Final = "testbench"
"""Value of `service.name` where the environment names none."""
PUBLISH_SCOPE: Final = "testbench.publish"
RUN_SCOPE: Final = "testbench.run"

# --- gauges; none has a unit: a unit would become a suffix of the name in Prometheus ---------------------------------

EVALUATION_METRIC: Final = "testbench_evaluation_metric"
PASS_RATE: Final = "testbench_evaluation_pass_rate"  # noqa: S105
SCORE_MEAN: Final = "testbench_evaluation_score_mean"
ERRORS: Final = "testbench_evaluation_errors"
TOKEN_USAGE: Final = "testbench_evaluation_token_usage"  # noqa: S105
COST: Final = "testbench_evaluation_cost"

DESCRIPTIONS: Final = {
    EVALUATION_METRIC: "Score of one metric for one step or scenario, 0 to 1.",
    PASS_RATE: "Passed of judged evaluations of one metric in one execution, 0 to 1.",
    SCORE_MEAN: "Mean score of what one metric could judge in one execution, 0 to 1.",
    ERRORS: "Evaluations of one metric in one execution that ended without a score.",
    TOKEN_USAGE: "Tokens that the judge used in one execution.",
    COST: "Cost of the judge in one execution, in US dollars.",
}

# --- attributes of data points and events ----------------------------------------------------------------------------

NAME: Final = "name"
WORKFLOW_NAME: Final = "workflow_name"
EXECUTION_ID: Final = "execution_id"
EXECUTION_NUMBER: Final = "execution_number"
TRACE_ID: Final = "trace_id"
SAMPLE_HASH: Final = "sample_hash"
USER_INPUT_TRUNCATED: Final = "user_input_truncated"
SCENARIO: Final = "scenario"
STEP: Final = "step"
RESULT: Final = "result"
TYPE: Final = "type"
INPUT_TOKENS: Final = "input"
OUTPUT_TOKENS: Final = "output"

# --- events ----------------------------------------------------------------------------------------------------------

EVALUATION_EVENT: Final = "gen_ai.evaluation.result"
EVALUATION_NAME: Final = tracing.EVALUATION_NAME
EVALUATION_SCORE: Final = tracing.EVALUATION_SCORE
EVALUATION_LABEL: Final = tracing.EVALUATION_LABEL
EVALUATION_EXPLANATION: Final = "gen_ai.evaluation.explanation"
ERROR_TYPE: Final = "error.type"

# --- spans -----------------------------------------------------------------------------------------------------------

SCENARIO_SPAN: Final = "scenario {name}"
STEP_SPAN: Final = "step {number}"
AGENT_URL: Final = "agent_url"

# those of a request are set by OpenTelemetry's instrumentation of httpx (`testbench.telemetry.http_spans`)
HTTP_METHOD: Final = "http.request.method"
HTTP_STATUS: Final = "http.response.status_code"
URL: Final = "url.full"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
PEER_ADDRESS: Final = "network.peer.address"
PEER_PORT: Final = "network.peer.port"
PROTOCOL_VERSION: Final = "network.protocol.version"

PLAIN_TEXT: Final = frozenset(
    {AGENT_URL, CONTEXT_ID, ERROR_TYPE, EVALUATION_LABEL, EVALUATION_NAME}
    | {SCENARIO, SCENARIO_ID, STEP_ID, TASK_ID, WORKFLOW_NAME}
)
"""Text attributes of spans that say nothing of a conversation; every other text is content, and can be left out."""

# --- values ----------------------------------------------------------------------------------------------------------

ATTRIBUTE_LENGTH: Final = 4096
"""Characters of one attribute. Collectors refuse or cut long ones, and one refused attribute costs its whole batch."""


def attribute_text(text: str, limit: int = ATTRIBUTE_LENGTH) -> str:
    """Return `text` as protobuf can carry it (valid Unicode), cut to `limit` characters."""
    valid = text.encode("utf-8", errors="replace").decode("utf-8")
    return valid if len(valid) <= limit else valid[: limit - 1] + "…"


def content_allowed(environ: Mapping[str, str]) -> bool:
    """Return whether content may be sent; a value that is no clear yes is a no."""
    return environ.get("TESTBENCH_TRACE_CONTENT", "").strip().lower() in ("", "true", "1", "yes", "on")


def resource_attributes(workflow_name: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the resource of all three signals, with Testbench's own attributes below and above the environment's.

    As the specification asks, OTEL_SERVICE_NAME wins over `service.name` in OTEL_RESOURCE_ATTRIBUTES, and a pair that
    cannot be read is left out. There is no `service.instance.id` unless the environment gives one: the SDK's default is
    random for each process, so that every run would start a new series of every gauge.
    """
    own = {SERVICE_NAME: SERVICE, SERVICE_VERSION: __version__}
    pairs = (pair.partition("=") for pair in environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","))
    given = {key.strip(): unquote(value.strip()) for key, equals, value in pairs if key.strip() and equals}
    service = environ.get("OTEL_SERVICE_NAME", "").strip()
    named = {SERVICE_NAME: service} if service else {}
    resource = own | given | named | {WORKFLOW_NAME: workflow_name}
    return {key: attribute_text(value) for key, value in resource.items()}
