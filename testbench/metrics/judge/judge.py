"""The judge as metrics see it: a protocol with two questions, where its settings come from, and a fake.

`testbench.metrics.judge.client.OpenAIJudge` is the real one, `testbench.metrics.judge.cache.CachedJudge` wraps any.
There is one judge for a run, shared by every framework, and it is closed at the end of the run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Protocol, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from testbench import defaults
from testbench.errors import InputError, JudgeError
from testbench.metrics.judge.cost import PriceList, record_paid
from testbench.schema.files import describe
from testbench.schema.models import Usage

__all__ = ["FakeJudge", "Judge", "Question"]

AnswerT = TypeVar("AnswerT", bound=BaseModel)

BASE_URLS: Final = ("OPENAI_BASE_URL", "OPENAI_API_BASE")
"""Environment variables that name the gateway, the first one that is set wins."""


@dataclass(frozen=True)
class Question(Generic[AnswerT]):
    """A prompt and the shape of its answer; `check` says what is wrong with an answer of that shape, or None."""

    prompt: str
    answer: type[AnswerT]
    system: str | None = None
    check: Callable[[AnswerT], str | None] | None = None


class Judge(Protocol):
    """Answers questions; used by all evaluations in flight at once."""

    async def ask(self, question: Question[AnswerT]) -> AnswerT:
        """Return one answer that fits the question's schema and check.

        Raises:
            JudgeError: there is none; its `kind` says why, `raw` what was said instead.
        """

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return one vector for each text, in their order.

        Raises:
            JudgeError: there are none.
        """

    async def close(self) -> None: ...


@dataclass(frozen=True)
class JudgeSettings:
    """Which judge to ask, with which limits; times in seconds.

    `concurrency` requests are in flight at once; with `adaptive` at most so many, and fewer while the gateway pushes
    back. `max_cost` is in US dollars and needs the price of every model that is asked. `role` is what messages call it.
    """

    base_url: str
    api_key: str | None = field(repr=False)
    model: str | None
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    embedding_model: str = defaults.EMBEDDING_MODEL
    concurrency: int = defaults.JUDGE_CONCURRENCY
    timeout_s: float = defaults.JUDGE_TIMEOUT_S
    retries: int = defaults.JUDGE_RETRIES
    max_tokens: int = defaults.JUDGE_MAX_TOKENS
    adaptive: bool = False
    temperature: float = defaults.JUDGE_TEMPERATURE
    prices: PriceList = field(default_factory=PriceList)
    max_cost: float | None = None
    role: str = "judge"

    @property
    def deadline_s(self) -> float:
        """Return the seconds that one question may take with all its retries; an evaluation's own limit is above it."""
        return max(0.8 * defaults.METRIC_TIMEOUT_S, 4 * self.timeout_s)

    @property
    def identity(self) -> str:
        """Return everything but the question that decides an answer, as one text."""
        return json.dumps([self.base_url, self.model, self.embedding_model, self.temperature, self.max_tokens])


def read_gateway(environment: Mapping[str, str]) -> tuple[str, str]:
    """Return base URL and key of the OpenAI-compatible gateway, from the names of both conventions.

    Raises:
        InputError: the base URL is missing (a vendor's address is never assumed) or unusable, or no header can hold
            the key.
    """
    names = " or ".join(reversed(BASE_URLS))
    hint = f"Set {names} to an OpenAI-compatible endpoint, e.g. http://localhost:11001/v1; OPENAI_API_KEY to its key."
    found = [(name, environment[name].strip()) for name in BASE_URLS if environment.get(name, "").strip()]
    if not found:
        raise InputError("a metric needs a judge, and no endpoint of one is set", hint=hint)
    name, url = found[0]
    if not _is_web_address(url):
        raise InputError(f"{name} is not an http(s) URL", hint=hint)
    key = environment.get("OPENAI_API_KEY", "").strip() or "unused"
    if not (key.isascii() and key.isprintable()):
        raise InputError("OPENAI_API_KEY has characters that no key has", hint="Set it again, in one line of ASCII.")
    return url.rstrip("/"), key


def _is_web_address(url: str) -> bool:
    try:
        address = urlsplit(url)
        return address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0 and " " not in url
    except ValueError:  # brackets that do not match, a port that is none
        return False


class FakeJudge:
    """A judge that answers with what `answer` returns for (prompt, name of the answer's type), or raises what it is.

    Embeddings are made of the text's hash. Records the questions.
    """

    def __init__(self, answer: Callable[[str, str], Mapping[str, Any] | JudgeError] | None = None) -> None:
        self._answer = answer or (lambda prompt, wanted: JudgeError("no answer scripted", kind="malformed"))
        self.asked: list[str] = []
        self.embedded: list[str] = []
        self.closed = False

    async def ask(self, question: Question[AnswerT]) -> AnswerT:
        self.asked.append(question.prompt)
        said = self._answer(question.prompt, question.answer.__name__)
        if isinstance(said, JudgeError):
            raise said
        record_paid(Usage(input_tokens=len(question.prompt) // 4, output_tokens=1))
        try:
            answer = question.answer.model_validate(dict(said))
        except ValidationError as error:
            raise JudgeError(describe(error), kind="malformed", raw=str(said)) from error
        if question.check and (fault := question.check(answer)):
            raise JudgeError(fault, kind="malformed", raw=str(said))
        return answer

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        self.embedded += texts
        record_paid(Usage(input_tokens=len(texts), output_tokens=0))
        return [[byte / 255 for byte in hashlib.sha256(text.encode()).digest()[:8]] for text in texts]

    async def close(self) -> None:
        self.closed = True
