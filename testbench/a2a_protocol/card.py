"""Where an agent is called and in which protocol generation: its card, if it has one, put to the operator's address.

Called by `testbench.schema.a2a_client`. Cards name hosts that nobody reaches from here (Google ADK's default is
`http://localhost:8000`), so scheme and host are always those of the address on the command line.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

os.environ.setdefault("OTEL_INSTRUMENTATION_A2A_SDK_ENABLED", "false")  # read when a2a is imported

import httpx
from a2a.client.card_resolver import parse_agent_card
from a2a.types import AgentCapabilities, AgentCard, AgentInterface
from a2a.utils.constants import AGENT_CARD_WELL_KNOWN_PATH
from google.protobuf.json_format import ParseError

from testbench.a2a_protocol.errors import agent_error
from testbench.a2a_protocol.tolerance import Json
from testbench.errors import AgentError
from testbench.safe_text import printable
from testbench.schema.agent import AgentDescription

CARD_PATHS: Final = (AGENT_CARD_WELL_KNOWN_PATH, "/.well-known/agent.json")
"""The second is where agents before protocol 0.3 have it."""
BINDINGS: Final = ("JSONRPC", "HTTP+JSON")
"""What we speak, the preferred one first: an agent's fault has its message only over JSON-RPC."""
MOST_REDIRECTS: Final = 4
SENDING, STREAMING = "/message:send", "/message:stream"
"""Ends of addresses that some cards name of which each takes only its own method."""
CARD_NAMES: Final = {
    "additional_interfaces": "additionalInterfaces",
    "default_output_modes": "defaultOutputModes",
    "preferred_transport": "preferredTransport",
    "protocol_binding": "protocolBinding",
    "protocol_version": "protocolVersion",
    "supported_interfaces": "supportedInterfaces",
}
CARD_TEXTS: Final = ("name", "version", "url", "preferredTransport", "protocolVersion")
INTERFACE_TEXTS: Final = ("url", "transport", "protocolBinding", "protocolVersion", "tenant")
CURRENT: Final = "1.0"
LEGACY: Final = "0.3"


def mend_card(value: Any) -> Json:
    """Return of an agent's card what is used of it, with the names of transports as they are written.

    Raises:
        ValueError: it is no JSON object.
    """
    if not isinstance(value, dict):
        raise ValueError("a card is a JSON object")
    card = {CARD_NAMES.get(name, name): item for name, item in value.items()}
    known: Json = {name: str(card[name]) for name in CARD_TEXTS if isinstance(card.get(name), str | int | float)}
    if "preferredTransport" in known:
        known["preferredTransport"] = _transport(known["preferredTransport"])
    for name in ("supportedInterfaces", "additionalInterfaces"):
        if isinstance(card.get(name), list):
            known[name] = [_interface(one) for one in card[name] if isinstance(one, dict)]
    if isinstance(card.get("capabilities"), dict):
        known["capabilities"] = {"streaming": card["capabilities"].get("streaming") is True}
    if isinstance(card.get("defaultOutputModes"), list):
        known["defaultOutputModes"] = [mode for mode in card["defaultOutputModes"] if isinstance(mode, str)]
    return known


def _interface(value: Json) -> Json:
    named = {CARD_NAMES.get(name, name): item for name, item in value.items()}
    interface = {name: str(named[name]) for name in INTERFACE_TEXTS if isinstance(named.get(name), str | int | float)}
    return interface | {
        name: _transport(interface[name]) for name in ("transport", "protocolBinding") if name in interface
    }


def _transport(name: str) -> str:
    plain = re.sub(r"[^A-Z]", "", name.upper())
    return {"JSONRPC": "JSONRPC", "HTTPJSON": "HTTP+JSON", "REST": "HTTP+JSON", "GRPC": "GRPC"}.get(plain, name)


def agent_address(url: str) -> str:
    """Return the address of an agent, also where the address of its card is given."""
    return next((url.removesuffix(path) for path in CARD_PATHS if url.endswith(path)), url)


async def resolve_card(http: httpx.AsyncClient, agent_url: str, secrets: Sequence[str]) -> AgentCard | None:
    """Return the card at the agent's address, or None where something answers there that has no card.

    `secrets` go with the request and into no error.

    Raises:
        AgentError: nobody answers, a gateway says that nobody is there, or credentials are missing.
    """
    found: AgentCard | None = None
    for path in CARD_PATHS:
        try:
            card = parse_agent_card(mend_card(await _json_at(http, agent_url.rstrip("/") + path)))
        except httpx.HTTPError as error:
            fault = _fault_of_card(error, secrets)
            if fault is not None:
                raise fault from error
        except (ValueError, RecursionError, ParseError):  # what answers here is no card
            continue
        else:
            if card.supported_interfaces:
                return card
            found = found or card
    return found


