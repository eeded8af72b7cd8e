"""What can go wrong below a judge's answer: replies that are cut, drip, redirect, are compressed or are no replies."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from pydantic import BaseModel

from testbench.errors import JudgeError
from testbench.metrics.judge.client import OpenAIJudge
from testbench.metrics.judge.judge import JudgeSettings, Question
from testbench.net.clock import FakeClock


class Verdict(BaseModel):
    verdict: int


GOOD = json.dumps({"choices": [{"message": {"content": '{"verdict": 1}'}, "finish_reason": "stop"}]}).encode()


def reply(body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    told = f"content-length: {len(body) if length is None else length}"
    return "\r\n".join([f"HTTP/1.1 {status}", told, "content-type: application/json", *headers, "", ""]).encode() + body


@asynccontextmanager
async def serving(*replies: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that sends these bytes in turn, cutting the connection after each, and then nothing any more."""
    left, requests, opened = list(replies), [], []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(writer)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        requests.append(head + await reader.readexactly(length))
        if left:
            writer.write(left.pop(0))
            await writer.drain()
            writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", requests
        for writer in opened:
            writer.close()


async def asked(url: str, timeout_s: float = 5.0) -> Verdict | JudgeError:
    judge = OpenAIJudge(
        JudgeSettings(base_url=url, api_key="k", model="m", timeout_s=timeout_s, retries=1), FakeClock()
    )
    try:
        return await judge.ask(Question("Is it?", Verdict))
    except JudgeError as error:
        return error
    finally:
        await judge.close()


BROKEN = {
    "cut in the middle": reply(GOOD[:30], length=len(GOOD)),
    "no HTTP": b"hello\r\n\r\n",
    "nothing at all": b"",
    "an empty body": reply(b""),
    "half a document": reply(GOOD[:30]),
    "compressed, but not": reply(GOOD, "content-encoding: gzip"),
    "bytes that are no text": reply(b'{"choices": "\xff"}'),
    "nested without end": reply(b"[" * 100_000),
}


@pytest.mark.parametrize("broken", BROKEN)
async def test_a_reply_that_is_broken_is_asked_for_again(broken: str) -> None:
    async with serving(BROKEN[broken], reply(GOOD)) as (url, requests):
        assert await asked(url) == Verdict(verdict=1)
        assert len(requests) == 2


@pytest.mark.parametrize("broken", BROKEN)
async def test_replies_that_stay_broken_are_an_error_and_never_an_answer(broken: str) -> None:
    async with serving(*[BROKEN[broken]] * 9) as (url, _):
        found = await asked(url)
    assert isinstance(found, JudgeError)
    assert found.kind in ("unreachable", "http_error")


async def test_a_reply_that_never_ends_is_a_timeout() -> None:
    async with serving() as (url, _):
        found = await asked(url, timeout_s=0.05)
    assert isinstance(found, JudgeError)
    assert (found.kind, found.attempts) == ("timeout", 2)


async def test_a_compressed_reply_is_read() -> None:
    async with serving(reply(gzip.compress(GOOD), "content-encoding: gzip")) as (url, _):
        assert await asked(url) == Verdict(verdict=1)


async def test_a_redirect_is_refused_so_that_no_key_goes_elsewhere() -> None:
    elsewhere = reply(b"", "location: http://127.0.0.1:9/v1", status="307 Temporary Redirect")
    async with serving(elsewhere) as (url, requests):
        found = await asked(url)
    assert isinstance(found, JudgeError)
    assert (found.kind, len(requests)) == ("http_error", 1)


async def test_text_of_any_kind_arrives_as_it_was() -> None:
    text = "Grüße, \u6771\u4eac \U0001f600 \x00 and half a pair \ud800"
    async with serving(reply(GOOD)) as (url, requests):
        judge = OpenAIJudge(JudgeSettings(base_url=url, api_key="k", model="m"), FakeClock())
        await judge.ask(Question(text, Verdict))
        await judge.close()
    sent = json.loads(requests[0].partition(b"\r\n\r\n")[2])
    assert sent["messages"][-1]["content"] == text
