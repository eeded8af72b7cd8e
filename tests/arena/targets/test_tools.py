"""Tools of a model under test: over HTTP, of a real MCP server or mocked, recorded, and never silently down."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from mcp.server.mcpserver.exceptions import ToolError

from testbench.arena.targets.chat_client import ChatClient
from testbench.arena.targets.target import ChatTarget, HttpHandler, McpHandler, MockHandler, Tool
from testbench.arena.targets.tools import ToolBox
from testbench.errors import AgentError, InputError, WorkError
from testbench.schema.agent import Conversation
from testbench.schema.models import Turn, Usage
from tests.support.servers.mcp_server import McpToolServer
from tests.support.servers.scripted_chat import Call, Says, ScriptedChat
from tests.support.servers.tool_server import ToolServer

Open = Callable[..., ChatClient]
CITY = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"]}
BERLIN = '{"city": "Berlin"}'


@pytest.fixture
def server() -> Iterator[ToolServer]:
    with ToolServer() as part:
        yield part


@pytest.fixture
async def client_of(chat: ScriptedChat) -> AsyncIterator[Open]:
    clients: list[ChatClient] = []

    def opened(*tools: Tool, **settings: Any) -> ChatClient:
        clients.append(ChatClient(ChatTarget("m", chat.base_url, **settings), ToolBox(tools)))
        return clients[-1]

    yield opened
    for client in clients:
        await client.close()


async def fails(client: ChatClient, conversation: Conversation | None = None) -> AgentError:
    with pytest.raises(AgentError) as caught:
        await client.send_step("hi", conversation or Conversation())
    return caught.value


async def called(tool: Tool, arguments: str = BERLIN) -> str:
    box = ToolBox([tool])
    try:
        return await box.call(tool.name, arguments)
    finally:
        await box.close()


def shown(turns: tuple[Turn, ...]) -> list[Any]:
    return [[(call.name, call.args) for call in turn.tool_calls] if turn.tool_calls else turn.content for turn in turns]


@pytest.mark.parametrize("stream", [True, False])
async def test_tools_are_called_until_the_model_answers(
    chat: ScriptedChat, server: ToolServer, client_of: Open, stream: bool
) -> None:
    url = server.tool("weather", lambda arguments: {"sky": f"sunny in {arguments['city']}"})
    weather = Tool("weather", HttpHandler(url), "Tells the weather.", CITY)
    clock = Tool("time", MockHandler("noon"))
    chat.says(
        Says("Let me see.", (Call("weather", BERLIN, "c1"), Call("time", "", "c2"))),
        Says(calls=(Call("time", id="c3"),)),
        "Sunny at noon.",
    )
    reply = await client_of(weather, clock, stream=stream).send_step("hi", Conversation())
    assert shown(reply.turns) == [
        [("weather", {"city": "Berlin"}), ("time", {})],
        '{"sky": "sunny in Berlin"}',
        "noon",
        [("time", {})],
        "noon",
        "Sunny at noon.",
    ]
    assert server.calls == [("weather", {"city": "Berlin"})]
    assert [tool["function"]["name"] for tool in chat.bodies[0]["tools"]] == ["weather", "time"]
    assert chat.bodies[0]["tools"][0]["function"]["parameters"] == CITY
    _, assistant, first, second, *_ = chat.bodies[-1]["messages"]
    assert [call["id"] for call in assistant["tool_calls"]] == ["c1", "c2"]
    assert (first["role"], first["tool_call_id"], second["tool_call_id"]) == ("tool", "c1", "c2")


async def test_tokens_of_all_rounds_are_added_up(chat: ScriptedChat, client_of: Open) -> None:
    chat.says(Says("x" * 40, (Call("time", id="c1"),)), "y" * 80)
    reply = await client_of(Tool("time", MockHandler("noon"))).send_step("hi" * 20, Conversation())
    assert reply.usage == Usage(input_tokens=10 + (10 + 10 + 1), output_tokens=10 + 20)


@pytest.mark.parametrize(
    ("arguments", "told", "recorded"),
    [
        ('{"city": ', "not JSON", {"unparsed_arguments": '{"city": '}),
        ('{"city": NaN}', "not JSON", {"unparsed_arguments": '{"city": NaN}'}),
        ('{"city": "\\ud800"}', "not JSON", {"unparsed_arguments": '{"city": "\\ud800"}'}),
        ('["Berlin"]', "not a JSON object", {"unparsed_arguments": '["Berlin"]'}),
        ("{}", "'city' is a required property", {}),
        ('{"city": 7}', "$.city: 7 is not of type 'string'", {"city": 7}),
    ],
)
async def test_arguments_that_do_not_fit_are_given_back_to_the_model(
    chat: ScriptedChat, server: ToolServer, client_of: Open, arguments: str, told: str, recorded: Any
) -> None:
    chat.says(Says(calls=(Call("weather", arguments, "c1"),)), "Sorry.")
    tool = Tool("weather", HttpHandler(server.tool("weather", {})), input_schema=CITY)
    reply = await client_of(tool).send_step("hi", Conversation())
    assert shown(reply.turns)[0] == [("weather", recorded)]
    assert told in json.loads(reply.turns[1].content)["error"]
    assert server.calls == []
    for call in chat.bodies[-1]["messages"][1]["tool_calls"]:
        json.loads(call["function"]["arguments"])


async def test_a_model_that_never_stops_calling_gives_no_answer(chat: ScriptedChat, client_of: Open) -> None:
    chat.says(Says(calls=(Call("time", id="c"),)))
    error = await fails(client_of(Tool("time", MockHandler("noon")), max_tool_rounds=2))
    assert (error.kind, error.retryable) == ("no_answer", False)
    assert len(chat.bodies) == 3


async def test_an_error_of_the_tool_itself_is_told_to_the_model(server: ToolServer) -> None:
    url = server.tool("weather", {})
    for status in (400, 409, 422):
        server.fail_next(status=status, body="no such city")
        assert json.loads(await called(Tool("weather", HttpHandler(url)))) == {"error": "no such city"}
    assert json.loads(await called(Tool("weather", MockHandler(error="no")))) == {"error": "no"}


@pytest.mark.parametrize(
    ("status", "retryable"), [(401, False), (404, False), (500, False), (302, False), (429, True), (503, True)]
)
async def test_a_tool_that_is_down_is_no_answer_of_the_model(
    chat: ScriptedChat, server: ToolServer, client_of: Open, status: int, retryable: bool
) -> None:
    server.fail_next(status=status, body="gone")
    chat.says(Says(calls=(Call("weather", BERLIN, "c1"),)), "Sorry.")
    error = await fails(client_of(Tool("weather", HttpHandler(server.tool("weather", {})))))
    assert (error.kind, error.retryable) == ("tool_unavailable", retryable)
    assert error.message == f"the tool 'weather' is unavailable: HTTP {status}: gone"


async def test_a_tool_that_cannot_be_reached_or_does_not_answer_is_down(server: ToolServer, nobody: str) -> None:
    with pytest.raises(AgentError, match="cannot be reached") as caught:
        await called(Tool("weather", HttpHandler(nobody)))
    assert (caught.value.kind, caught.value.retryable) == ("tool_unavailable", True)
    server.hang()
    with pytest.raises(AgentError, match=r"no answer within 0.1 s") as caught:
        await called(Tool("weather", HttpHandler(server.tool("weather", {}), timeout_s=0.1)))
    assert (caught.value.kind, caught.value.retryable) == ("tool_unavailable", False)


async def test_a_result_has_a_bound(server: ToolServer) -> None:
    handler = HttpHandler(server.tool("long", b"x" * 101), max_result_bytes=100)
    with pytest.raises(AgentError, match="more than 100 bytes"):
        await called(Tool("long", handler))
    assert await called(Tool("long", HttpHandler(server.tool("long", b"x" * 100), max_result_bytes=100))) == "x" * 100


async def test_tried_again_a_step_does_not_repeat_what_tools_have_done(
    chat: ScriptedChat, server: ToolServer, client_of: Open
) -> None:
    first = Tool("first", HttpHandler(server.tool("first", "1")))
    second = Tool("second", HttpHandler(server.tool("second", "2")))
    chat.says(Says(calls=(Call("first", id="c1"), Call("second", id="c2"))), "Done.")
    server.statuses(200, 503, 200)
    client, conversation = client_of(first, second), Conversation()
    assert (await fails(client, conversation)).retryable
    chat.fail_next()
    assert (await fails(client, conversation)).kind == "http_error"
    reply = await client.send_step("hi", conversation)
    assert shown(reply.turns) == [[("first", {}), ("second", {})], '"1"', '"2"', "Done."]
    assert [name for name, _ in server.calls] == ["first", "second", "second"]
    assert len(chat.bodies) == 3


async def test_a_tool_gets_its_own_headers_and_no_secret_comes_back(server: ToolServer) -> None:
    handler = HttpHandler(server.tool("weather", {}), (("Authorization", "Bearer hidden-token"),))
    tool = Tool("weather", handler)
    server.fail_next(status=400, body="bad hidden-token")
    server.fail_next(status=500, body="bad hidden-token")
    told = await called(tool)
    with pytest.raises(AgentError) as caught:
        await called(tool)
    assert server.requests[0].headers["authorization"] == "Bearer hidden-token"
    assert "hidden" not in f"{told} {caught.value.message} {tool!r}"


def test_two_tools_of_one_name_are_bad_input() -> None:
    with pytest.raises(InputError, match="several tools are called time"):
        ToolBox([Tool("time", MockHandler(1)), Tool("time", MockHandler(2)), Tool("other", MockHandler(2))])


def test_a_schema_that_is_none_is_bad_input() -> None:
    with pytest.raises(InputError, match="no valid input schema"):
        ToolBox([Tool("time", MockHandler(), input_schema={"type": "nonsense"})])


async def test_a_schema_cannot_make_us_call_an_address(server: ToolServer) -> None:
    schema = {"type": "object", "properties": {"city": {"$ref": f"{server.origin}/schema"}}}
    with pytest.raises(InputError, match="cannot be followed"):
        await called(Tool("weather", MockHandler(), input_schema=schema))
    assert server.requests == []


async def test_an_expression_in_a_schema_takes_no_time() -> None:
    endless = {"pattern": "^(a+)+$"}
    schema = {
        "type": "object",
        "properties": {"city": endless},
        "patternProperties": {"^(a+)+$": {}},
        "additionalProperties": False,
    }
    arguments = json.dumps({"city": "a" * 40 + "!", "a" * 40 + "!": 1})
    assert await called(Tool("weather", MockHandler("ok"), input_schema=schema), arguments) == "ok"


def weather(city: str) -> str:
    """Tells the weather."""
    if city == "Atlantis":
        raise ToolError("no such city")
    return f"sunny in {city}"


async def slow() -> str:
    await asyncio.Event().wait()
    return "never"


@pytest.fixture(scope="module")
def mcp() -> Iterator[McpToolServer]:
    with McpToolServer(weather, slow, token="hidden-token") as part:
        yield part


def mcp_handler(mcp: McpToolServer, **settings: Any) -> McpHandler:
    return McpHandler(mcp.url, (("Authorization", "Bearer hidden-token"),), **settings)


async def test_a_tool_of_an_mcp_server_is_called(chat: ScriptedChat, mcp: McpToolServer, client_of: Open) -> None:
    chat.says(Says(calls=(Call("sky", BERLIN, "c1"),)), "Sunny.")
    reply = await client_of(Tool("sky", mcp_handler(mcp, tool="weather"))).send_step("hi", Conversation())
    assert shown(reply.turns) == [[("sky", {"city": "Berlin"})], "sunny in Berlin", "Sunny."]


async def test_the_tools_of_an_mcp_server_can_be_found_out(mcp: McpToolServer) -> None:
    from testbench.arena.targets.mcp_tools import discover

    handler = mcp_handler(mcp)
    found = {tool.name: tool for tool in await discover(handler)}
    assert found.keys() == {"weather", "slow"}
    assert found["weather"].description == "Tells the weather."
    assert found["weather"].input_schema["required"] == ["city"]
    assert found["weather"].handler == handler


async def test_an_error_of_an_mcp_tool_itself_is_told_to_the_model(mcp: McpToolServer) -> None:
    told = await called(Tool("weather", mcp_handler(mcp)), '{"city": "Atlantis"}')
    assert "no such city" in json.loads(told)["error"]


async def test_an_mcp_server_that_is_down_is_no_answer_of_the_model(mcp: McpToolServer, nobody: str) -> None:
    from testbench.arena.targets.mcp_tools import discover

    with pytest.raises(AgentError) as caught:
        await called(Tool("weather", McpHandler(f"{nobody}/mcp")))
    assert (caught.value.kind, caught.value.retryable) == ("tool_unavailable", True)
    with pytest.raises(AgentError) as caught:
        await called(Tool("weather", McpHandler(mcp.url, (("Authorization", "Bearer hidden-wrong"),))))
    assert caught.value.kind == "tool_unavailable"
    assert "hidden" not in caught.value.message
    with pytest.raises(WorkError, match="cannot be listed"):
        await discover(McpHandler(f"{nobody}/mcp"))


async def test_an_mcp_tool_that_does_not_answer_is_down(mcp: McpToolServer) -> None:
    with pytest.raises(AgentError, match="no answer within 1 s") as caught:
        await called(Tool("slow", mcp_handler(mcp, timeout_s=1)), "{}")
    assert (caught.value.kind, caught.value.retryable) == ("tool_unavailable", False)


async def test_an_mcp_server_that_dies_in_the_middle_of_a_call_is_down() -> None:
    async def dying() -> str:
        part.cut()
        await asyncio.Event().wait()
        return "never"

    with McpToolServer(dying) as part, pytest.raises(AgentError, match="disconnected") as caught:
        await called(Tool("dying", McpHandler(part.url)), "{}")
    assert (caught.value.kind, caught.value.retryable) == ("tool_unavailable", False), "it may have been done"


async def test_an_mcp_tool_that_the_server_does_not_have_is_down(mcp: McpToolServer) -> None:
    with pytest.raises(AgentError, match="has no such tool") as caught:
        await called(Tool("nothing", mcp_handler(mcp)), "{}")
    assert (caught.value.kind, caught.value.retryable) == ("tool_unavailable", False)


async def test_the_result_of_an_mcp_tool_has_a_bound(mcp: McpToolServer) -> None:
    with pytest.raises(AgentError, match="more than 5 bytes"):
        await called(Tool("weather", mcp_handler(mcp, max_result_bytes=5)))