async def _json_at(http: httpx.AsyncClient, url: str) -> Any:
    """The JSON at an address, or where that redirects to on the same host."""
    place = httpx.URL(url)
    for _ in range(MOST_REDIRECTS):
        response = await http.get(place)
        target = place.join(response.headers["location"]) if response.has_redirect_location else place
        if target == place or (target.scheme, target.netloc) != (place.scheme, place.netloc):
            break
        place = target
    response.raise_for_status()
    return json.loads(response.content)


def usable_cards(card: AgentCard | None, agent_url: str) -> tuple[AgentCard, ...]:
    """Cards to try in turn until the agent understands one: its own, then the other protocol generation.

    Raises:
        AgentError: the card names only transports that we do not speak.
    """
    own = _at_address(card, agent_url) if card is not None else None
    if own is None:
        named = {interface.protocol_binding for interface in card.supported_interfaces} if card is not None else set()
        if named:
            raise AgentError(
                f"the agent's card offers only {printable(', '.join(sorted(named)), 200)}",
                kind="protocol",
                delivered=False,
                hint="Testbench speaks JSON-RPC or REST over HTTP: let the agent serve one and name it in its card.",
            )
        return _synthetic(agent_url, CURRENT), _synthetic(agent_url, LEGACY)
    best = max(own.supported_interfaces, key=_preference)
    if best.protocol_binding != "JSONRPC":
        return (own,)
    other = LEGACY if _generation(best.protocol_version) == CURRENT else CURRENT
    return own, _synthetic(best.url, other)


def describe(card: AgentCard | None) -> AgentDescription:
    """What a card says about its agent, and of the interface that is asked first."""
    if card is None:
        return AgentDescription()
    spoken = [one for one in card.supported_interfaces if one.protocol_binding in BINDINGS]
    version = max(spoken, key=_preference).protocol_version if spoken else ""
    return AgentDescription(
        name=printable(card.name, 200) or None,
        version=printable(card.version, 200) or None,
        protocol_version=printable(version, 20) or None,
    )


def endpoint(agent_url: str, advertised: str) -> str:
    """Where to call an agent: at the given address, with the card's path where that lies at or below the given one."""
    given, path = urlsplit(agent_url), _path(advertised)
    base = given.path.rstrip("/")
    below = path == base or path.startswith(f"{base}/")
    return urlunsplit((given.scheme, given.netloc, (path if below else given.path) or "/", "", ""))


def _path(url: str) -> str:
    """The path of an address that a card names; empty if it is no address."""
    try:
        return urlsplit(url).path
    except ValueError:
        return ""


def _at_address(card: AgentCard, agent_url: str) -> AgentCard | None:
    """The card with only interfaces that we speak, all at the given address; None if there is none."""
    moved = AgentCard()
    moved.CopyFrom(card)
    del moved.supported_interfaces[:]
    for interface in card.supported_interfaces:
        if interface.protocol_binding in BINDINGS:
            ours = moved.supported_interfaces.add()
            ours.CopyFrom(interface)
            ours.url = endpoint(agent_url, interface.url)
            if ours.url.endswith(STREAMING):
                ours.url = ours.url.removesuffix(STREAMING) + SENDING
            ours.protocol_version = _generation(interface.protocol_version)
    return moved if moved.supported_interfaces else None


def _preference(interface: AgentInterface) -> tuple[bool, str]:
    return interface.protocol_binding == BINDINGS[0], interface.protocol_version


def _generation(version: str) -> str:
    return LEGACY if version.startswith("0.") else CURRENT


def _synthetic(url: str, version: str) -> AgentCard:
    interface = AgentInterface(url=url, protocol_binding=BINDINGS[0], protocol_version=version)
    return AgentCard(supported_interfaces=[interface], capabilities=AgentCapabilities(streaming=False))


def _fault_of_card(error: httpx.HTTPError, secrets: Sequence[str]) -> AgentError | None:
    """An error if the agent cannot be there; None if it may just have no card."""
    status = error.response.status_code if isinstance(error, httpx.HTTPStatusError) else None
    if status is not None and status < 500 and status not in (401, 407, 429):
        return None
    fault = agent_error(error, secrets)
    if fault.kind != "auth_required":
        fault.kind, fault.retryable = "unreachable", True
    return fault
