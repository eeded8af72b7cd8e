"""What is needed to talk to a system under test: plain values, made of Provider, AgentRuntime and ToolRegistry.

Every target carries its own credentials; none is ever taken from the environment, where two targets of one kind would
share them. Addresses, keys and header values are secrets: no repr shows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from testbench import defaults
from testbench.safe_text import find_secrets
from testbench.schema.models import Usage

Headers: TypeAlias = tuple[tuple[str, str], ...]

MAX_TOOL_ROUNDS: Final = 8
TOOL_TIMEOUT_S: Final = 30.0
MAX_RESULT_BYTES: Final = 64 * 1024
MAX_FRAME_BYTES: Final = 1024 * 1024


@dataclass(frozen=True)
class Prices:
    """US dollars for 1,000 tokens, as a Provider states them."""

    input_per_1k: float
    output_per_1k: float

    def of(self, usage: Usage) -> float | None:
        """Return the cost of these tokens; None where either number is unknown."""
        if usage.input_tokens is None or usage.output_tokens is None:
            return None
        return (usage.input_tokens * self.input_per_1k + usage.output_tokens * self.output_per_1k) / 1000

    def add_cost(self, usage: Usage | None) -> Usage | None:
        """Return the usage with its cost: as the gateway says, else by these prices, else unknown (and never 0)."""
        if usage is None or usage.cost_usd is not None:
            return usage
        return usage.model_copy(update={"cost_usd": self.of(usage)})


@dataclass(frozen=True)
class ChatTarget:
    """A model behind an OpenAI-compatible gateway. What is None is left to the gateway."""

    model: str
    base_url: str = field(repr=False)
    """Up to and without `/chat/completions`; a user, a password and a query are sent and shown nowhere."""
    api_key: str | None = field(default=None, repr=False)
    headers: Headers = field(default=(), repr=False)
    system_prompt: str = ""
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stream: bool = True
    """Only a streamed answer has a time to first token."""
    timeout_s: float = defaults.AGENT_TIMEOUT_S
    """Seconds that one request may take, of which a step with tool calls needs several."""
    max_tool_rounds: int = MAX_TOOL_ROUNDS
    """How often the model may call tools before it has to answer."""
    prices: Prices | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no error may repeat, whoever says it."""
        return find_secrets(self.base_url, self.headers, self.api_key)


@dataclass(frozen=True)
class A2ATarget:
    """An agent that speaks A2A."""

    url: str = field(repr=False)
    headers: Headers = field(default=(), repr=False)
    timeout_s: float = defaults.AGENT_TIMEOUT_S


@dataclass(frozen=True)
class WebSocketTarget:
    """An agent behind the reference system's WebSocket."""

    url: str = field(repr=False)
    headers: Headers = field(default=(), repr=False)
    timeout_s: float = defaults.AGENT_TIMEOUT_S
    """Seconds without a frame after which an answer is given up."""
    max_frame_bytes: int = MAX_FRAME_BYTES

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no error may repeat, whoever says it."""
        return find_secrets(self.url, self.headers)


Target: TypeAlias = ChatTarget | A2ATarget | WebSocketTarget


@dataclass(frozen=True)
class _RemoteHandler:
    """A tool behind an address."""

    url: str = field(repr=False)
    headers: Headers = field(default=(), repr=False)
    timeout_s: float = TOOL_TIMEOUT_S
    max_result_bytes: int = MAX_RESULT_BYTES

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no error may repeat, whoever says it."""
        return find_secrets(self.url, self.headers)


@dataclass(frozen=True)
class HttpHandler(_RemoteHandler):
    """A tool that answers a POST of its arguments, a JSON object, with JSON or text."""


@dataclass(frozen=True)
class McpHandler(_RemoteHandler):
    """A tool of an MCP server that is reached over streamable HTTP; `tool` is its name there, if that differs."""

    tool: str = ""


@dataclass(frozen=True)
class MockHandler:
    """A tool that always gives the same result, or the same error of its own."""

    result: Any = None
    error: str | None = None


Handler: TypeAlias = HttpHandler | McpHandler | MockHandler

ANY_OBJECT: Final[Mapping[str, Any]] = {"type": "object"}


@dataclass(frozen=True)
class Tool:
    """A tool that a model is offered, and who executes its calls."""

    name: str
    handler: Handler
    description: str = ""
    input_schema: Mapping[str, Any] = field(default_factory=lambda: ANY_OBJECT)
    """JSON Schema of the arguments."""
