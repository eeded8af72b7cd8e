"""What workers hand to the reducer: one line of JSON for each item, as soon as it is finished.

Written by the executors into part files that are created once and never changed; an item that was done twice (its
worker was killed between two writes) appears twice, and the reducer keeps one.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from testbench.arena.plan import PlanModel
from testbench.schema.models import EvaluatedScenario


class ItemResult(PlanModel):
    """An item and what came of it: a conversation, judged. A failed item is a scenario with failed steps."""

    key: str
    plan_digest: str
    shard: int = Field(ge=0)
    worker: str
    finished_at: datetime
    scenario: EvaluatedScenario
