"""A model behind an OpenAI-compatible gateway as the agent under test: its answers, its memory, its faults."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from testbench.arena.targets.chat_client import ChatClient
from testbench.arena.targets.target import ChatTarget, Prices
from testbench.errors import AgentError, InputError
from testbench.net.clock import FakeClock
from testbench.schema.agent import AgentReply, Conversation
from testbench.schema.models import Usage
from tests.support.servers.scripted_chat import Call, Says, ScriptedChat

Open = Callable[..., ChatClient]
KEY = "sk-very-secret-key"


@pytest.fixture
async def client_of(chat: ScriptedChat) -> AsyncIterator[Open]:
    clients: list[ChatClient] = []

    def opened(*, clock: Any = None, on_spent: Any = None, tools: Any = None, **settings: Any) -> ChatClient:
        target = ChatTarget(**{"model": "m", "base_url": chat.base_url, "api_key": KEY} | settings)
        clients.append(ChatClient(target, tools, clock=clock, on_spent=on_spent))
        return clients[-1]

    yield opened
    for client in clients:
        await client.close()


async def fails(client: ChatClient, conversation: Conversation | None = None) -> AgentError:
    with pytest.raises(AgentError) as caught:
        await client.send_step("hi", conversation or Conversation())
    return caught.value


def answer(reply: AgentReply) -> str:
    return reply.turns[-1].content


@pytest.mark.parametrize("stream", [True, False])
async def test_a_conversation_is_told_again_with_every_message(
    chat: ScriptedChat, client_of: Open, stream: bool
) -> None:
    client = client_of(stream=stream, system_prompt="Be brief.", temperature=0.5, max_tokens=99, seed=7)
    conversation, other = Conversation(), Conversation()
    assert answer(await client.send_step("one", conversation)) == "answer to: one"
    assert answer(await client.send_step("elsewhere", other)) == "answer to: elsewhere"
    assert answer(await client.send_step("two", conversation)) == "answer to: two"
    assert [(message["role"], message["content"]) for message in chat.bodies[-1]["messages"]] == [
        ("system", "Be brief."),
        ("user", "one"),
        ("assistant", "answer to: one"),
        ("user", "two"),
    ]
    assert {name: chat.bodies[0][name] for name in ("model", "temperature", "max_tokens", "seed")} == {
        "model": "m",
        "temperature": 0.5,
        "max_tokens": 99,
        "seed": 7,
    }
    assert conversation.context_id
    assert conversation.context_id != other.context_id


async def test_what_a_target_does_not_say_is_left_to_the_gateway(chat: ScriptedChat, client_of: Open) -> None:
    await client_of(stream=False).send_step("hi", Conversation())
    assert chat.bodies[0].keys() == {"model", "messages"}
    assert chat.chats[0].headers["authorization"] == f"Bearer {KEY}"


async def test_two_targets_keep_their_credentials_apart(chat: ScriptedChat, client_of: Open) -> None:
    first, second = client_of(api_key="first-key"), client_of(api_key=None, headers=(("X-Api-Key", "second"),))
    await first.send_step("hi", Conversation())
    await second.send_step("hi", Conversation())
    one, two = (request.headers for request in chat.chats)
    assert (one["authorization"], one.get("x-api-key")) == ("Bearer first-key", None)
    assert (two.get("authorization"), two["x-api-key"]) == (None, "second")


async def test_credentials_and_query_of_an_address_are_sent(chat: ScriptedChat, client_of: Open) -> None:
    url = chat.base_url.replace("http://", "http://user:pass@") + "?api-version=7"
    client = client_of(base_url=url, api_key=None)
    await client.connect()
    await client.send_step("hi", Conversation())
    for request in chat.requests:
        assert (request.headers["authorization"], request.query) == ("Basic dXNlcjpwYXNz", "api-version=7")


class Noticing(FakeClock):
    """Notices when it is looked at for the second time."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0
        self.looked_twice = asyncio.Event()

    def monotonic(self) -> float:
        self.looks += 1
        if self.looks == 2:
            self.looked_twice.set()
        return super().monotonic()


