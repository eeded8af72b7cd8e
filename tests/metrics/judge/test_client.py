"""The judge client against a real OpenAI-compatible server: patience, repair, refusals, usage, and giving up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from pydantic import BaseModel

from testbench.errors import InputError, JudgeError
from testbench.metrics.judge.client import OpenAIJudge
from testbench.metrics.judge.cost import Price, PriceList, track_usage
from testbench.metrics.judge.judge import JudgeSettings, Question, read_gateway
from testbench.net.clock import FakeClock
from testbench.schema.models import Usage
from tests.support.servers.scripted_judge import ScriptedJudge, prompt_tokens, tokens


class Verdict(BaseModel):
    verdict: int
    reason: str


QUESTION = Question("Is it so?", Verdict)
GOOD = {"verdict": 1, "reason": "it is"}

Connect = Callable[..., OpenAIJudge]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def connect(judge: ScriptedJudge, clock: FakeClock) -> AsyncIterator[Connect]:
    made: list[OpenAIJudge] = []

    def make(**settings: Any) -> OpenAIJudge:
        base: dict[str, Any] = {"base_url": judge.base_url, "api_key": "key", "model": "judge-a"}
        made.append(OpenAIJudge(JudgeSettings(**(base | settings)), clock))
        return made[-1]

    judge.answer("Verdict", GOOD)
    yield make
    for client in made:
        await client.close()


async def failing(client: OpenAIJudge) -> JudgeError:
    with pytest.raises(JudgeError) as caught:
        await client.ask(QUESTION)
    return caught.value


async def test_a_question_goes_out_with_its_schema_and_comes_back_as_a_model(
    judge: ScriptedJudge, connect: Connect
) -> None:
    assert await connect().ask(QUESTION) == Verdict(**GOOD)
    body = judge.chats[0].json()
    assert (body["model"], body["temperature"], body["response_format"]["type"]) == ("judge-a", 0, "json_schema")
    assert body["response_format"]["json_schema"]["strict"] is True
    assert "JSON Schema" in body["messages"][0]["content"]
    assert body["messages"][-1] == {"role": "user", "content": "Is it so?"}
    assert judge.chats[0].headers["authorization"] == "Bearer key"


async def test_usage_and_cost_belong_to_the_evaluation_that_spent_them(judge: ScriptedJudge, connect: Connect) -> None:
    client = connect()
    judge.cost(0.25)

    async def evaluate(prompt: str) -> tuple[str, Usage | None]:
        with track_usage() as spent:
            await client.ask(Question(prompt, Verdict))
            await client.ask(Question(prompt * 2, Verdict))
        return prompt, spent.total

    for prompt, usage in await asyncio.gather(*(evaluate(letter * 100) for letter in "abc")):
        bodies = [r.json() for r in judge.chats if r.json()["messages"][-1]["content"] in (prompt, prompt * 2)]
        wanted = sum(prompt_tokens(body) for body in bodies)
        answer = tokens(json.dumps(GOOD))
        assert usage == Usage(input_tokens=wanted, output_tokens=2 * answer, cost_usd=0.5)


async def test_a_cost_that_is_none_is_absent(judge: ScriptedJudge, connect: Connect) -> None:
    for cost in (None, float("nan"), -1.0):
        judge.cost(cost)
        with track_usage() as spent:
            await connect().ask(QUESTION)
        assert spent.total is not None
        assert spent.total.cost_usd is None


@pytest.mark.parametrize("status", [429, 500, 502, 503, 408])
async def test_what_passes_is_tried_again(
    judge: ScriptedJudge, connect: Connect, clock: FakeClock, status: int
) -> None:
    judge.fail_next(3, status=status)
    assert await connect().ask(QUESTION) == Verdict(**GOOD)
    assert len(judge.chats) == 4
    assert [0.5 * 2**n <= wait <= 2**n for n, wait in enumerate(clock.sleeps)] == [True, True, True]


async def test_retry_after_is_obeyed_with_jitter_on_top(
    judge: ScriptedJudge, connect: Connect, clock: FakeClock
) -> None:
    judge.fail_next(1, status=429, retry_after=7)
    judge.fail_next(1, status=429, retry_after="Thu, 01 Jan 2026 00:01:00 GMT")
    await connect().ask(QUESTION)
    first, second = clock.sleeps
    assert 7.5 <= first <= 8
    assert 61 <= second + first <= 62


async def test_a_server_that_asks_for_no_wait_is_not_asked_without_end(
    judge: ScriptedJudge, connect: Connect, clock: FakeClock
) -> None:
    judge.fail_rate(1.0, status=429, retry_after=0)
    error = await failing(connect())
    assert error.kind == "rate_limited"
    assert len(judge.chats) < 20
    assert all(wait >= 0.5 for wait in clock.sleeps)


async def test_a_connection_that_breaks_is_tried_again(judge: ScriptedJudge, connect: Connect) -> None:
    judge.drop_next(2)
    assert await connect().ask(QUESTION) == Verdict(**GOOD)


async def test_a_reply_that_is_no_chat_completion_is_tried_again(judge: ScriptedJudge, connect: Connect) -> None:
    judge.garbage_next(1)
    judge.garbage_next(1, body='{"choices": []}')
    assert await connect().ask(QUESTION) == Verdict(**GOOD)


async def test_a_fifth_of_rate_limits_loses_nothing(judge: ScriptedJudge, connect: Connect) -> None:
    judge.fail_rate(0.2, status=429)
    client = connect(concurrency=16)
    answers = await asyncio.gather(*(client.ask(Question(f"{n}?", Verdict)) for n in range(60)))
    assert answers == [Verdict(**GOOD)] * 60
    assert judge.max_in_flight <= 16


async def test_requests_in_flight_are_bounded(judge: ScriptedJudge, connect: Connect) -> None:
    judge.hang()
    client = connect(concurrency=3)
    asking = [asyncio.create_task(client.ask(Question(f"{n}?", Verdict))) for n in range(12)]
    await asyncio.to_thread(judge.wait_in_flight, 3)
    judge.release()
    assert await asyncio.gather(*asking) == [Verdict(**GOOD)] * 12
    assert judge.max_in_flight == 3


async def test_a_rate_limit_longer_than_the_deadline_ends_at_once(
    judge: ScriptedJudge, connect: Connect, clock: FakeClock
) -> None:
    judge.fail_next(1, status=429, retry_after=3600)
    error = await failing(connect())
    assert (error.kind, error.attempts, clock.sleeps) == ("rate_limited", 1, [])


@pytest.mark.parametrize(("status", "kind"), [(400, "http_error"), (404, "http_error"), (401, "auth"), (403, "auth")])
async def test_what_does_not_pass_is_asked_once(judge: ScriptedJudge, connect: Connect, status: int, kind: str) -> None:
    judge.fail_next(1, status=status)
    error = await failing(connect())
    assert (error.kind, error.attempts, len(judge.chats)) == (kind, 1, 1)


async def test_a_hanging_judge_is_a_timeout(judge: ScriptedJudge, connect: Connect) -> None:
    judge.hang()
    error = await failing(connect(timeout_s=0.05, retries=1))
    judge.release()
    assert (error.kind, error.attempts) == ("timeout", 2)


async def test_nobody_there(nobody: str, clock: FakeClock) -> None:
    client = OpenAIJudge(JudgeSettings(base_url=f"{nobody}/v1", api_key="key", model="m"), clock)
    first = await failing(client)
    assert (first.kind, first.attempts) == ("unreachable", 3)
    assert nobody in first.message
    again = await failing(client)
    assert (again.kind, again.attempts, len(clock.sleeps)) == ("unreachable", 0, 2)
    await client.close()


async def test_a_judge_that_is_down_is_found_out_once(judge: ScriptedJudge, connect: Connect) -> None:
    judge.fail_rate(1.0, status=503)
    client = connect(concurrency=1, retries=2)
    errors = await asyncio.gather(*(failing(client) for _ in range(20)))
    assert {error.kind for error in errors} == {"http_error"}
    in_flight_already = 20 * 3
    assert len(judge.chats) <= in_flight_already
    before = len(judge.chats)
    assert (await failing(client)).attempts == 0
    assert len(judge.chats) == before


async def test_the_wait_for_a_turn_uses_up_no_patience(judge: ScriptedJudge, clock: FakeClock) -> None:
    judge.answer("Verdict", GOOD)
    judge.fail_next(1, status=429)
    client = OpenAIJudge(JudgeSettings(base_url=judge.base_url, api_key="k", model="m", concurrency=1), clock)
    async with client._pacer.take_slot():
        asking = asyncio.create_task(client.ask(QUESTION))
        while not client._pacer._waiting:  # noqa: ASYNC110  # nobody tells when one begins to wait
            await asyncio.sleep(0)
        await clock.sleep(3600)
    assert await asking == Verdict(**GOOD)
    await client.close()


async def test_a_question_that_is_refused_does_not_take_the_judge_down(judge: ScriptedJudge, connect: Connect) -> None:
    judge.fail_next(1, status=400)
    client = connect()
    await failing(client)
    assert await client.ask(QUESTION) == Verdict(**GOOD)


async def test_a_judge_that_answers_others_meanwhile_is_not_down(judge: ScriptedJudge) -> None:
    class Meanwhile(FakeClock):
        async def sleep(self, seconds: float) -> None:
            await super().sleep(seconds)
            assert await client.ask(QUESTION) == Verdict(**GOOD)

    judge.answer("Verdict", GOOD)
    judge.statuses(503, 200, 503, 200, 503)
    client = OpenAIJudge(JudgeSettings(base_url=judge.base_url, api_key="k", model="m", retries=2), Meanwhile())
    assert (await failing(client)).attempts == 3
    assert await client.ask(QUESTION) == Verdict(**GOOD)
    await client.close()


async def test_a_rate_limit_is_waited_out_beyond_the_retries(judge: ScriptedJudge, connect: Connect) -> None:
    judge.fail_next(8, status=429)
    assert await connect(retries=2).ask(QUESTION) == Verdict(**GOOD)


async def test_a_malformed_answer_is_repaired_once(judge: ScriptedJudge, connect: Connect) -> None:
    judge.malformed_next(1)
    with track_usage() as spent:
        assert await connect().ask(QUESTION) == Verdict(**GOOD)
    repair = judge.chats[1].json()["messages"]
    assert [message["role"] for message in repair[-3:]] == ["user", "assistant", "user"]
    assert "no JSON object" in repair[-1]["content"]
    assert len(spent.paid) == 2


async def test_a_malformed_answer_twice_is_an_error_with_the_words(judge: ScriptedJudge, connect: Connect) -> None:
    judge.reply_text("I would say 0.7" + "!" * 10_000)
    error = await failing(connect())
    assert (error.kind, len(judge.chats)) == ("malformed", 2)
    assert error.raw is not None
    assert error.raw.startswith("I would say 0.7")
    assert len(error.raw) < 5_000


async def test_an_empty_answer_is_malformed(judge: ScriptedJudge, connect: Connect) -> None:
    judge.reply_text("")
    assert (await failing(connect())).kind == "malformed"


@pytest.mark.parametrize(("reason", "kind"), [("length", "truncated"), ("content_filter", "content_filter")])
async def test_an_answer_cut_short_is_no_answer(judge: ScriptedJudge, connect: Connect, reason: str, kind: str) -> None:
    judge.finish_reason(reason)
    error = await failing(connect())
    assert (error.kind, error.raw) == (kind, json.dumps(GOOD))


def said_by(message: dict[str, Any], **more: Any) -> str:
    return json.dumps({"choices": [{"message": message, "finish_reason": "stop"}], **more})


async def test_a_judge_that_refuses_is_told_in_its_words_and_not_asked_again(
    judge: ScriptedJudge, connect: Connect
) -> None:
    judge.garbage_next(1, body=said_by({"content": None, "refusal": "I cannot grade this."}))
    error = await failing(connect())
    assert (error.kind, error.raw, len(judge.chats)) == ("content_filter", "I cannot grade this.", 1)
    assert "I cannot grade this." in error.message


async def test_an_error_inside_of_a_success_is_told_in_the_gateways_words(
    judge: ScriptedJudge, connect: Connect
) -> None:
    for _ in range(3):
        judge.garbage_next(1, body='{"error": {"message": "no provider has capacity", "code": 502}}')
    error = await failing(connect(retries=2))
    assert (error.kind, error.attempts) == ("http_error", 3)
    assert "no provider has capacity" in error.message


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": -5, "completion_tokens": 1},
        {"prompt_tokens": "many"},
        {"prompt_tokens": 10**30, "completion_tokens": 1},
        [],
        None,
    ],
)
async def test_a_usage_that_makes_no_sense_is_absent_and_the_answer_counts(
    judge: ScriptedJudge, connect: Connect, usage: Any
) -> None:
    judge.garbage_next(1, body=said_by({"content": json.dumps(GOOD)}, usage=usage))
    with track_usage() as spent:
        assert await connect().ask(QUESTION) == Verdict(**GOOD)
    assert spent.total == Usage()


@pytest.mark.parametrize("vector", [[], [float("nan")], ["a"]])
async def test_vectors_that_are_none_are_asked_for_again(
    judge: ScriptedJudge, connect: Connect, vector: list[Any]
) -> None:
    judge.garbage_next(1, body=json.dumps({"data": [{"index": 0, "embedding": vector}]}))
    judge.embedding("a", [1.0, 0.0])
    assert await connect().embed(["a"]) == [[1.0, 0.0]]


async def test_a_key_that_a_gateway_repeats_is_not_shown(judge: ScriptedJudge, connect: Connect) -> None:
    judge.fail_next(1, status=401, body='{"error": {"message": "Incorrect API key: sk-secret-123"}}')
    error = await failing(connect(api_key="sk-secret-123"))
    assert error.kind == "auth"
    assert "secret" not in error.message


def refusal(option: str) -> str:
    return json.dumps({"error": {"message": f"Unsupported parameter: '{option}'", "param": option}})


async def test_options_that_a_gateway_refuses_are_left_out_from_then_on(judge: ScriptedJudge, connect: Connect) -> None:
    judge.refuse_formats("json_schema", "json_object")
    for option in ("temperature", "max_tokens"):
        judge.fail_next(1, status=400, body=refusal(option))
    client = connect(max_tokens=77)
    await client.ask(QUESTION)
    await client.ask(QUESTION)
    body = judge.chats[-1].json()
    assert not {"response_format", "temperature", "max_tokens"} & body.keys()
    assert body["max_completion_tokens"] == 77
    assert len(judge.chats) == 6


class Free(BaseModel):
    """Has keys that no strict schema can name."""

    found: dict[str, int]


@pytest.mark.parametrize(
    ("refused", "forms"),
    [
        ((), ["json_schema", "json_object", "json_schema"]),
        (("json_schema",), ["json_object", "json_object", "json_object"]),
        (("json_object",), ["json_schema", None, "json_schema"]),
        (("json_schema", "json_object"), [None, None, None]),
    ],
)
async def test_an_answers_form_is_asked_for_as_strictly_as_the_gateway_allows(
    judge: ScriptedJudge, connect: Connect, refused: tuple[str, ...], forms: list[str | None]
) -> None:
    judge.refuse_formats(*refused)
    judge.answer("Free", {"found": {"a": 1}})
    client = connect()
    accepted = []
    for answer in (Verdict, Free, Verdict):
        await client.ask(Question[Any]("Is it so?", answer))
        accepted.append(judge.chats[-1].json())
    assert [body.get("response_format", {}).get("type") for body in accepted] == forms
    assert len(judge.chats) <= 3 + len(refused)


async def test_requests_that_are_refused_at_the_same_time_all_go_on(judge: ScriptedJudge, connect: Connect) -> None:
    judge.refuse_formats("json_schema", "json_object")
    client = connect(concurrency=8)
    answers = await asyncio.gather(*(client.ask(Question(f"{n}?", Verdict)) for n in range(20)))
    assert answers == [Verdict(**GOOD)] * 20
    before = len(judge.chats)
    await client.ask(QUESTION)
    assert len(judge.chats) == before + 1


async def test_a_422_about_the_form_is_understood_too(judge: ScriptedJudge, connect: Connect) -> None:
    judge.fail_next(1, status=422, body=refusal("response_format.json_schema"))
    assert await connect().ask(QUESTION) == Verdict(**GOOD)


async def test_embeddings(judge: ScriptedJudge, connect: Connect) -> None:
    judge.embedding("a", [1.0, 0.0])
    judge.embedding("b", [0.0, 1.0])
    with track_usage() as spent:
        assert await connect(embedding_model="e").embed(["b", "a"]) == [[0.0, 1.0], [1.0, 0.0]]
    assert judge.requests[-1].json()["model"] == "e"
    [usage] = spent.paid
    assert (usage.input_tokens, usage.output_tokens) == (2, 0)


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({"OPENAI_API_BASE": "http://a/v1/"}, "http://a/v1"),
        ({"OPENAI_BASE_URL": "https://b"}, "https://b"),
        ({"OPENAI_BASE_URL": "http://b", "OPENAI_API_BASE": "http://a"}, "http://b"),
        ({"OPENAI_BASE_URL": " ", "OPENAI_API_BASE": "http://a"}, "http://a"),
    ],
)
def test_both_names_of_the_endpoint_are_understood(environment: dict[str, str], url: str) -> None:
    assert read_gateway(environment) == (url, "unused")
    assert read_gateway(environment | {"OPENAI_API_KEY": "k"}) == (url, "k")


@pytest.mark.parametrize(
    "url", ["http://[bad/v1", "http://x:99999/v1", "http:///v1", "https://", "http://a b/v1", "ftp://a"]
)
def test_an_address_that_is_none_is_told_before_anything_is_asked(url: str) -> None:
    with pytest.raises(InputError, match="OPENAI_API_BASE is not an http"):
        read_gateway({"OPENAI_API_BASE": url})


@pytest.mark.parametrize("key", ["schl\u00fcssel", "a\nb"])
def test_a_key_that_no_header_can_hold_is_told_and_not_shown(key: str) -> None:
    with pytest.raises(InputError, match="OPENAI_API_KEY") as caught:
        read_gateway({"OPENAI_API_BASE": "http://a", "OPENAI_API_KEY": key})
    assert key not in caught.value.message


@pytest.mark.parametrize("environment", [{}, {"OPENAI_API_BASE": ""}, {"OPENAI_API_BASE": "localhost:11001"}])
def test_without_an_endpoint_no_vendor_is_assumed(environment: dict[str, str]) -> None:
    with pytest.raises(InputError) as caught:
        read_gateway(environment)
    assert "OPENAI_API_BASE" in caught.value.hint


def test_the_key_is_not_part_of_what_settings_print() -> None:
    assert "secret" not in repr(JudgeSettings(base_url="http://a", api_key="secret", model=None))


async def test_an_automatic_pace_loses_nothing_and_stays_below_its_ceiling(
    judge: ScriptedJudge, connect: Connect
) -> None:
    judge.fail_rate(0.3, status=429)
    client = connect(concurrency=16, adaptive=True)
    answers = await asyncio.gather(*(client.ask(Question(f"{n}?", Verdict)) for n in range(80)))
    assert answers == [Verdict(**GOOD)] * 80
    assert judge.max_in_flight <= 16


async def test_an_automatic_pace_begins_low_and_grows(judge: ScriptedJudge, connect: Connect) -> None:
    client = connect(concurrency=64, adaptive=True)
    for most in (8, 16):
        judge.hang()
        asking = [asyncio.create_task(client.ask(Question(f"{n}?", Verdict))) for n in range(40)]
        await asyncio.to_thread(judge.wait_in_flight, most)
        judge.release()
        await asyncio.gather(*asking)


@pytest.mark.parametrize(("status", "places"), [(429, 4), (503, 4), (500, 8)])
async def test_a_pushback_halves_the_pace_and_a_fault_does_not(
    judge: ScriptedJudge, connect: Connect, status: int, places: int
) -> None:
    judge.fail_next(1, status=status)
    client = connect(concurrency=64, adaptive=True)
    await client.ask(QUESTION)
    assert client._pacer.pace.slots == places


async def test_a_server_that_queues_too_much_gets_fewer_requests(judge: ScriptedJudge, connect: Connect) -> None:
    judge.hang_next(1)
    client = connect(concurrency=64, adaptive=True, timeout_s=0.3)
    await client.ask(QUESTION)
    judge.release()
    assert client._pacer.pace.slots <= 4  # a busy machine may run out of time more than once


async def test_the_judge_is_asked_through_the_proxy_of_the_environment(
    judge: ScriptedJudge, connect: Connect, nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = JudgeSettings(base_url="http://judge.example/v1", api_key="k", model="m")
    monkeypatch.setenv("http_proxy", judge.origin)
    client = OpenAIJudge(settings)
    await failing(client)  # this proxy knows no other servers
    await client.close()
    assert judge.requests[0].headers["host"] == "judge.example"
    monkeypatch.setenv("http_proxy", nobody)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert await connect().ask(QUESTION) == Verdict(**GOOD)


async def test_the_temperature_is_the_users(judge: ScriptedJudge, connect: Connect) -> None:
    await connect(temperature=0.7).ask(QUESTION)
    assert judge.chats[0].json()["temperature"] == 0.7


async def test_a_wrong_key_ends_it_for_all_questions(judge: ScriptedJudge, connect: Connect) -> None:
    judge.fail_next(1, status=401)
    client = connect()
    assert (await failing(client)).attempts == 1
    again = await failing(client)
    assert (again.kind, again.attempts, len(judge.chats)) == ("auth", 0, 1)


DEAR = PriceList({"judge-a": Price(input=1000, output=1000)})
"""One request can cost between 4 and 5 dollars, and costs less than one."""


async def test_what_is_refused_costs_nothing(judge: ScriptedJudge, connect: Connect) -> None:
    judge.fail_next(4, status=429)
    assert await connect(prices=DEAR, max_cost=6.0).ask(QUESTION) == Verdict(**GOOD)


async def test_what_was_not_answered_in_time_may_have_cost_the_most(judge: ScriptedJudge, connect: Connect) -> None:
    judge.hang_next(1)
    error = await failing(connect(prices=DEAR, max_cost=6.0, timeout_s=0.2))
    judge.release()
    assert (error.kind, len(judge.chats)) == ("max_cost", 1)


async def test_the_time_that_requests_take_uses_up_the_patience(judge: ScriptedJudge) -> None:
    class Slow(FakeClock):
        def monotonic(self) -> float:
            self.passed = getattr(self, "passed", 0.0) + 130.0
            return self.passed

    judge.fail_rate(1.0, status=500)
    settings = JudgeSettings(base_url=judge.base_url, api_key="k", model="m", retries=9)
    client = OpenAIJudge(settings, Slow())
    error = await failing(client)
    await client.close()
    assert (error.kind, error.attempts) == ("http_error", 2)


async def test_what_was_begun_is_ended_before_more_is_begun(judge: ScriptedJudge, connect: Connect) -> None:
    judge.fail_next(1, status=429)
    client = connect(concurrency=1)
    await asyncio.gather(*(client.ask(Question(f"{n}?", Verdict)) for n in range(6)))
    asked = [chat.json()["messages"][-1]["content"] for chat in judge.chats]
    assert asked[0] == "0?"
    assert asked.index("0?", 1) < 4
    assert len(asked) == 7


async def test_a_quota_that_is_used_up_is_not_waited_for(judge: ScriptedJudge, connect: Connect) -> None:
    judge.fail_next(1, status=429, body='{"error": {"message": "no money left", "code": "insufficient_quota"}}')
    error = await failing(connect())
    assert (error.kind, error.attempts, len(judge.chats)) == ("rate_limited", 1, 1)


async def test_a_question_that_is_filtered_says_so(judge: ScriptedJudge, connect: Connect) -> None:
    judge.fail_next(1, status=400, body='{"error": {"message": "against our policy", "code": "content_filter"}}')
    error = await failing(connect())
    assert (error.kind, error.attempts) == ("content_filter", 1)


async def test_messages_call_the_model_by_its_role(
    judge: ScriptedJudge, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    judge.fail_rate(1.0, status=500)
    error = await failing(connect(retries=0, role="model"))
    assert error.message.startswith("the model's gateway answered 500")
    assert "the model is down" in caplog.text
    assert "judge" not in caplog.messages[-1]
