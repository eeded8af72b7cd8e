"""Our judge as RAGAS's language model and embeddings, and a record of what it was asked during one evaluation.

RAGAS drops the judge's reasons, hides some of its failures and computes with whatever numbers it gets. So the bridge
sees every answer: it refuses verdicts outside their scale and lists of the wrong length (the judge then repairs them
once), and it remembers the rest for `testbench.metrics.ragas.adapter`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, TypeVar

from pydantic import BaseModel
from ragas.embeddings.base import BaseRagasEmbedding
from ragas.llms.base import InstructorBaseRagasLLM
from ragas.prompt.metrics.base_prompt import BasePrompt

from testbench.errors import JudgeError
from testbench.metrics.judge.judge import Judge, Question

AnswerT = TypeVar("AnswerT", bound=BaseModel)

_RATINGS: Final[Mapping[str, frozenset[int]]] = {
    "AnswerAccuracyOutput": frozenset({0, 2, 4}),
    "ContextRelevanceOutput": frozenset({0, 1, 2}),
    "ResponseGroundednessOutput": frozenset({0, 1, 2}),
}
_BINARY: Final = frozenset({"verdict", "attributed", "noncommittal"})
_JUDGES_A_LIST: Final[Mapping[str, tuple[str, str]]] = {
    "NLIStatementOutput": ("statements", "statements"),
    "StatementFaithfulnessOutput": ("statements", "statements"),
    "TopicClassificationOutput": ("classifications", "topics"),
    "AnswersGenerated": ("answers", "questions"),
}
"""Answers with one verdict for each item of a list in the question: the answer's field, and the question's."""
_INPUT: Final = "\ninput: "
"""What stands before the question's own part, which is JSON, at the end of RAGAS's prompts."""


@dataclass
class RagasRecord:
    """What the judge said during one evaluation, in order."""

    answers: list[BaseModel] = field(default_factory=list)
    errors: list[JudgeError] = field(default_factory=list)
    vectors: dict[str, list[float]] = field(default_factory=dict)


_record: ContextVar[RagasRecord | None] = ContextVar("testbench_ragas_record", default=None)


@contextmanager
def recording() -> Iterator[RagasRecord]:
    """Record inside the block, in this task and the tasks that it starts."""
    record = RagasRecord()
    token = _record.set(record)
    try:
        yield record
    finally:
        _record.reset(token)


class BridgedLLM(InstructorBaseRagasLLM):
    """Hands RAGAS's prompts to our judge."""

    is_async = True

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    def generate(self, prompt: str, response_model: type[AnswerT]) -> AnswerT:
        """Never called by a metric that is awaited; it would block the event loop."""
        raise NotImplementedError("the judge is only asked asynchronously")

    async def agenerate(self, prompt: str, response_model: type[AnswerT]) -> AnswerT:
        """Return the judge's answer; an error is recorded too, because some metrics swallow it."""
        record = _record.get() or RagasRecord()
        asked = read_asked(prompt)
        try:
            answer = await self._judge.ask(
                Question(prompt, response_model, check=lambda given: find_fault(given, asked))
            )
        except JudgeError as error:
            record.errors.append(error)
            raise
        record.answers.append(answer)
        return answer


class BridgedEmbeddings(BaseRagasEmbedding):
    """Hands texts to our judge; the synchronous side answers only what was fetched before."""

    def __init__(self, judge: Judge) -> None:
        super().__init__()
        self._judge = judge

    async def prefetch(self, texts: Sequence[str]) -> None:
        """Fetch what `embed_text` will be asked for in this evaluation."""
        vectors = await self.aembed_texts(list(texts))
        if (record := _record.get()) is not None:
            record.vectors |= dict(zip(texts, vectors, strict=True))

    def embed_text(self, text: str, **_: Any) -> list[float]:
        record = _record.get()
        if record is None or text not in record.vectors:
            raise LookupError("a text was not fetched before it was needed")
        return record.vectors[text]

    async def aembed_text(self, text: str, **_: Any) -> list[float]:
        return (await self.aembed_texts([text]))[0]

    async def aembed_texts(self, texts: list[str], **_: Any) -> list[list[float]]:
        record = _record.get() or RagasRecord()
        try:
            return await self._judge.embed(texts)
        except JudgeError as error:
            record.errors.append(error)
            raise


def read_asked(prompt: str) -> Mapping[str, Any]:
    """Return the question's own part of a RAGAS prompt: its fields by name, none where the prompt has no such part."""
    try:
        asked, _ = json.JSONDecoder().raw_decode(prompt.rpartition(_INPUT)[2])
    except ValueError:
        return {}
    return asked if isinstance(asked, dict) else {}


def find_fault(answer: BaseModel, asked: Mapping[str, Any]) -> str | None:
    """Return what is wrong with an answer of the right shape to a question with these fields; None if nothing is."""
    return _fault_of_values(answer) or _fault_of_lengths(answer, asked)


def _fault_of_values(answer: BaseModel) -> str | None:
    name = type(answer).__name__
    for values in _objects(answer):
        for key in _BINARY & values.keys():
            if values[key] not in (0, 1, "0", "1"):
                return f"{key} must be 0 or 1, not {values[key]!r}"
    rating = getattr(answer, "rating", None)
    if name in _RATINGS and rating not in _RATINGS[name]:
        return f"rating must be one of {sorted(_RATINGS[name])}, not {rating!r}"
    if name == "AnswerRelevanceOutput" and not answer.question.strip():  # type: ignore[attr-defined]  # its field
        return "question must not be empty"
    if name == "AnswersGenerated" and not set(answer.answers) <= {"0", "1"}:  # type: ignore[attr-defined]  # its field
        return 'every answer must be "0" or "1"'
    return None


def _fault_of_lengths(answer: BaseModel, asked: Mapping[str, Any]) -> str | None:
    name = type(answer).__name__
    if name == "ClassificationWithReason":
        sorted_out = len(answer.TP) + len(answer.FP)  # type: ignore[attr-defined]  # its fields
        if sorted_out < len(asked.get("answer", ())):
            return f"{sorted_out} of {len(asked['answer'])} statements of the answer are in TP or FP: all must be"
    if name in _JUDGES_A_LIST:
        field_name, items = _JUDGES_A_LIST[name]
        given, wanted = len(getattr(answer, field_name)), len(asked.get(items, ()))
        if given != wanted:
            return f"{given} verdicts for {wanted} items: give exactly one for each"
    return None


def _objects(answer: BaseModel) -> Iterator[dict[str, Any]]:
    """Yield the fields of an answer and of the objects in its lists."""
    values = dict(answer)
    yield values
    for value in values.values():
        if isinstance(value, list):
            yield from (dict(item) for item in value if isinstance(item, BaseModel))


class KnownSchema:
    """Stands in for an answer's model in a prompt, which asks it for nothing but its schema."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._model = model

    @cached_property
    def _schema(self) -> dict[str, Any]:
        return self._model.model_json_schema()

    def model_json_schema(self) -> dict[str, Any]:
        """As pydantic's; not to be changed, because it is shared."""
        return self._schema


def remember_schemas(metric: Any) -> None:
    """Let the prompts of a metric, which are its attributes, work out their schema once."""
    for prompt in vars(metric).values():
        if isinstance(prompt, BasePrompt):
            prompt.output_model = KnownSchema(prompt.output_model)  # type: ignore[assignment]  # all that it asks for