async def test_the_time_to_the_first_token_is_that_of_the_first_text(chat: ScriptedChat, client_of: Open) -> None:
    chat.hold_streams()
    clock = Noticing()
    asked = asyncio.create_task(client_of(clock=clock).send_step("hi", Conversation()))
    await asyncio.to_thread(chat.wait_for, lambda: chat.held == 1)
    await clock.sleep(2)
    chat.release()
    await asyncio.to_thread(chat.wait_for, lambda: chat.held == 2)
    await clock.looked_twice.wait()
    await clock.sleep(5)
    chat.release()
    reply = await asked
    assert reply.time_to_first_token_ms == 2000
    assert reply.seconds == 7


async def test_an_answer_that_is_not_streamed_has_no_first_token(chat: ScriptedChat, client_of: Open) -> None:
    assert (await client_of(stream=False).send_step("hi", Conversation())).time_to_first_token_ms is None


@pytest.mark.parametrize("stream", [True, False])
async def test_tokens_are_counted_and_priced(chat: ScriptedChat, client_of: Open, stream: bool) -> None:
    chat.says("x" * 400)
    spent: list[Usage] = []
    client = client_of(stream=stream, prices=Prices(1.0, 2.0), on_spent=spent.append)
    reply = await client.send_step("y" * 80, Conversation())
    assert reply.usage == Usage(input_tokens=20, output_tokens=100, cost_usd=0.22)
    assert spent == [reply.usage]


async def test_the_gateway_knows_the_cost_better_than_the_price_list(chat: ScriptedChat, client_of: Open) -> None:
    chat.cost(0.5)
    reply = await client_of(stream=False, prices=Prices(1.0, 2.0)).send_step("hi", Conversation())
    assert reply.usage is not None
    assert reply.usage.cost_usd == 0.5


@pytest.mark.parametrize("stream", [True, False])
async def test_tokens_that_nobody_counted_are_unknown(chat: ScriptedChat, client_of: Open, stream: bool) -> None:
    chat.without_usage()
    reply = await client_of(stream=stream, prices=Prices(1.0, 2.0)).send_step("hi", Conversation())
    assert reply.usage is None


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_that_the_gateway_broke_off_is_asked_for_again(
    chat: ScriptedChat, client_of: Open, stream: bool
) -> None:
    chat.says(Says("half an ans", finish_reason="error"), "a whole answer")
    client, conversation = client_of(stream=stream), Conversation()
    error = await fails(client, conversation)
    assert (error.kind, error.retryable) == ("failed", True)
    reply = await client.send_step("hi", conversation)
    assert reply.turns[-1].content == "a whole answer"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("says", "kind"),
    [
        (Says("half an ans", finish_reason="length"), "truncated"),
        (Says("half an ans", finish_reason="content_filter"), "content_filter"),
        (Says(""), "no_answer"),
        (Says(" \n"), "no_answer"),
    ],
)
async def test_what_is_no_whole_answer_is_an_error(
    chat: ScriptedChat, client_of: Open, says: Says, kind: str, stream: bool
) -> None:
    chat.says(says)
    spent: list[Usage] = []
    error = await fails(client_of(stream=stream, on_spent=spent.append))
    assert (error.kind, error.retryable) == (kind, False)
    assert len(spent) == 1, "it was paid for all the same"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_refusal_in_words_of_its_own_is_an_answer(chat: ScriptedChat, client_of: Open, stream: bool) -> None:
    chat.says(Says(refusal="I will not."))
    assert answer(await client_of(stream=stream).send_step("hi", Conversation())) == "I will not."


