"""The data of data generation: seeds, what is asked of the model for each, what it answers, and what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from testbench.arena.plan import PlanModel
from testbench.schema.models import Usage


class Seed(PlanModel):
    """What a question is made from: an instruction and, where there is one, a document. Both come from the bundle.

    `document` is one passage of the file; `document_path` names file and passage, e.g. `documents/tides.md#2`.
    """

    prompt_path: str
    prompt: str
    document_path: str | None = None
    document: str | None = None


class BatchRequest(PlanModel):
    """One question to the model. `key` names it in every run of the same plan, so that a resumed run asks it once."""

    key: str = Field(pattern=r"^req_[0-9a-f]{16}$")
    round: int = Field(ge=1)
    seed: int = Field(ge=0, description="Position of its seed.")
    size: int = Field(ge=1)
    provider: str


def _plain(value: object) -> object:
    """Text that every file format can hold: no control characters but line breaks and tabs, no half characters."""
    if not isinstance(value, str):
        return value
    whole = value.replace("\r\n", "\n").encode(errors="replace").decode()
    return "".join(character for character in whole if character >= " " or character in "\n\t").strip()


PlainText: TypeAlias = Annotated[str, BeforeValidator(_plain), Field(min_length=1)]


class Written(BaseModel):
    """One item as the model writes it; what else it adds is left out."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    user_input: PlainText = Field(description="What a user would ask, complete in itself.")
    reference: PlainText = Field(description="The correct and complete answer.")


class Batch(BaseModel):
    """The model's answer: so many items as were asked for."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    items: tuple[Written, ...] = Field(min_length=1)


class Provenance(PlanModel):
    """Where an item comes from, so that it can be checked and made again."""

    provider: str
    model: str | None = None
    prompt: str
    document: str | None = None
    round: int
    request: str


class GeneratedItem(PlanModel):
    """A row of the dataset, in the columns that `setup.py` reads."""

    user_input: str
    reference: str
    retrieved_contexts: tuple[str, ...] = ()
    provenance: Provenance


class AnsweredRequest(PlanModel):
    """A request with its items and what it cost, as its part file holds it."""

    plan_digest: str
    request: BatchRequest
    items: tuple[GeneratedItem, ...]
    usage: Usage | None = None


class FailedRequest(PlanModel):
    """A request that no model answered, and why; what was paid for it nevertheless is in `usage`."""

    key: str
    provider: str
    kind: str = Field(description="As of a JudgeError: `unreachable`, `timeout`, `auth`, `malformed`...")
    message: str
    usage: Usage | None = None


class RoundPlan(PlanModel):
    """What a round asks. `avoided` are questions that exist already, by the seed that they were made from."""

    number: int = Field(ge=1)
    plan_digest: str
    requests: tuple[BatchRequest, ...]
    batch: int = Field(ge=1, description="Items of one request at most.")
    avoided: Mapping[int, tuple[str, ...]] = {}


class RoundDone(PlanModel):
    """What a shard says when every one of its requests was asked: which were answered, and which failed."""

    round: int = Field(ge=1)
    plan_digest: str
    worker: str
    answered: tuple[str, ...]
    failed: tuple[FailedRequest, ...] = ()
