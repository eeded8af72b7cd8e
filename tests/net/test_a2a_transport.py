"""The connections to an agent, against servers that misbehave: what a fault is called, and if it was delivered."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.types import Message, Part, Role, SendMessageRequest

from testbench.errors import AgentError, InputError
from testbench.net import transport as a2a_transport
from testbench.net.transport import AiohttpTransport, LeanHttpClient, Turns, stopwatch
from testbench.schema.a2a_client import A2AStepClient, ClientSettings
from testbench.schema.agent import Conversation
from tests.support.certificates import write_certificate
from tests.support.servers.raw_agent import card_03, message_03
from tests.support.servers.scripted_agent import ScriptedAgent

Answer = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


class Wire:
    """A server that serves a card and leaves every message to `answer`; it keeps the heads of all requests."""

    def __init__(self, answer: Answer) -> None:
        self.heads: list[str] = []
        self.connections = 0
        self.hung_up = asyncio.Event()
        self.messages = asyncio.Event()
        self._answer = answer
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.heads.append(head)
                length = re.search(r"content-length: (\d+)", head.lower())
                body = await reader.readexactly(int(length[1]) if length else 0)
                if head.startswith("GET"):
                    await reply(writer, card_03(f"{self.url}/"))
                else:
                    self.messages.set()
                    await self._answer(body, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.hung_up.set()
        finally:
            writer.close()


async def reply(writer: asyncio.StreamWriter, content: Any, *, headers: str = "") -> None:
    body = json.dumps(content).encode()
    writer.write(f"HTTP/1.1 200 OK\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    await writer.drain()


async def answered(body: bytes, writer: asyncio.StreamWriter) -> None:
    call = json.loads(body)
    result = message_03("fine", message_id=call["id"])
    await reply(writer, {"jsonrpc": "2.0", "id": call["id"], "result": result}, headers="Set-Cookie: session=one\r\n")


@asynccontextmanager
async def wire(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[Wire]:
    server = Wire(answer)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    scheme = "http" if tls is None else "https"
    server.url = f"{scheme}://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    async with listener:
        yield server


@asynccontextmanager
async def connected(url: str, **settings: Any) -> AsyncIterator[A2AStepClient]:
    client = A2AStepClient(ClientSettings(url, **settings))
    try:
        await client.connect()
        yield client
    finally:
        await client.close()


async def fault(url: str, **settings: Any) -> AgentError:
    with pytest.raises(AgentError) as caught:
        async with connected(url, **settings) as client:
            await client.send_step("hi", Conversation())
    return caught.value


async def test_nobody_there_and_no_such_name_are_said_in_plain_words(nobody: str) -> None:
    refused = await fault(nobody)
    assert refused.message == f"{nobody}: {nobody.removeprefix('http://')}: Connection refused"
    unknown = await fault("http://agent.invalid:8000")
    assert "Name or service not known" in unknown.message
    for error in (refused, unknown):
        assert (error.kind, error.retryable, error.delivered) == ("unreachable", True, False)


def raw(*pieces: bytes) -> Answer:
    async def answer(_: bytes, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        raise ConnectionError

    return answer


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ((), "closed the connection without a reply"),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b'{"json'), "in the middle of the reply"),
        ((b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b'5\r\n{"jso'), "in the middle of the reply"),
        ((b"SSH-2.0-OpenSSH_9.9\r\n\r\n",), "the reply is not HTTP"),
    ],
    ids=["nothing", "body", "chunk", "no http"],
)
async def test_a_message_that_was_cut_off_may_have_arrived(pieces: tuple[bytes, ...], message: str) -> None:
    async with wire(raw(*pieces)) as server:
        error = await fault(server.url)
    assert message in error.message
    assert (error.kind, error.retryable, error.delivered) == ("unreachable", False, True)


async def test_a_reply_that_trickles_in_is_not_waited_for_longer_than_the_timeout() -> None:
    async def trickle(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(10_000):
            writer.write(b"X-%d: x\r\n" % number)
            await writer.drain()
            await asyncio.sleep(0.01)

    async with wire(trickle) as server:
        error = await fault(server.url, timeout_s=0.3)
    assert (error.kind, error.retryable, error.delivered) == ("timeout", False, True)


async def test_a_reply_without_an_end_is_cut_before_it_takes_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(a2a_transport, "LONGEST_REPLY", 2**20)

    async def endless(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            await writer.drain()

    async with wire(endless) as server:
        error = await fault(server.url)
        await server.hung_up.wait()
    assert error.message == "the reply is longer than 1 MiB"
    assert (error.kind, error.retryable, error.delivered) == ("protocol", False, True)


async def packed(content: bytes, writer: asyncio.StreamWriter) -> None:
    body = gzip.compress(content)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()


async def test_a_small_reply_that_unpacks_to_a_large_one_is_cut_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(a2a_transport, "LONGEST_REPLY", 2**20)
    async with wire(lambda _, writer: packed(b" " * 2**24, writer)) as server:
        error = await fault(server.url)
    assert error.message == "the reply is longer than 1 MiB"
    assert (error.kind, error.delivered) == ("protocol", True)


async def test_a_packed_reply_is_unpacked() -> None:
    async def answer(body: bytes, writer: asyncio.StreamWriter) -> None:
        call = json.loads(body)
        result = message_03("fine", message_id=call["id"])
        await packed(json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": result}).encode(), writer)

    async with wire(answer) as server, connected(server.url) as client:
        assert (await client.send_step("hi", Conversation())).turns[-1].content == "fine"


async def test_a_redirect_is_not_followed_and_names_its_target() -> None:
    moved = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://elsewhere.invalid/a2a\r\nContent-Length: 0\r\n\r\n"
    async with wire(raw(moved)) as server:
        error = await fault(server.url)
    assert error.message == "HTTP 307: redirected to http://elsewhere.invalid/a2a"
    assert (error.kind, error.delivered) == ("http_error", False)


async def test_messages_one_after_the_other_share_a_connection_and_no_cookie() -> None:
    async with wire(answered) as server, connected(server.url) as client:
        for _ in range(3):
            await client.send_step("hi", Conversation())
    assert server.connections == 1
    assert not any("cookie" in head.lower() for head in server.heads)


async def test_a_header_given_twice_is_sent_twice() -> None:
    async with wire(answered) as server, connected(server.url, headers=(("X-A", "1"), ("X-A", "2"))) as client:
        await client.send_step("hi", Conversation())
    head = server.heads[-1].lower()
    assert [value for value in ("x-a: 1", "x-a: 2") if value in head] == ["x-a: 1", "x-a: 2"]
    assert head.count("content-type: application/json") == head.count("user-agent: testbench/") == 1


async def test_a_message_that_is_cancelled_hangs_up_and_hinders_no_other() -> None:
    silent = True

    async def first_silent(body: bytes, writer: asyncio.StreamWriter) -> None:
        if not silent:
            await answered(body, writer)

    async with wire(first_silent) as server, connected(server.url) as client:
        waiting = asyncio.ensure_future(client.send_step("hi", Conversation()))
        await server.messages.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await server.hung_up.wait()
        silent = False
        assert (await client.send_step("hi", Conversation())).turns[-1].content == "fine"


async def test_hundreds_in_flight_have_a_connection_each() -> None:
    everybody = asyncio.Barrier(300)

    async def together(body: bytes, writer: asyncio.StreamWriter) -> None:
        await everybody.wait()
        await answered(body, writer)

    async with wire(together) as server, connected(server.url) as client:
        replies = await asyncio.gather(*(client.send_step("hi", Conversation()) for _ in range(300)))
    assert {reply.turns[-1].content for reply in replies} == {"fine"}


async def test_the_time_of_an_answer_is_the_agents_and_not_ours() -> None:
    async with wire(answered) as server:
        http = AiohttpTransport(server.url)
        with stopwatch() as watch:
            started = watch.seconds
            await http.handle_async_request(httpx.Request("GET", f"{server.url}/"))
            first = watch.received
            await http.handle_async_request(httpx.Request("GET", f"{server.url}/"))
        assert started is None
        assert watch.sent is not None
        assert first is not None
        assert watch.received is not None
        assert watch.sent < first < watch.received
        assert watch.seconds == watch.received - watch.sent
        await http.aclose()


async def test_the_loop_sees_to_its_sockets_between_any_two_replies() -> None:
    turns, order = Turns(), list[str]()
    loop = asyncio.get_running_loop()

    def look_after_sockets() -> None:
        order.append("sockets")
        if len(order) < 20:
            loop.call_soon(look_after_sockets)

    async def work(name: str) -> None:
        await turns.next()
        order.append(name)

    loop.call_soon(look_after_sockets)
    gone, *others = (asyncio.ensure_future(work(name)) for name in ("gone", "a", "b", "c"))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(*others)
    worked = [place for place, name in enumerate(order) if name != "sockets"]
    assert [order[place] for place in worked] == ["a", "b", "c"]
    assert all(later - earlier > 1 for earlier, later in itertools.pairwise(worked))


async def test_what_is_to_leave_goes_before_replies_that_wait() -> None:
    turns, order = Turns(), list[str]()

    async def work(name: str, *, first: bool) -> None:
        await turns.next(first=first)
        order.append(name)

    replies = [asyncio.ensure_future(work(f"reply {number}", first=False)) for number in range(3)]
    requests = [asyncio.ensure_future(work(f"request {number}", first=True)) for number in range(2)]
    await asyncio.gather(*replies, *requests)
    assert order == ["request 0", "request 1", "reply 0", "reply 1", "reply 2"]


async def test_a_watch_around_another_sees_the_same() -> None:
    async with wire(answered) as server:
        http = AiohttpTransport(server.url)
        with stopwatch(lambda: 7.0) as outer, stopwatch() as inner:
            await http.handle_async_request(httpx.Request("GET", f"{server.url}/"))
        assert (outer.sent, outer.received) == (7.0, 7.0)
        assert inner.seconds is not None
        await http.aclose()


async def test_a_stream_of_events_arrives_piece_by_piece() -> None:
    with ScriptedAgent(streaming=True) as agent:
        transport = AiohttpTransport(agent.url)
        plain: dict[str, Any] = {"headers": httpx.Headers(), "params": httpx.QueryParams()}
        async with LeanHttpClient(transport, timeout=httpx.Timeout(10), **plain) as http:
            card = await A2ACardResolver(http, agent.url).get_agent_card()
            client = ClientFactory(ClientConfig(streaming=True, httpx_client=http)).create(card)
            message = Message(message_id="m", role=Role.ROLE_USER, parts=[Part(text="!say sunny")])
            events = [event async for event in client.send_message(SendMessageRequest(message=message))]
    assert len(events) > 1
    assert agent.received[-1].method == "SendStreamingMessage"


@pytest.fixture
def certified(tmp_path: Path) -> ssl.SSLContext:
    """A server's TLS with a certificate of its own, which lies in `tmp_path` as `cert.pem`."""
    certificate, key = write_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


