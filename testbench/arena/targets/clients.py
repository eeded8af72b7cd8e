"""From a target to the client that talks to it; SDKs are imported only where a target needs them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from testbench import defaults
from testbench.arena.targets.gateway import Instrument, as_it_is
from testbench.arena.targets.target import A2ATarget, ChatTarget, Target, WebSocketTarget
from testbench.arena.targets.tools import ToolBox
from testbench.net.clock import Clock, SystemClock
from testbench.schema.agent import AgentClient
from testbench.schema.models import Usage


@dataclass(frozen=True)
class Wiring:
    """What all clients of a process share: time, tracing and the purse."""

    clock: Clock = field(default_factory=SystemClock)
    instrument: Instrument = as_it_is
    on_spent: Callable[[Usage], None] | None = None
    """Receives the usage of every completion of a model, those of failed steps included."""


def client_of(
    target: Target,
    tools: ToolBox | None = None,
    *,
    concurrency: int = defaults.AGENT_CONCURRENCY,
    wiring: Wiring | None = None,
) -> AgentClient:
    """A client for a system under test, or for a simulated user; to be made inside the event loop.

    `tools` are offered to a model, answer the calls of an agent behind a WebSocket, and are nothing to an agent behind
    A2A, which has its own. The client closes them, so each client gets a box of its own.

    Raises:
        InputError: the address is none.
    """
    wiring = wiring or Wiring()
    match target:
        case ChatTarget():
            from testbench.arena.targets.chat import ChatClient

            return ChatClient(target, tools, clock=wiring.clock, instrument=wiring.instrument, on_spent=wiring.on_spent)
        case WebSocketTarget():
            from testbench.arena.targets.websocket import WebSocketClient

            return WebSocketClient(target, tools, clock=wiring.clock)
        case A2ATarget():
            from testbench.schema.a2a_client import A2AStepClient, ClientSettings

            settings = ClientSettings(target.url, target.headers, target.timeout_s, concurrency)
            return A2AStepClient(settings, clock=wiring.clock, instrument=wiring.instrument)
