"""What a job will do, item by item, decided before anything is sent; the same on every machine.

    scenarios x entries under test x repetitions -> items in a fixed order -> strided shards

Workers, the reducer and the operator agree by the plan's digest and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from testbench.arena.manifest.job import JobType
from testbench.schema.models import Metric, Scenario

DEFAULT_GROUP: Final = "default"


class PlanModel(BaseModel):
    """Immutable; made by this version of Testbench for itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SystemUnderTest(PlanModel):
    """One system under test: an entry of a group that is neither judge nor, beside others, selfplay.

    `user` is the entry that plays the user against it, where somebody does; in a scenario without a played part it says
    each step's input in its own words.
    """

    group: str
    name: str = Field(description="Of the Provider or AgentRuntime, with its namespace where the entry names one.")
    kind: str = Field(description="`provider` or `agent`.")
    user: str | None = None

    @property
    def label(self) -> str:
        """How people and files call it; unique in a plan."""
        name = self.name if self.group == DEFAULT_GROUP else f"{self.group}:{self.name}"
        return f"{name} (user: {self.user})" if self.user else name


class Item(PlanModel):
    """One scenario with one system, once. `key` is made of content: the same in every run of the same bundle."""

    key: str = Field(description="`itm_` and 16 hex digits.")
    position: int = Field(ge=0)
    scenario_path: str
    scenario_id: str
    scenario_name: str
    system: SystemUnderTest
    repetition: int = Field(ge=1)


class SelfPlay(PlanModel):
    """A part of a conversation, after the scenario's steps, in which a system's `user` plays the user.

    It ends after `turns` questions, or goes on to at most `max_turns` until the player says that it is done. Where no
    entry plays the user, a scenario with such a part is not planned.
    """

    instructions: str = Field(default="", description="Who the user is and what for; the player's system prompt.")
    turns: int = Field(ge=1)
    max_turns: int | None = Field(default=None, ge=1)
    metrics: tuple[Metric, ...] = Field(default=(), description="For every step that is played.")


class PlannedScenarioFile(PlanModel):
    """A scenario of the bundle that was selected: its path in the bundle and its content.

    Every metric has its threshold. `system_prompt` is for models under test; an agent has its own.
    """

    path: str
    id: str
    scenario: Scenario
    system_prompt: str = ""
    self_play: SelfPlay | None = None


class MockTool(PlanModel):
    """A tool that models under test are offered, and that always gives the same result."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,128}$")
    description: str = ""
    input_schema: Mapping[str, Any] = Field(default={"type": "object"}, description="JSON Schema of its arguments.")
    result: Any = None


class ChatDefaults(PlanModel):
    """Settings of every request to a model under test, where its Provider says nothing else."""

    temperature: float | None = Field(default=None, allow_inf_nan=False)
    top_p: float | None = Field(default=None, allow_inf_nan=False)
    max_tokens: int | None = Field(default=None, ge=1)
    seed: int | None = None


class Plan(PlanModel):
    """All items of a job in the order in which they are dealt to shards: item k belongs to shard k mod n."""

    job: str
    namespace: str
    type: JobType
    source_revision: str
    digest: str = Field(description="Of everything that decides what is sent; a worker refuses another one.")
    judge: str | None = Field(default=None, description="The entry that judges.")
    judge_model: str | None = Field(default=None, description="Where no entry judges: the model that scenarios name.")
    chat: ChatDefaults = ChatDefaults()
    tools: tuple[MockTool, ...] = Field(default=(), description="Of the bundle; none where the job names registries.")
    warnings: tuple[str, ...] = Field(default=(), description="What the bundle or the manifest asks for in vain.")
    scenarios: tuple[PlannedScenarioFile, ...]
    systems: tuple[SystemUnderTest, ...]
    items: tuple[Item, ...]
