"""From documents to those who are talked to: addresses, settings, keys and tools; and the manifest that a run keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbench.arena.manifest.documents import Documents, load_documents, parse_documents
from testbench.arena.manifest.fields import API_VERSION
from testbench.arena.plan.model import ChatDefaults
from testbench.arena.runs.records import format_manifest
from testbench.arena.runs.target_clients import CredentialSource, TargetClients, make_agent_target, make_chat_target
from testbench.arena.targets.target import A2ATarget, McpHandler, Prices, WebSocketTarget
from testbench.errors import InputError
from testbench.schema.plain_data import PlainDocument
from tests.support.arena_runs import Json, agent_runtime, arena_job, model, provider

BASE = "http://gateway:4000/v1"


def documents(*parts: list[Json]) -> Documents:
    return parse_documents(PlainDocument("test", content) for part in parts for content in part)


def only_provider(base_url: str = BASE, **spec: Any) -> Documents:
    return documents(provider("gpt", base_url, **spec))


def of_gpt(found: Documents, **source: Any) -> str | None:
    return CredentialSource(found, **source).of_provider(found.providers["default/gpt"])


# --- models and agents ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("http://ollama:11434", "http://ollama:11434/v1"),
        ("http://ollama:11434/", "http://ollama:11434/v1"),
        ("https://gateway/openai/v1", "https://gateway/openai/v1"),
        ("https://gateway/v1?api-version=2", "https://gateway/v1?api-version=2"),
    ],
)
def test_an_address_without_a_path_gets_the_usual_one(given: str, used: str) -> None:
    found = only_provider(given).providers["default/gpt"]
    assert make_chat_target(found, None, ChatDefaults()).base_url == used


def test_a_providers_own_settings_come_before_those_of_the_arena_file() -> None:
    spec: Json = {"defaults": {"temperature": "0", "requestTimeout": "2m"}, "pricing": {"inputCostPer1K": "0.5"}}
    found = only_provider(**spec, headers={"x-team": "qa"}).providers["default/gpt"]
    target = make_chat_target(found, "sk-1", ChatDefaults(temperature=0.7, max_tokens=99, seed=3))
    assert (target.temperature, target.max_tokens, target.seed, target.timeout_s) == (0.0, 99, 3, 120.0)
    assert (target.api_key, target.headers, target.model) == ("sk-1", (("x-team", "qa"),), "model-gpt")
    assert target.prices is None  # half a price list makes half a cost


def test_a_cost_needs_both_prices() -> None:
    pricing = {"inputCostPer1K": "0.5", "outputCostPer1K": "0"}
    found = only_provider(pricing=pricing).providers["default/gpt"]
    assert make_chat_target(found, None, ChatDefaults()).prices == Prices(0.5, 0.0)


def test_agents_are_reached_as_their_status_says() -> None:
    found = documents(agent_runtime("a", "http://a:8000/"), agent_runtime("b", "ws://b/ws", "websocket"))
    assert make_agent_target(found.agents["default/a"]) == A2ATarget("http://a:8000/")
    assert make_agent_target(found.agents["default/b"]) == WebSocketTarget("ws://b/ws")


# --- credentials ----------------------------------------------------------------------------------------------------


def test_a_provider_without_a_credential_has_none_whatever_the_environment_holds() -> None:
    assert of_gpt(only_provider(), environment={"OPENAI_API_KEY": "of-somebody-else"}) is None


def test_a_key_comes_from_where_the_provider_says(tmp_path: Path) -> None:
    by_variable = only_provider(credential={"envVar": "MY_KEY"})
    assert of_gpt(by_variable, environment={"MY_KEY": " sk-env\n"}) == "sk-env"
    (tmp_path / "key").write_text("sk-file\n")
    assert of_gpt(only_provider(credential={"filePath": str(tmp_path / "key")})) == "sk-file"
    assert of_gpt(documents(provider("gpt", BASE, "sk-secret"))) == "sk-secret"


@pytest.mark.parametrize(
    ("keys", "ref", "value"),
    [
        ({"OPENAI_API_KEY": "a", "token": "b"}, {}, "a"),
        ({"token": "b", "other": "c"}, {}, "b"),
        ({"whatever": "d"}, {}, "d"),
        ({"token": "b", "other": "c"}, {"key": "other"}, "c"),
    ],
)
def test_the_key_of_a_secret_is_found(keys: dict[str, str], ref: dict[str, str], value: str) -> None:
    made, secret = provider("gpt", BASE, "unused")
    made["spec"]["credential"]["secretRef"] |= ref
    assert of_gpt(documents([made, secret | {"stringData": keys}])) == value


def test_files_of_the_folder_come_before_the_manifests_secret(tmp_path: Path) -> None:
    folder = tmp_path / "default_gpt"
    folder.mkdir()
    found = documents(provider("gpt", BASE, "sk-secret"))
    assert of_gpt(found, folder=tmp_path) == "sk-secret"
    (folder / "api-key").write_text("sk-mounted")
    assert of_gpt(found, folder=tmp_path) == "sk-mounted"


@pytest.mark.parametrize(
    ("credential", "words"),
    [
        ({"envVar": "MY_KEY"}, "the variable MY_KEY is not set"),
        ({"filePath": "/nowhere/key"}, "cannot be read"),
        ({"secretRef": {"name": "gone"}}, "no Secret gone"),
        ({"secretRef": {"name": "gpt-secret", "key": "gone"}}, "has no key gone"),
    ],
)
def test_a_credential_that_is_named_and_not_there_is_an_error(credential: Json, words: str) -> None:
    made, secret = provider("gpt", BASE, "sk-secret")
    made["spec"]["credential"] = credential
    with pytest.raises(InputError, match=words):
        of_gpt(documents([made, secret]), environment={})


def test_a_key_that_may_be_any_of_several_is_not_guessed() -> None:
    made, secret = provider("gpt", BASE, "unused")
    with pytest.raises(InputError, match="has no key to take"):
        of_gpt(documents([made, secret | {"stringData": {"one": "a", "two": "b"}}]))


# --- tools ----------------------------------------------------------------------------------------------------------


def clients(found: Documents, **spec: Any) -> TargetClients:
    job = documents([arena_job({"default": [model("gpt")]}, **spec)]).job()
    return TargetClients(job, found, CredentialSource(found))


def registry(handlers: list[Json], tools: list[Json] | None = None) -> list[Json]:
    made: Json = {"apiVersion": API_VERSION, "kind": "ToolRegistry", "metadata": {"name": "shop"}}
    made["spec"] = {"handlers": handlers}
    return [made if tools is None else made | {"status": {"discoveredTools": tools}}]


def test_a_registry_without_a_status_offers_what_its_handlers_describe() -> None:
    handler = {
        "name": "orders",
        "type": "http",
        "httpConfig": {"endpoint": "http://orders/look-up"},
        "tool": {"name": "look_up", "description": "An order.", "inputSchema": {"type": "object"}},
    }
    (tool,) = clients(documents(registry([handler])), toolRegistries=[{"name": "shop"}]).tools()
    assert (tool.name, tool.description) == ("look_up", "An order.")


def test_tools_behind_mcp_are_called_there() -> None:
    handlers = [{"name": "m", "type": "mcp", "mcpConfig": {"endpoint": "http://mcp/mcp", "headers": {"x": "y"}}}]
    found = documents(registry(handlers, [{"name": "search", "handlerName": "m"}]))
    (tool,) = clients(found, toolRegistries=[{"name": "shop"}]).tools()
    assert tool.handler == McpHandler("http://mcp/mcp", (("x", "y"),))


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (registry([]), "no tool is known"),
        (registry([{"name": "m", "type": "openapi"}], [{"name": "t", "handlerName": "m"}]), "type openapi"),
        (registry([], [{"name": "t", "endpoint": "file:///etc/passwd"}]), "no http"),
        ([], "no ToolRegistry 'shop'"),
    ],
)
def test_a_registry_that_cannot_be_used_is_refused(part: list[Json], words: str) -> None:
    with pytest.raises(InputError, match=words):
        clients(documents(part), toolRegistries=[{"name": "shop"}]).tools()


# --- what a run keeps -----------------------------------------------------------------------------------------------


def test_the_manifest_of_a_run_can_be_read_again_and_holds_no_secret(tmp_path: Path) -> None:
    settings = {
        "endpoint": "http://user:sk-7@o/t",
        "authToken": "sk-3",
        "headers": {"x": "sk-4"},
        "auth": {"bearer": "sk-8"},
        "env": [{"name": "API_KEY", "value": "sk-9"}],
        "command": ["curl", "-H", "Authorization: sk-10"],
    }
    handlers = [{"name": "o", "type": "http", "httpConfig": settings}]
    gpt = provider("gpt", "http://user:sk-5@gateway/v1", "sk-1", headers={"x-key": "sk-2"})
    gpt[0]["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps(gpt[0])}
    found = documents(
        [arena_job({"default": [model("gpt")]})],
        gpt,
        agent_runtime("bot", "http://bot:8000/"),
        registry(handlers, [{"name": "t", "endpoint": "http://o/t?token=sk-6"}]),
    )
    text = format_manifest(found.job(), found)
    assert "sk-" not in text
    assert "http://o/t" in text
    (tmp_path / "manifest.yaml").write_text(text)
    again = load_documents(tmp_path / "manifest.yaml")
    assert again.job() == found.job()
    assert again.agents["default/bot"] == found.agents["default/bot"]
    assert [document["kind"] for document in yaml.safe_load_all(text)] == [
        *("ArenaJob", "Provider", "AgentRuntime", "ToolRegistry")
    ]
