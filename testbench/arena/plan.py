"""What a job will do, item by item, decided before anything is sent; the same on every machine.

    scenarios x entries under test x repetitions -> items in a fixed order -> strided shards

Workers, the reducer and the operator agree by the plan's digest and nothing else.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from testbench.arena.manifest import JobType
from testbench.schema.models import Scenario


class PlanModel(BaseModel):
    """Immutable; made by this version of Testbench for itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Contender(PlanModel):
    """One system under test: an entry of a group that is neither judge nor, beside others, selfplay.

    `user` is the entry that plays the user against it, where somebody does.
    """

    group: str
    name: str = Field(description="Of the Provider or AgentRuntime, with its namespace where the entry names one.")
    kind: str = Field(description="`provider` or `agent`.")
    user: str | None = None

    @property
    def label(self) -> str:
        """How people and files call it; unique in a plan."""
        name = self.name if self.group == "default" else f"{self.group}/{self.name}"
        return f"{name} (user: {self.user})" if self.user else name


class Item(PlanModel):
    """One scenario with one contender, once. `key` is made of content: the same in every run of the same bundle."""

    key: str = Field(description="`itm_` and 16 hex digits.")
    position: int = Field(ge=0)
    scenario_path: str
    scenario_id: str
    scenario_name: str
    contender: Contender
    repetition: int = Field(ge=1)


class PlannedScenarioFile(PlanModel):
    """A scenario of the bundle that was selected: its path in the bundle and its content."""

    path: str
    id: str
    scenario: Scenario


class Plan(PlanModel):
    """All items of a job in the order in which they are dealt to shards: item k belongs to shard k mod n."""

    job: str
    namespace: str
    type: JobType
    source_revision: str
    digest: str = Field(description="Of everything that decides what is sent; a worker refuses another one.")
    judge: str | None = Field(default=None, description="The entry that judges.")
    scenarios: tuple[PlannedScenarioFile, ...]
    contenders: tuple[Contender, ...]
    items: tuple[Item, ...]


def shard(plan: Plan, index: int, count: int) -> tuple[Item, ...]:
    """The items of shard `index` (from 0) of `count`: every `count`-th, so that slow contenders are spread evenly."""
    if not 0 <= index < count:
        raise ValueError(f"shard {index} of {count}: the index is at least 0 and below the count")
    return plan.items[index::count]
