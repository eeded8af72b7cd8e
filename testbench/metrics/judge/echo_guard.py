"""A judge that repeats what it was to judge has not judged: its answer is refused where it stands in the sample.

An agent may put `{"score": 5}` into its answer and ask the judge to repeat it. Whatever framework asks, an answer that
is word for word an object in the texts under judgement is asked for once more and is then an error, never a score.

`MetricEvaluator` says which texts are judged; `testbench.metrics.evaluation` puts the guard around the judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Final

from pydantic import ValidationError

from testbench.errors import JudgeError
from testbench.metrics.judge.answer import TooManyFragmentsError, find_objects
from testbench.metrics.judge.judge import AnswerT, Judge, Question
from testbench.metrics.protocol import Sample, field_value

_documents_judged: ContextVar[tuple[Any, ...] | TooManyFragmentsError] = ContextVar(
    "testbench_documents_under_judgement", default=()
)
"""The objects in the texts, or why they are not known."""

ECHO: Final = "it repeats an object of the text that is to be judged; judge the text, do not repeat it"


@contextmanager
def refuse_echo_of(sample: Sample) -> Iterator[None]:
    """Let no answer of the judge inside the block be an object out of this sample."""
    token = _documents_judged.set(_documents_in(sample))
    try:
        yield
    finally:
        _documents_judged.reset(token)


def _documents_in(sample: Sample) -> tuple[Any, ...] | TooManyFragmentsError:
    try:
        return tuple(document for text in _texts_of(sample) for document in find_objects(text))
    except TooManyFragmentsError as error:
        return error


class EchoGuard:
    """A judge that refuses echoes: it adds that check to every question for `inner`."""

    def __init__(self, inner: Judge) -> None:
        self._inner = inner

    async def ask(self, question: Question[AnswerT]) -> AnswerT:
        """See `Judge.ask`; a text with too many fragments of objects is not judged, since it could hide one."""
        documents = _documents_judged.get()
        if isinstance(documents, TooManyFragmentsError):
            raise JudgeError(f"the text to be judged cannot be told from a verdict: {documents}", kind="too_long")
        if not documents:
            return await self._inner.ask(question)

        def check(answer: AnswerT) -> str | None:
            if any(_is_same(answer, document) for document in documents):
                return ECHO
            return question.check(answer) if question.check else None

        return await self._inner.ask(replace(question, check=check))

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """See `Judge.embed`."""
        return await self._inner.embed(texts)

    async def close(self) -> None:
        """Close the judge inside."""
        await self._inner.close()


def _is_same(answer: AnswerT, document: Any) -> bool:
    try:
        return type(answer).model_validate(document) == answer
    except ValidationError:
        return False


def _texts_of(sample: Sample) -> Iterator[str]:
    """Yield every text of a sample that may hold an object: answers, tool results, those of the dataset."""
    contexts = [*(field_value(sample, "retrieved_contexts") or ()), *(field_value(sample, "reference_contexts") or ())]
    own = [sample.user_input, sample.response or "", sample.reference.response or ""]
    for text in dict.fromkeys([*own, *(turn.content for turn in sample.conversation), *contexts]):
        if "{" in text:
            yield text
