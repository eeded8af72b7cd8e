"""Every name that leaves Testbench over OTLP: resources, gauges, events, spans and their attributes.

Dashboards, alerts and links are built on these names, so they change here and nowhere else, but for what execution
and metrics tell their spans (`testbench.schema.tracing`). Names without a dot are the telemetry contract; `gen_ai.*`
are OpenTelemetry's conventions for generative AI (status: development), `error.type`, `service.*` and those of HTTP
clients its stable ones.
"""

from __future__ import annotations

from typing import Final

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
HTTP_METHOD: Final = "http.request.method"
HTTP_STATUS: Final = "http.response.status_code"
URL: Final = "url.full"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"

PLAIN_TEXT: Final = frozenset(
    {AGENT_URL, CONTEXT_ID, ERROR_TYPE, EVALUATION_LABEL, EVALUATION_NAME}
    | {SCENARIO, SCENARIO_ID, STEP_ID, TASK_ID, WORKFLOW_NAME}
)
"""Text attributes of spans that say nothing of a conversation; every other text is content, and can be left out."""
