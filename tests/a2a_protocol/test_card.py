"""Which address is called and in which protocol generation, whatever a card says."""

from __future__ import annotations

import pytest
from a2a.types import AgentCard, AgentInterface

from testbench.a2a_protocol.card import agent_address, describe, endpoint, mend_card, usable_cards
from testbench.errors import AgentError

BASE = "http://agent:8000"


def card(*interfaces: tuple[str, str, str]) -> AgentCard:
    return AgentCard(
        name="a\x1b[2Jb",
        version="7",
        supported_interfaces=[
            AgentInterface(url=url, protocol_binding=binding, protocol_version=version)
            for url, binding, version in interfaces
        ],
    )


def offered(*cards: AgentCard) -> list[list[tuple[str, str, str]]]:
    return [
        [(place.url, place.protocol_binding, place.protocol_version) for place in card.supported_interfaces]
        for card in cards
    ]


@pytest.mark.parametrize(
    ("given", "advertised", "called"),
    [
        (BASE, "http://localhost:9999/", f"{BASE}/"),
        (f"{BASE}/", "http://localhost:9999/a2a", f"{BASE}/a2a"),
        (BASE, "http://localhost:9999", f"{BASE}/"),
        ("https://gw/agents/x", "http://localhost:9999/", "https://gw/agents/x"),
        ("https://gw/agents/x", "http://pod/agents/x/", "https://gw/agents/x/"),
        ("https://gw/agents/x/", "http://pod/agents/x/rpc", "https://gw/agents/x/rpc"),
        ("https://gw/agents/x", "http://pod/agents/xyz", "https://gw/agents/x"),
        ("https://gw/agents/x", "", "https://gw/agents/x"),
        ("https://gw/agents/x", "http://[no address", "https://gw/agents/x"),
    ],
)
def test_host_and_path_given_win_over_the_cards(given: str, advertised: str, called: str) -> None:
    assert endpoint(given, advertised) == called


def test_a_card_is_followed_by_the_other_generation() -> None:
    new, old = (f"{BASE}/rpc", "JSONRPC", "1.0"), (f"{BASE}/rpc", "JSONRPC", "0.3")
    assert offered(*usable_cards(card(("http://x/rpc", "JSONRPC", "1.0.0")), BASE)) == [[new], [old]]
    assert offered(*usable_cards(card(("http://x/rpc", "JSONRPC", "0.3.0")), BASE)) == [[old], [new]]
    assert offered(*usable_cards(card(("http://x/rpc", "JSONRPC", "0.2.6")), BASE)) == [[old], [new]]
    assert offered(*usable_cards(card(("http://x/rpc", "JSONRPC", "")), BASE)) == [[new], [old]]


def test_without_a_card_or_with_one_that_offers_nothing_both_generations_are_tried() -> None:
    both = [[(BASE, "JSONRPC", "1.0")], [(BASE, "JSONRPC", "0.3")]]
    assert offered(*usable_cards(None, BASE)) == both
    assert offered(*usable_cards(card(), BASE)) == both


def test_a_card_with_only_transports_that_we_do_not_speak_is_an_error_that_names_them() -> None:
    with pytest.raises(AgentError, match="offers only CARRIER, GRPC") as caught:
        usable_cards(card(("agent:9", "GRPC", "1.0"), ("agent:8", "CARRIER", "1.0")), BASE)
    assert (caught.value.kind, caught.value.retryable) == ("protocol", False)


def test_rest_is_spoken_where_the_card_offers_nothing_else() -> None:
    assert offered(*usable_cards(card(("http://x/v1", "HTTP+JSON", "1.0"), ("x:9", "GRPC", "1.0")), BASE)) == [
        [(f"{BASE}/v1", "HTTP+JSON", "1.0")]
    ]


def test_a_card_is_told_printable() -> None:
    told = describe(card((BASE, "JSONRPC", "0.3.0")))
    assert (told.name, told.version, told.protocol_version) == ("a\\x1b[2Jb", "7", "0.3.0")
    assert describe(None).name is None


def test_the_version_is_that_of_the_interface_that_is_asked_first() -> None:
    offers = card(
        ("x:9", "GRPC", "2.0"), (BASE, "HTTP+JSON", "1.0"), (BASE, "JSONRPC", "0.3.0"), (BASE, "JSONRPC", "1.0")
    )
    assert describe(offers).protocol_version == "1.0"
    assert describe(card(("x:9", "GRPC", "2.0"))).protocol_version is None


@pytest.mark.parametrize("name", ["JSONRPC", "jsonrpc", "JsonRpc", "JSON-RPC", "json_rpc"], ids=str)
def test_a_transport_is_known_however_it_is_written(name: str) -> None:
    card = mend_card(
        {"url": "http://x", "preferredTransport": name, "additionalInterfaces": [{"transport": name}, None]}
    )
    assert card["preferredTransport"] == "JSONRPC"
    assert card["additionalInterfaces"] == [{"transport": "JSONRPC"}]
    new = mend_card({"supported_interfaces": [{"protocol_binding": name, "protocol_version": 1.0}, {"url": "x"}]})
    assert new["supportedInterfaces"] == [{"protocolBinding": "JSONRPC", "protocolVersion": "1.0"}, {"url": "x"}]


def test_of_a_card_only_what_is_used_is_read() -> None:
    card = {"name": "x", "provider": "acme", "skills": None, "capabilities": {"streaming": "yes"}, "url": None}
    assert mend_card(card) == {"name": "x", "capabilities": {"streaming": False}}


@pytest.mark.parametrize("path", ["/.well-known/agent-card.json", "/.well-known/agent.json"])
def test_the_address_of_a_card_is_that_of_its_agent(path: str) -> None:
    assert agent_address(BASE + path) == BASE
    assert agent_address(f"{BASE}/agents/x{path}") == f"{BASE}/agents/x"
    assert agent_address(f"{BASE}/x") == f"{BASE}/x"


def test_an_address_that_takes_only_streams_is_called_where_it_takes_messages() -> None:
    (own, _) = usable_cards(card(("http://x/agents/a/v1/message:stream", "JSONRPC", "0.3.0")), BASE)
    assert own.supported_interfaces[0].url == f"{BASE}/agents/a/v1/message:send"
