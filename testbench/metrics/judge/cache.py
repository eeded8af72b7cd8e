"""A judge that is not asked the same thing twice: answers on disk, keyed by everything that decides them.

    question + identity of the judge -> key -> the answer of an earlier run, of this run, or of a request under way

Only answers that fit are kept; an error never is. Wraps any judge; `testbench.metrics.evaluation` does it unless
`--no-cache` says otherwise.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import uuid
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

from pydantic import FiniteFloat, TypeAdapter, ValidationError

from testbench.metrics.judge.answer import format_schema
from testbench.metrics.judge.cost import record_cached
from testbench.metrics.judge.judge import AnswerT, Judge, Question
from testbench.metrics.outcome import current_repetition
from testbench.net.time_limit import not_counted

logger = logging.getLogger(__name__)

CACHE_FORMAT = 2
"""Part of every key: answers that an older Testbench kept, or asked for, in another form are not found."""
_VECTOR = TypeAdapter(list[FiniteFloat])


class AnswerStore(Protocol):
    """Texts by key. It may forget, and it never fails."""

    def get(self, key: str) -> str | None: ...

    def put(self, key: str, text: str) -> None: ...


class MemoryAnswerStore:
    """Answers that are forgotten at the end of the process."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def get(self, key: str) -> str | None:
        return self.texts.get(key)

    def put(self, key: str, text: str) -> None:
        self.texts[key] = text


class DiskAnswerStore:
    """One file for each answer below a folder, which several runs may share. It may be deleted at any time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mine = uuid.uuid4().hex
        self._warned = False

    def get(self, key: str) -> str | None:
        try:
            return self._path(key).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None

    def put(self, key: str, text: str) -> None:
        path = self._path(key)
        try:
            try:
                self._write(path, text)
            except FileNotFoundError:  # the first with these two digits
                path.parent.mkdir(parents=True, exist_ok=True)
                self._write(path, text)
        except OSError as error:
            if not self._warned:
                logger.warning("the judge cache %s cannot be written: %s", self._folder, error.strerror or error)
                self._warned = True

    def _write(self, path: Path, text: str) -> None:
        """Write all of it or nothing: others may read the same file meanwhile."""
        unfinished = path.with_name(f"{path.stem}.{self._mine}.tmp")
        try:
            unfinished.write_text(text, encoding="utf-8", errors="replace")
            unfinished.replace(path)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key[2:]}.json"


class CachedJudge:
    """Asks `inner` only what `store` does not know. Equal questions in flight are asked once."""

    def __init__(self, inner: Judge, store: AnswerStore, *, identity: str) -> None:
        """`identity` is all that decides the answers of `inner` beside the question: endpoint, model, parameters."""
        self._inner = inner
        self._store = store
        self._identity = identity
        self._in_flight: dict[str, asyncio.Future[str]] = {}

    async def ask(self, question: Question[AnswerT]) -> AnswerT:
        """See `Judge.ask`."""
        repetition = current_repetition()
        of_repetition = (str(repetition),) if repetition else ()
        key = self._key("ask", question.system or "", question.prompt, format_schema(question.answer), *of_repetition)
        kept = self._store.get(key)
        if kept is not None and (answer := _parse_answer(kept, question)) is not None:
            record_cached()
            return answer

        async def ask() -> str:
            return (await self._inner.ask(question)).model_dump_json(by_alias=True)

        text, of_another = await self._ask_once(key, ask)
        answer = question.answer.model_validate_json(text)
        if of_another and question.check and question.check(answer):
            return await self._inner.ask(question)  # an equal question about another sample, with less to check
        return answer

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """See `Judge.embed`."""
        keys = {text: self._key("embed", text) for text in texts}
        known = {
            text: vector for text, key in keys.items() if (vector := _parse_vector(self._store.get(key))) is not None
        }
        missing = [text for text in keys if text not in known]
        if missing:
            for text, vector in zip(missing, await self._inner.embed(missing), strict=True):
                known[text] = vector
                self._store.put(keys[text], _VECTOR.dump_json(vector).decode())
        else:
            record_cached()
        return [known[text] for text in texts]

    async def close(self) -> None:
        """Close the judge inside."""
        await self._inner.close()

    async def _ask_once(self, key: str, ask: Callable[[], Awaitable[str]]) -> tuple[str, bool]:
        """Return the answer to a question, and whether it is that to an equal one which was under way."""
        while (leader := self._in_flight.get(key)) is not None:
            with not_counted():
                await asyncio.wait([leader])
            if not leader.cancelled():
                text = leader.result()
                record_cached()
                return text, True
        self._in_flight[key] = outcome = asyncio.get_running_loop().create_future()
        try:
            text = await ask()
        except BaseException as error:
            if isinstance(error, Exception):
                outcome.set_exception(error)
                outcome.exception()  # nobody may have waited for it
            else:
                outcome.cancel()  # a follower asks for itself
            raise
        else:
            self._store.put(key, text)
            outcome.set_result(text)
            return text, False
        finally:
            del self._in_flight[key]

    def _key(self, *parts: str) -> str:
        content = json.dumps([CACHE_FORMAT, self._identity, *parts])
        return hashlib.sha256(content.encode(errors="surrogatepass")).hexdigest()


def _parse_vector(kept: str | None) -> list[float] | None:
    try:
        return None if kept is None else _VECTOR.validate_json(kept)
    except ValidationError:
        return None


def _parse_answer(kept: str, question: Question[AnswerT]) -> AnswerT | None:
    try:
        answer = question.answer.model_validate_json(kept)
    except ValidationError:
        return None
    return None if question.check and question.check(answer) else answer