@pytest.mark.parametrize(
    ("status", "kind", "retryable", "delivered"),
    [
        (429, "rate_limited", True, False),
        (503, "http_error", True, False),
        (500, "http_error", True, True),
        (401, "auth_required", False, False),
        (403, "auth_required", False, False),
        (400, "http_error", False, False),
        (404, "http_error", False, False),
        (302, "http_error", False, False),
    ],
)
async def test_a_status_says_whether_to_come_back(
    chat: ScriptedChat, client_of: Open, status: int, kind: str, retryable: bool, delivered: bool
) -> None:
    chat.fail_next(status=status, retry_after=7)
    error = await fails(client_of())
    assert (error.kind, error.retryable, error.delivered) == (kind, retryable, delivered)
    assert error.retry_after == (7 if retryable else None)
    assert error.overloaded is (status in (429, 503))
    assert error.message == f"HTTP {status}: scripted {status}"


async def test_a_quota_that_is_used_up_does_not_come_back(chat: ScriptedChat, client_of: Open) -> None:
    chat.fail_next(status=429, body='{"error": {"code": "insufficient_quota", "message": "pay"}}')
    error = await fails(client_of())
    assert (error.kind, error.retryable) == ("rate_limited", False)


async def test_a_prompt_that_the_gateway_filters_is_named_so(chat: ScriptedChat, client_of: Open) -> None:
    chat.fail_next(status=400, body='{"error": {"code": "content_filter", "message": "no"}}')
    assert (await fails(client_of())).kind == "content_filter"


@pytest.mark.parametrize("stream", [True, False])
async def test_garbage_is_no_answer(chat: ScriptedChat, client_of: Open, stream: bool) -> None:
    for body in ("<html>", "{}", '{"choices": []}', '{"choices": "no"}', "[" * 100_000):
        chat.garbage_next(body=body)
        error = await fails(client_of(stream=stream))
        assert (error.kind, error.retryable) == ("protocol", False), body[:20]


async def test_a_reply_without_end_is_given_up(chat: ScriptedChat, client_of: Open) -> None:
    chat.says("x" * 5_000_000)
    assert (await fails(client_of(stream=False))).kind == "protocol"


async def test_a_stream_that_breaks_off_is_no_answer(chat: ScriptedChat, client_of: Open) -> None:
    chat.says(Says("half an answer", cut=True))
    error = await fails(client_of())
    assert (error.kind, error.retryable, error.delivered) == ("unreachable", True, True)


async def test_a_stream_that_ends_without_saying_so_is_no_answer(chat: ScriptedChat, client_of: Open) -> None:
    chat.says(Says("half an answer", finish_reason=""))
    assert (await fails(client_of())).kind == "protocol"


async def test_an_error_in_the_middle_of_a_stream_is_no_answer(chat: ScriptedChat, client_of: Open) -> None:
    chat.says(Says("half an answer", error={"message": "overloaded", "code": 503}))
    error = await fails(client_of())
    assert (error.kind, error.retryable, error.message) == ("http_error", True, "HTTP 503: overloaded")


async def test_a_gateway_that_is_not_there_was_not_reached(client_of: Open, nobody: str) -> None:
    client = client_of(base_url=f"{nobody}/v1")
    for error in (await fails(client), await fails_to_connect(client)):
        assert (error.kind, error.retryable, error.delivered) == ("unreachable", True, False)
        assert nobody in error.message


async def test_a_lost_reply_may_be_asked_for_again(chat: ScriptedChat, client_of: Open) -> None:
    client, conversation = client_of(), Conversation()
    chat.drop_next()
    error = await fails(client, conversation)
    assert (error.kind, error.retryable, error.delivered) == ("unreachable", True, True)
    assert answer(await client.send_step("hi", conversation)) == "answer to: hi"
    assert [message["content"] for message in chat.bodies[-1]["messages"]] == ["hi"]


async def test_an_answer_that_does_not_come_is_not_waited_for(chat: ScriptedChat, client_of: Open) -> None:
    chat.hang()
    error = await fails(client_of(timeout_s=0.1))
    assert (error.kind, error.retryable) == ("timeout", True)