async def test_a_certificate_that_nobody_vouches_for_is_not_trusted(certified: ssl.SSLContext) -> None:
    async with wire(answered, certified) as server:
        error = await fault(server.url)
    assert (error.kind, error.delivered) == ("unreachable", False)
    assert "CERTIFICATE_VERIFY_FAILED" in error.message
    assert server.heads == []


async def test_certificates_come_from_ssl_cert_file(
    certified: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    async with wire(answered, certified) as server, connected(server.url) as client:
        assert (await client.send_step("hi", Conversation())).turns[-1].content == "fine"


@pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY"])
async def test_the_environments_proxy_is_asked_with_its_credentials(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with wire(answered) as proxy:
        monkeypatch.setenv(name.lower(), proxy.url.replace("http://", "http://user:p%40ss@"))
        async with connected("http://agent.invalid/a2a") as client:
            for _ in range(2):
                await client.send_step("hi", Conversation())
        for head in proxy.heads:
            assert " http://agent.invalid/" in head
            assert "proxy-authorization: basic dxnlcjpwqhnz" in head.lower()


async def test_a_host_named_in_no_proxy_is_called_directly(monkeypatch: pytest.MonkeyPatch, nobody: str) -> None:
    monkeypatch.setenv("http_proxy", nobody)
    async with wire(answered) as server:
        error = await fault(server.url)
        assert error.message == f"{server.url}: the proxy: {nobody.removeprefix('http://')}: Connection refused"
        assert (error.kind, error.delivered) == ("unreachable", False)
        monkeypatch.setenv("no_proxy", "other.invalid,127.0.0.1")
        async with connected(server.url) as client:
            await client.send_step("hi", Conversation())


async def test_a_proxy_that_refuses_to_connect_is_said_and_nothing_was_delivered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with wire(raw(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        error = await fault("https://agent.invalid/a2a")
    assert "the proxy: HTTP 407" in error.message
    assert (error.kind, error.delivered) == ("unreachable", False)


async def test_a_proxy_of_another_kind_is_an_error_with_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:1080")
    with pytest.raises(InputError, match="socks5") as caught:
        async with connected("http://agent.invalid"):
            pass
    assert "NO_PROXY" in (caught.value.hint or "")
