"""The data of data generation: seeds, what is asked of the model for each, what it answers, and what becomes of it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from testbench.arena.plan import PlanModel


class Seed(PlanModel):
    """What a question is made from: an instruction and, where there is one, a document. Both come from the bundle."""

    prompt_path: str
    prompt: str
    document_path: str | None = None
    document: str | None = None


class BatchRequest(PlanModel):
    """One question to the model. `key` names it in every run of the same plan, so that a resumed run asks it once."""

    key: str
    round: int = Field(ge=1)
    seed: int = Field(ge=0, description="Position of its seed.")
    size: int = Field(ge=1)
    provider: str


class Written(BaseModel):
    """One item as the model writes it; what else it adds is left out."""

    model_config = ConfigDict(frozen=True, extra="ignore", str_strip_whitespace=True)

    user_input: str = Field(min_length=1, description="What a user would ask, complete in itself.")
    reference: str = Field(min_length=1, description="The correct and complete answer.")


class Batch(BaseModel):
    """The model's answer: so many items as were asked for."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    items: tuple[Written, ...] = Field(min_length=1)


class Provenance(PlanModel):
    """Where an item comes from, so that it can be checked and made again."""

    provider: str
    model: str | None
    prompt: str
    document: str | None
    round: int
    request: str


class GeneratedItem(PlanModel):
    """A row of the dataset, in the columns that `setup.py` reads."""

    user_input: str
    reference: str
    retrieved_contexts: tuple[str, ...] = ()
    provenance: Provenance


class AnsweredRequest(PlanModel):
    """A request with its items, as its part file holds it."""

    request: BatchRequest
    items: tuple[GeneratedItem, ...]
