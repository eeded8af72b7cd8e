"""The status of an ArenaJob: what `kubectl get arenajob` shows and what the operator writes.

Types only: `testbench.arena.operator.job_state` computes them, `testbench.arena.manifest.crd` makes the schema of the
status and the columns of `kubectl get`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from testbench.arena.manifest.fields import INT32_MAX
from testbench.arena.manifest.job import JobPhase

ConditionType = Literal["Ready", "ConfigValid", "JobCreated", "Progressing"]
ConditionStatus = Literal["True", "False", "Unknown"]

SUMMARY_VERDICT: Final = "verdict"
SUMMARY_SCORE: Final = "score"
SUMMARY_ERRORS: Final = "errors"
"""Keys of `result.summary` that have a column of their own; further keys are free."""

MESSAGE_LENGTH: Final = 1000
"""Characters of a message in a condition, an event or a termination message, at most."""

Number: TypeAlias = Annotated[int, Field(ge=0, le=INT32_MAX)]


class StatusModel(BaseModel):
    """Immutable, camelCase in the resource; keys of a newer operator are left out."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


class JobProgress(StatusModel):
    """Work items; all four are always there, a zero too."""

    total: Number = 0
    completed: Number = Field(default=0, description="Finished with a verdict, good or bad.")
    failed: Number = Field(default=0, description="Ended without a verdict.")
    pending: Number = 0


class JobResult(StatusModel):
    """Where the results are, and the few numbers that stand for them."""

    url: str | None = Field(default=None, max_length=2048)
    summary: Mapping[str, Annotated[str, Field(max_length=1024)]] = Field(default={}, max_length=64)


class Condition(StatusModel):
    """One thing that is so, is not so, or is not known, with its reason."""

    type: Annotated[str, Field(min_length=1, max_length=316)] = Field(
        description="Ready, ConfigValid, JobCreated or Progressing."
    )
    status: ConditionStatus
    reason: str = Field(min_length=1, max_length=1024, description="One word in CamelCase, for machines.")
    message: str = Field(default="", max_length=32768)
    last_transition_time: datetime
    observed_generation: int | None = Field(default=None, ge=0)


class JobStatus(StatusModel):
    """The whole status subresource."""

    phase: JobPhase | None = None
    observed_generation: int | None = Field(default=None, ge=0)
    progress: JobProgress | None = None
    result: JobResult | None = None
    conditions: tuple[Condition, ...] = Field(
        default=(),
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    active_workers: Number | None = None
    start_time: datetime | None = None
    completion_time: datetime | None = None
    last_schedule_time: datetime | None = None
    next_schedule_time: datetime | None = None
