"""Tool registries of a job: their tools are offered to models and called, or the job is refused."""

from __future__ import annotations

import pytest

from testbench.arena.manifest.fields import API_VERSION
from tests.support.arena_runs import Arena, arena_job, model, provider
from tests.support.servers.scripted_chat import Call, Says, ScriptedChat
from tests.support.servers.tool_server import ToolServer


def test_tools_of_a_registry_are_called_and_their_secrets_kept(arena: Arena, chat: ScriptedChat) -> None:
    chat.says(Says(calls=(Call("look_up", '{"id": 7}'),)), "answer to it")
    with ToolServer() as tools:
        url = tools.tool("look_up", {"state": "sent"})
        registry = {
            "apiVersion": API_VERSION,
            "kind": "ToolRegistry",
            "metadata": {"name": "shop"},
            "spec": {
                "handlers": [
                    {
                        "name": "orders",
                        "type": "http",
                        "httpConfig": {"headers": {"authorization": "Bearer of-the-shop"}, "authToken": "shop-token"},
                    }
                ]
            },
            "status": {
                "discoveredTools": [
                    {"name": "look_up", "handlerName": "orders", "endpoint": url, "status": "Available"}
                ]
            },
        }
        job = arena_job({"default": [model("gpt")]}, toolRegistries=[{"name": "shop"}])
        job["spec"]["scenarios"] = {"include": ["leaves.yaml"]}
        arena.write(job, provider("gpt", chat.base_url), [registry])
        assert arena.call("run") == 0
        assert [request.headers["authorization"] for request in tools.requests] == ["Bearer of-the-shop"]
    texts = [path.read_text() for path in arena.run.rglob("*") if path.is_file()]
    assert not any(secret in text for text in texts for secret in ("of-the-shop", "shop-token"))


@pytest.mark.parametrize(
    ("change", "words"),
    [({"status": "Unavailable"}, "is unavailable"), ({"handlerName": "rpc"}, "tools of type grpc cannot be called")],
)
def test_a_tool_that_cannot_be_called_is_no_model_without_it(
    arena: Arena, chat: ScriptedChat, capsys: pytest.CaptureFixture[str], change: dict[str, str], words: str
) -> None:
    tool = {"name": "look_up", "handlerName": "orders", "endpoint": "http://127.0.0.1:9", "status": "Available"}
    registry = {
        "apiVersion": API_VERSION,
        "kind": "ToolRegistry",
        "metadata": {"name": "shop"},
        "spec": {"handlers": [{"name": "orders", "type": "http"}, {"name": "rpc", "type": "grpc"}]},
        "status": {"discoveredTools": [tool | change]},
    }
    arena.write(
        arena_job({"default": [model("gpt")]}, toolRegistries=[{"name": "shop"}]),
        provider("gpt", chat.base_url),
        [registry],
    )
    assert arena.call("run") == 2
    assert words in capsys.readouterr().err
    assert chat.requests == []
