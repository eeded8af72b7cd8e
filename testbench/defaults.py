"""Every default value, in one place; the scripts' `--help` and the README show these."""

from __future__ import annotations

from pathlib import Path
from typing import Final

EXPERIMENT_FILE: Final = Path("data/datasets/experiment.json")
EXECUTED_FILE: Final = Path("data/experiments/executed_experiment.json")
EVALUATED_FILE: Final = Path("data/experiments/evaluated_experiment.json")
REPORT_FILE: Final = Path("data/results/evaluation_report.html")
VERDICT_FILE: Final = Path("data/results/verdict.json")
JUNIT_FILE: Final = Path("data/results/junit.xml")

THRESHOLD: Final = 0.9
"""Score from which on an evaluation passes, where neither the metric nor the experiment names one."""

WORKFLOW_NAME: Final = "local"
EXECUTION_ID: Final = "local"
EXECUTION_NUMBER: Final = 1

AGENT_CONCURRENCY: Final = 8
"""Scenarios in flight."""
AGENT_TIMEOUT_S: Final = 30.0
"""Seconds that one message may take."""
AGENT_RETRIES: Final = 3
"""Further tries after the first, for what can be retried."""
STEP_DEADLINE_S: Final = 300.0
"""Seconds that one step may take with all its retries and polls."""
BACKOFF_BASE_S: Final = 1.0
BACKOFF_CAP_S: Final = 30.0

JUDGE_CONCURRENCY: Final = 10
"""Judge requests in flight, for programs that do not say; the command's default is below."""
JUDGE_PACE: Final = "auto"
"""Begins with fewer requests than a fixed number would, takes what the gateway gives, and makes way when it says no."""
JUDGE_TIMEOUT_S: Final = 60.0
JUDGE_RETRIES: Final = 5
JUDGE_MAX_TOKENS: Final = 4096
JUDGE_TEMPERATURE: Final = 0.0
"""As steady as a judge can be."""
JUDGE_SAMPLES: Final = 1
JUDGE_CACHE: Final = Path("data/judge_cache")
"""Folder of the judge's earlier answers."""
EMBEDDING_MODEL: Final = "text-embedding-3-small"
METRIC_TIMEOUT_S: Final = 300.0
"""Seconds that one evaluation may take with all its judge calls."""
METRIC_FRAMEWORK: Final = "ragas"
"""Framework of a metric name without a prefix."""

FETCH_TIMEOUT_S: Final = 60.0
"""Seconds without a byte after which a dataset download is given up."""
FETCH_TOTAL_S: Final = 3600.0
"""Seconds that one download from an object store may take."""
FETCH_RETRIES: Final = 2
"""Further tries after the first that an object store gets."""
S3_REGION: Final = "us-east-1"
"""Region of an object store, where the environment names none."""
SCENARIO_COLUMN: Final = "scenario"
"""Column whose equal values make rows the steps of one scenario."""

ARENA_FOLDER: Final = Path("data/arena")
"""Where the results of arena jobs are kept, where nobody says otherwise."""
WRITER_TIMEOUT_S: Final = 120.0
"""Seconds that a model which writes data may take for an answer at least: ten items are more text than a chat's."""
WRITER_TEMPERATURE: Final = 1.0
"""Of a model that writes data, where neither the Provider nor the arena file says: items have to differ."""

OTLP_ENDPOINT: Final = "http://localhost:4318"
OTLP_TIMEOUT_S: Final = 10.0
TRACE_FLUSH_S: Final = 5.0
"""Seconds that the end of a run may wait for its last spans to be delivered."""
USER_INPUT_TRUNCATED: Final = 50
"""Characters of the user's input that a data point carries."""

OPERATOR_IMAGE: Final = "ghcr.io/agentic-layer/testbench/testworkflows:latest"
"""Image of an ArenaJob's workers."""
OPERATOR_PULL_POLICY: Final = "IfNotPresent"
OPERATOR_SERVICE_ACCOUNT: Final = "default"
OPERATOR_RETRIES: Final = 3
"""Further tries of a shard."""
OPERATOR_START_TIMEOUT_S: Final = 300.0
"""Seconds until all workers of a load test have to be ready."""
OPERATOR_START_LEAD_S: Final = 120.0
"""Seconds from then to their common start."""
OPERATOR_HEALTH_PORT: Final = 8080

MIN_PASS_RATE: Final = 1.0
MAX_ERROR_RATE: Final = 0.0
MIN_COVERAGE: Final = 0.0
TOLERANCE: Final = 0.0
"""How much worse than the baseline is still good enough, as a proportion."""
ALPHA: Final = 0.05
"""How often an unchanged agent may be called worse than its baseline."""