async def test_a_step_that_failed_for_good_was_never_said(chat: ScriptedChat, client_of: Open) -> None:
    client, conversation = client_of(), Conversation()
    chat.fail_next(status=400)
    await fails(client, conversation)
    conversation.outstanding = None  # as the executor does once it has given up
    await client.send_step("next", conversation)
    assert [message["content"] for message in chat.bodies[-1]["messages"]] == ["next"]


async def test_options_that_a_gateway_calls_otherwise_are_learnt_once(chat: ScriptedChat, client_of: Open) -> None:
    chat.refuses("max_tokens", "stream_options")
    client = client_of(max_tokens=5)
    assert answer(await client.send_step("hi", Conversation())) == "answer to: hi"
    await client.send_step("hi", Conversation())
    assert len(chat.bodies) == 4
    assert chat.bodies[-1]["max_completion_tokens"] == 5
    assert "stream_options" not in chat.bodies[-1]


async def test_an_option_that_decides_the_answer_is_never_left_out(chat: ScriptedChat, client_of: Open) -> None:
    chat.refuses("temperature")
    error = await fails(client_of(temperature=0.0))
    assert "temperature" in error.message
    assert len(chat.bodies) == 1


async def fails_to_connect(client: ChatClient) -> AgentError:
    with pytest.raises(AgentError) as caught:
        await client.connect()
    return caught.value


async def test_connecting_asks_for_no_completion(chat: ScriptedChat, client_of: Open) -> None:
    assert (await client_of().connect()).name == "m"
    assert [request.path for request in chat.requests] == ["/v1/models"]


@pytest.mark.parametrize(("status", "kind"), [(401, "auth_required"), (503, "unreachable")])
async def test_a_gateway_that_refuses_us_is_found_out_before_the_run(
    chat: ScriptedChat, client_of: Open, monkeypatch: pytest.MonkeyPatch, status: int, kind: str
) -> None:
    monkeypatch.setattr(chat, "scripted_methods", {"GET"})
    chat.fail_next(status=status)
    assert (await fails_to_connect(client_of())).kind == kind


async def test_a_gateway_that_lists_no_models_is_a_gateway(
    chat: ScriptedChat, client_of: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "scripted_methods", {"GET"})
    chat.fail_next(status=404)
    await client_of().connect()


@pytest.mark.parametrize("url", ["ftp://host/v1", "not an address", "http://", "http://[::1"])
async def test_an_address_that_is_none_is_bad_input(client_of: Open, url: str) -> None:
    with pytest.raises(InputError, match="not the address"):
        client_of(base_url=url)


async def test_no_secret_is_shown_anywhere(
    chat: ScriptedChat, client_of: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "testbench")  # `testbench.cli.logs` keeps all other loggers silent
    url = chat.base_url.replace("http://", "http://user:hidden-password@") + "?sig=hidden-signature"
    headers = (("X-Token", "Token hidden-token"),)
    target = ChatTarget(model="m", base_url=url, api_key=KEY, headers=headers)
    client = client_of(base_url=url, headers=headers)
    chat.fail_next(status=401, body=f'{{"error": "bad key {KEY}, hidden-token, hidden-signature, hidden-password"}}')
    chat.garbage_next(body=KEY)
    chat.drop_next()
    errors = [await fails(client) for _ in range(3)]
    seen = [repr(target), *map(repr, errors), *[error.message + error.hint for error in errors]]
    shown = "\n".join([*seen, caplog.text])
    assert [error.kind for error in errors] == ["auth_required", "protocol", "unreachable"]
    for secret in (KEY, "hidden"):
        assert secret not in shown


async def test_a_call_of_a_tool_that_was_not_offered_is_told_so(chat: ScriptedChat, client_of: Open) -> None:
    chat.says(Says(calls=(Call("search", id="c1"),)), "sorry")
    reply = await client_of().send_step("hi", Conversation())
    assert [turn.type for turn in reply.turns] == ["agent", "tool", "agent"]
    assert "there is no tool 'search'" in chat.bodies[-1]["messages"][-1]["content"]
