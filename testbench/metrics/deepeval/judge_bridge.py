"""Our judge as DeepEval's model, and a record of what it was asked during one evaluation.

DeepEval scores what it gets: a verdict for three of five claims counts as five. So the bridge refuses lists of verdicts
of the wrong length, which the judge then repairs once, and remembers the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

from deepeval.models import DeepEvalBaseLLM
from pydantic import BaseModel

from testbench.errors import JudgeError
from testbench.metrics.judge.judge import Judge, Question

_LISTS: Final[Mapping[str, str]] = {
    "Statements": "statements",
    "Claims": "claims",
    "Opinions": "opinions",
    "Misuses": "misuses",
    "Advices": "advices",
    "RoleViolations": "role_violations",
    "ExtractedPII": "extracted_pii",
}
"""Answers whose items each get a verdict in the answer `Verdicts` that follows."""


class Prose(BaseModel):
    """The answer where DeepEval wants no shape."""

    text: str


@dataclass
class DeepEvalRecord:
    """What the judge said during one evaluation; `verdicts` is how many it must give where the sample says so."""

    verdicts: int | None = None
    answers: list[BaseModel] = field(default_factory=list)
    errors: list[JudgeError] = field(default_factory=list)


_record: ContextVar[DeepEvalRecord | None] = ContextVar("testbench_deepeval_record", default=None)


@contextmanager
def recording(verdicts: int | None) -> Iterator[DeepEvalRecord]:
    """Record inside the block, in this task and the tasks that it starts."""
    record = DeepEvalRecord(verdicts)
    token = _record.set(record)
    try:
        yield record
    finally:
        _record.reset(token)


class BridgedModel(DeepEvalBaseLLM):  # type: ignore[misc]  # deepeval brings no types
    """Hands DeepEval's prompts to our judge; without one it refuses."""

    def __init__(self, judge: Judge | None) -> None:
        self._judge = judge
        super().__init__("testbench")

    def load_model(self, *_: Any, **__: Any) -> BridgedModel:
        return self

    def get_model_name(self, *_: Any, **__: Any) -> str:
        return "testbench"

    def generate(self, *_: Any, **__: Any) -> str:
        """Never called by a metric that is awaited; it would block the event loop."""
        raise NotImplementedError("the judge is only asked asynchronously")

    async def a_generate(self, prompt: str, schema: type[BaseModel] | None = None) -> Any:
        """Return an answer of the schema, or text where there is none."""
        record = _record.get() or DeepEvalRecord()
        if self._judge is None:
            raise NotImplementedError("there is no judge to ask")
        question = Question(
            prompt, schema or Prose, check=lambda given: find_fault(given, record.answers, record.verdicts)
        )
        try:
            answer = await self._judge.ask(question)
        except JudgeError as error:
            record.errors.append(error)
            raise
        record.answers.append(answer)
        return answer.text if isinstance(answer, Prose) else answer


def find_fault(answer: BaseModel, before: Sequence[BaseModel], wanted: int | None) -> str | None:
    """Return what is wrong with an answer of the right shape; None if nothing is."""
    if type(answer).__name__ != "Verdicts":
        return None
    lists = [getattr(one, _LISTS[type(one).__name__]) for one in before if type(one).__name__ in _LISTS]
    items = wanted if wanted is not None else len(lists[-1]) if lists else None
    given = len(answer.verdicts)  # type: ignore[attr-defined]  # its field
    return None if items in (None, given) else f"{given} verdicts for {items} items: give exactly one for each"
