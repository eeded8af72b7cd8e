"""How a question is put, and what the answer is: JSON, in a fence, after a thought, or in the midst of prose.

question -> messages;  said (text) -> the JSON objects in it -> the one that fits, and no other that contradicts it
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final, TypeAlias

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError

from testbench.metrics.judge.judge import AnswerT, Question
from testbench.schema.files import describe

Message: TypeAlias = dict[str, str]

_THOUGHT_TAG: Final = re.compile(r"<(/?)(think|thinking|reasoning)>", re.IGNORECASE)
MAX_FRAGMENTS: Final = 200
"""Beginnings of objects that may turn out to be none before a text is given up, so that none can keep us busy."""
MAX_FRAGMENT_CHARACTERS: Final = 20_000_000
"""Characters that may be read for these: half a second."""
_OBJECT_START: Final = re.compile(r'\{\s*["}]')
"""How a JSON object begins, and hardly anything else."""


class UnfitAnswerError(ValueError):
    """What the judge said holds no answer of the wanted shape, or several that contradict each other."""


class TooManyFragmentsError(Exception):
    """The text holds more beginnings of objects than are looked at; there may be an object behind them."""

    def __init__(self) -> None:
        super().__init__("it holds too many fragments of JSON objects")


class _TwoValuesError(Exception):
    """An object has two values for one key."""


def make_messages(question: Question[AnswerT]) -> list[Message]:
    """Return what a judge is sent: the question, and the schema of its answer where the prompt does not hold it."""
    schema = format_schema(question.answer)
    system = [question.system] if question.system else []
    if schema not in question.prompt:
        system.append(f"Answer with one JSON object and nothing else. It must fit this JSON Schema: {schema}")
    messages = [{"role": "system", "content": "\n\n".join(system)}] if system else []
    return [*messages, {"role": "user", "content": question.prompt}]


@lru_cache(maxsize=256)
def format_schema(model: type[BaseModel]) -> str:
    """Return the JSON Schema of an answer as one line."""
    return json.dumps(model.model_json_schema())


def read_answer(said: str, question: Question[AnswerT]) -> AnswerT:
    """Return the answer in what the judge said.

    Raises:
        UnfitAnswerError: there is none; its text says what is wrong, in words that the judge can use to do better.
    """
    answers: list[AnswerT] = []
    fault = "it holds no JSON object"
    try:
        for document in find_objects(remove_thoughts(said), _STRICT):
            try:
                answer = question.answer.model_validate(document)
                answer.model_dump_json()
            except ValidationError as error:
                fault = describe(error)
            except PydanticSerializationError:
                fault = "it holds half of a character"
            else:
                answers += [answer] if answer not in answers else []
    except (TooManyFragmentsError, _TwoValuesError) as error:
        raise UnfitAnswerError(str(error)) from error
    if not answers:
        raise UnfitAnswerError(fault)
    if len(answers) > 1:
        raise UnfitAnswerError(f"it holds {len(answers)} answers that contradict each other")
    if question.check and (fault_of_content := question.check(answers[0])):
        raise UnfitAnswerError(fault_of_content)
    return answers[0]


def remove_thoughts(text: str) -> str:
    """Return the text without what a reasoning model thought aloud; a thought that does not end is kept."""
    kept, position = [], 0
    open_at: tuple[str, int] | None = None
    for tag in _THOUGHT_TAG.finditer(text):
        name = tag[2].lower()
        if not tag[1] and open_at is None:
            open_at = name, tag.start()
        elif tag[1] and open_at is not None and open_at[0] == name:
            kept.append(text[position : open_at[1]])
            open_at, position = None, tag.end()
    return "".join([*kept, text[position:]])


def find_objects(text: str, decoder: json.JSONDecoder | None = None) -> Iterator[Any]:
    """Yield every JSON object that stands in the text and in no other object.

    Raises:
        TooManyFragmentsError: too much of the text begins like one and is not.
    """
    decoder = decoder or _PLAIN
    fragments = in_fragments = position = 0
    while begin := _OBJECT_START.search(text, position):
        start = begin.start()
        try:
            document, position = decoder.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            fragments += 1
            in_fragments += getattr(error, "pos", len(text)) - start
            if fragments > MAX_FRAGMENTS or in_fragments > MAX_FRAGMENT_CHARACTERS:
                raise TooManyFragmentsError from error
            position = start + 1
        else:
            yield document


def _refuse_two_values(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if found.setdefault(key, value) != value:
            raise _TwoValuesError(f"it gives {key!r:.80} two values that contradict each other")
    return found


_PLAIN: Final = json.JSONDecoder()
_STRICT: Final = json.JSONDecoder(object_pairs_hook=_refuse_two_values)
