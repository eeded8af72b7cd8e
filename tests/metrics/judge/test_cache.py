"""The judge cache: what decides an answer decides the key, one request for equal questions, and no error is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from testbench.errors import JudgeError
from testbench.metrics.judge.cache import CachedJudge, DiskAnswerStore, MemoryAnswerStore
from testbench.metrics.judge.cost import JudgeUsage, track_usage
from testbench.metrics.judge.judge import AnswerT, FakeJudge, JudgeSettings, Question


class Verdict(BaseModel):
    verdict: int


class Other(BaseModel):
    verdict: int
    reason: str = ""


QUESTION = Question("Is it so?", Verdict)


def answering(verdict: int = 1) -> FakeJudge:
    return FakeJudge(lambda prompt, wanted: {"verdict": verdict})


async def test_a_second_run_asks_nothing(tmp_path: Path) -> None:
    for run in range(2):
        inner = answering()
        judge = CachedJudge(inner, DiskAnswerStore(tmp_path), identity="a")
        with track_usage() as spent:
            assert await judge.ask(QUESTION) == Verdict(verdict=1)
            assert len(await judge.embed(["x", "y"])) == 2
        assert len(inner.asked) + len(inner.embedded) == (3 if run == 0 else 0)
        assert spent.all_cached == (run == 1)
        assert (spent.total is None) == (run == 1)


async def test_everything_that_decides_is_in_the_key() -> None:
    store = MemoryAnswerStore()
    first = JudgeSettings(base_url="http://a", api_key="k", model="m")
    judges = [
        first,
        replace(first, model="n"),
        replace(first, base_url="http://b"),
        replace(first, embedding_model="e"),
        replace(first, max_tokens=5),
        replace(first, temperature=1.0),
    ]
    for made, judge_settings in enumerate(judges, start=1):
        await CachedJudge(answering(), store, identity=judge_settings.identity).ask(QUESTION)
        assert len(store.texts) == made
    inner = answering()
    judge = CachedJudge(inner, store, identity=first.identity)
    for question in (QUESTION, Question("Is it?", Verdict), Question("Is it so?", Verdict, system="Be strict.")):
        await judge.ask(question)
    await judge.ask(Question("Is it so?", Other))
    assert len(inner.asked) == 3


async def test_the_key_does_not_know_the_api_key() -> None:
    one, other = (JudgeSettings(base_url="http://a", api_key=key, model="m").identity for key in ("k1", "k2"))
    assert one == other


class _Unhurried(FakeJudge):
    """Lets others go first."""

    async def ask(self, question: Question[AnswerT]) -> AnswerT:
        await asyncio.sleep(0)
        return await super().ask(question)


async def test_equal_questions_in_flight_are_asked_once() -> None:
    inner = _Unhurried(lambda prompt, wanted: {"verdict": 1})
    judge = CachedJudge(inner, MemoryAnswerStore(), identity="a")

    async def evaluate() -> JudgeUsage:
        with track_usage() as spent:
            await judge.ask(QUESTION)
        return spent

    spent = await asyncio.gather(*(evaluate() for _ in range(10)))
    assert len(inner.asked) == 1
    assert [one.all_cached for one in spent].count(False) == 1


async def test_who_waits_for_an_equal_question_checks_its_answer_for_itself() -> None:
    inner = _Unhurried(lambda prompt, wanted: {"verdict": 1})
    judge = CachedJudge(inner, MemoryAnswerStore(), identity="a")
    strict = replace(QUESTION, check=lambda answer: "not so")
    first, second = await asyncio.gather(judge.ask(QUESTION), judge.ask(strict), return_exceptions=True)
    assert first == Verdict(verdict=1)
    assert isinstance(second, JudgeError)


async def test_errors_are_not_kept() -> None:
    answers: Iterator[Mapping[str, Any] | JudgeError] = iter([JudgeError("down", kind="unreachable"), {"verdict": 0}])
    judge = CachedJudge(FakeJudge(lambda prompt, wanted: next(answers)), MemoryAnswerStore(), identity="a")
    with pytest.raises(JudgeError):
        await judge.ask(QUESTION)
    assert await judge.ask(QUESTION) == Verdict(verdict=0)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


class _Slow(FakeJudge):
    """Its first answer never comes."""

    def __init__(self) -> None:
        super().__init__(lambda prompt, wanted: {"verdict": 1})
        self.first = asyncio.Event()

    async def ask(self, question: Question[AnswerT]) -> AnswerT:
        if not self.first.is_set():
            self.first.set()
            await asyncio.Event().wait()
        return await super().ask(question)


async def test_who_waits_for_a_cancelled_question_asks_it_again() -> None:
    inner = _Slow()
    judge = CachedJudge(inner, MemoryAnswerStore(), identity="a")
    leader = asyncio.create_task(judge.ask(QUESTION))
    await inner.first.wait()
    follower = asyncio.create_task(judge.ask(QUESTION))
    await asyncio.sleep(0)
    leader.cancel()
    assert await follower == Verdict(verdict=1)


async def test_a_damaged_or_unfit_file_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    store = DiskAnswerStore(tmp_path)
    await CachedJudge(answering(), store, identity="a").ask(QUESTION)
    await CachedJudge(answering(), store, identity="a").embed(["x"])
    files = _files(tmp_path)
    assert len(files) == 2
    for content in (b'{"verdict": "per', b"\xff\xfe", b"", b"[1e999]"):
        for file in files:
            file.write_bytes(content)
        inner = answering(0)
        judge = CachedJudge(inner, store, identity="a")
        assert await judge.ask(QUESTION) == Verdict(verdict=0)
        assert len((await judge.embed(["x"]))[0]) == 8


async def test_a_folder_that_cannot_be_written_is_told_once_and_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    judge = CachedJudge(answering(), DiskAnswerStore(tmp_path / "file"), identity="a")
    for prompt in ("a", "b"):
        assert await judge.ask(Question(prompt, Verdict)) == Verdict(verdict=1)
    assert len([record for record in caplog.records if "cannot be written" in record.message]) == 1


async def test_a_kept_answer_that_does_not_pass_the_check_is_asked_for_again() -> None:
    store = MemoryAnswerStore()
    await CachedJudge(answering(), store, identity="a").ask(QUESTION)
    inner = answering(0)
    strict = replace(QUESTION, check=lambda answer: "not 1" if answer.verdict else None)
    assert await CachedJudge(inner, store, identity="a").ask(strict) == Verdict(verdict=0)
    assert len(inner.asked) == 1


async def test_an_evaluation_of_which_a_part_was_paid_for_is_not_from_the_cache() -> None:
    judge = CachedJudge(answering(), MemoryAnswerStore(), identity="a")
    await judge.ask(QUESTION)
    with track_usage() as spent:
        await judge.ask(QUESTION)
        before = spent.all_cached
        await judge.ask(Question("And now?", Verdict))
    assert (before, spent.all_cached) == (True, False)
    assert spent.total is not None
