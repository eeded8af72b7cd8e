"""From the entries of a job to clients: whose address, whose credential, which settings, which tools.

    SystemUnderTest -> Provider | AgentRuntime -> Target -> AgentClient
    tool registries, or the bundle's own tools -> ToolBox

`TargetClients` implements `context.Clients`. Everything that can be wrong with an entry is found by `check` before the
first message is sent.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit, urlunsplit

from testbench import defaults
from testbench.arena.manifest.documents import Documents
from testbench.arena.manifest.job import ArenaJob, S3Output, parse_seconds
from testbench.arena.manifest.resources import (
    AgentRuntime,
    DiscoveredTool,
    Provider,
    SecretKeyRef,
    ToolHandler,
    ToolRegistry,
)
from testbench.arena.plan.model import ChatDefaults, MockTool, Plan, SystemUnderTest
from testbench.arena.runs.context import OnSpent, find_kind
from testbench.arena.targets.target import (
    A2ATarget,
    ChatTarget,
    Handler,
    HttpHandler,
    McpHandler,
    MockHandler,
    Prices,
    Target,
    Tool,
    WebSocketTarget,
)
from testbench.arena.targets.tools import ToolBox
from testbench.errors import InputError
from testbench.metrics.judge.cost import Price, PriceList
from testbench.net.clock import Clock, SystemClock
from testbench.net.endpoint import Instrument, no_instrument
from testbench.net.object_store import Credentials
from testbench.schema.agent import AgentClient

ACCESS_KEY, SECRET_KEY, SESSION_TOKEN = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"
OUTPUT_FOLDER: Final = "output"
COMMON_KEYS: Final = ("api-key", "apiKey", "api_key", "API_KEY", "OPENAI_API_KEY", "token", "key")
"""Keys of a Secret that are looked for where a reference names none."""


@dataclass(frozen=True)
class CredentialSource:
    """Where credentials may be: a folder of files, the manifest's Secrets, and the environment of the process."""

    documents: Documents
    folder: Path | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)

    def of_provider(self, provider: Provider) -> str | None:
        """Return the key of a provider, None where it names none.

        Raises:
            InputError: it names one that is not there.
        """
        credential, spec = provider.spec.credential, provider.spec
        whose = f"Provider {provider.metadata.name}"
        ref = (credential.secret_ref if credential else None) or spec.secret_ref
        if ref is not None:
            return self._of_secret(provider, ref, whose)
        if credential is not None and credential.env_var:
            value = self.environment.get(credential.env_var, "").strip()
            if not value:
                raise InputError(f"{whose}: the variable {credential.env_var} is not set", hint="Set it to its key.")
            return value
        if credential is not None and credential.file_path:
            return _read_credential(Path(credential.file_path), whose)
        return None

    def of_output(self, output: S3Output, namespace: str) -> Credentials | None:
        """Return the credentials of a bucket, None where the manifest names none.

        Raises:
            InputError: it names some that are not there.
        """
        if output.secret_ref is None:
            return None
        folder = self.folder / OUTPUT_FOLDER if self.folder is not None else None
        secret = self.documents.secrets.named(output.secret_ref.name, namespace)
        found = {}
        for key in (ACCESS_KEY, SECRET_KEY, SESSION_TOKEN):
            file = folder / key if folder is not None else None
            if file is not None and file.is_file():
                found[key] = _read_credential(file, "output.s3")
            elif secret is not None and (value := secret.value(key)):
                found[key] = value
        if not (found.get(ACCESS_KEY) and found.get(SECRET_KEY)):
            raise InputError(
                f"output.s3: Secret {output.secret_ref.name} with {ACCESS_KEY} and {SECRET_KEY} is not here",
                hint=f"Put it into the manifest, or its keys as files below --credentials DIR/{OUTPUT_FOLDER}/.",
            )
        return Credentials(found[ACCESS_KEY], found[SECRET_KEY], found.get(SESSION_TOKEN))

    def _of_secret(self, provider: Provider, ref: SecretKeyRef, whose: str) -> str:
        namespace, name = provider.metadata.namespace, provider.metadata.name
        if self.folder is not None:
            mounted = self.folder / f"{namespace}_{name}"
            names = sorted(file.name for file in mounted.iterdir() if file.is_file()) if mounted.is_dir() else []
            key = _choose_key(ref.key, provider.spec.type, names)
            if key is not None:
                return _read_credential(mounted / key, whose)
        secret = self.documents.secrets.named(ref.name, namespace)
        key = _choose_key(ref.key, provider.spec.type, secret.keys) if secret is not None else None
        value = secret.value(key) if secret is not None and key is not None else None
        if value and value.strip():
            return value.strip()
        missing = f"no Secret {ref.name}" if secret is None else f"Secret {ref.name} has no key {ref.key or 'to take'}"
        place = f"--credentials DIR, as DIR/{namespace}_{name}/{ref.key or '<key>'}"
        raise InputError(f"{whose}: {missing}", hint=f"Put the Secret into the manifest, or its key into {place}.")


def _choose_key(wanted: str | None, kind: str, names: Sequence[str]) -> str | None:
    """Return the key that is asked for; else what the provider's type suggests, a common one or the only one."""
    if wanted is not None:
        return wanted if wanted in names else None
    suggested = (f"{kind.upper()}_API_KEY", *COMMON_KEYS)
    found = next((name for name in suggested if name in names), None)
    return found or (names[0] if len(names) == 1 else None)


def _read_credential(path: Path, whose: str) -> str:
    try:
        value = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{whose}: its credential {path} cannot be read", hint="Check path and permissions."
        ) from error
    if not value:
        raise InputError(f"{whose}: its credential {path} is empty", hint="Write the key into it.")
    return value


ResourceT = TypeVar("ResourceT")

CHAT_ROLE: Final = "llm"
API_ROOT: Final = "/v1"
"""Where a server that is named by host and port alone has its OpenAI-compatible API."""
SETTINGS_OF: Final[Mapping[str, str]] = {"http": "httpConfig", "mcp": "mcpConfig"}
"""Types of tool handlers that can be called, and where they keep their settings."""


@dataclass(frozen=True)
class ClientDependencies:
    """What all clients of a process share: time, tracing, and who counts what is spent."""

    clock: Clock = field(default_factory=SystemClock)
    instrument: Instrument = no_instrument
    on_spent: OnSpent | None = None
    """Receives the usage of every completion of a model, those of failed steps included."""


@dataclass(frozen=True)
class TargetClients:
    """Opens clients for the entries of one job."""

    job: ArenaJob
    documents: Documents
    credentials: CredentialSource
    chat: ChatDefaults = field(default_factory=ChatDefaults)
    mock_tools: tuple[MockTool, ...] = ()
    concurrency: int = defaults.AGENT_CONCURRENCY
    dependencies: ClientDependencies = field(default_factory=ClientDependencies)

    def target(self, kind: str, name: str) -> Target:
        namespace = self.job.metadata.namespace
        if kind == "agent":
            agent = self.documents.agents.named(name, namespace)
            return make_agent_target(_require(agent, "AgentRuntime", name))
        provider = _require(self.documents.providers.named(name, namespace), "Provider", name)
        return make_chat_target(provider, self.credentials.of_provider(provider), self.chat)

    def system(self, system: SystemUnderTest, *, on_spent: OnSpent | None = None) -> AgentClient:
        tools = self.tools()
        box = ToolBox(tools, self.dependencies.instrument) if tools else None
        return self._open(self.target(system.kind, system.name), box, on_spent)

    def entry(self, kind: str, name: str, *, on_spent: OnSpent | None = None) -> AgentClient:
        return self._open(self.target(kind, name), None, on_spent)

    def tools(self) -> tuple[Tool, ...]:
        """Return what models under test are offered: the tools of the job's registries, else those of its bundle.

        Raises:
            InputError: a registry is not among the documents, or one of its tools cannot be called.
        """
        found = [make_mock_tool(tool) for tool in self.mock_tools]
        for ref in self.job.spec.tool_registries:
            registry = self.documents.registries.named(ref.name, self.job.metadata.namespace)
            found += list_registry_tools(_require(registry, "ToolRegistry", ref.name))
        return tuple(found)

    def check(self, plan: Plan) -> None:
        """See that everybody in the plan can be talked to, without asking anybody.

        Raises:
            InputError: an entry has no usable address, its credential is not there, or a tool cannot be called.
        """
        if plan.judge is not None:
            self.target("provider", plan.judge)
        for system in plan.systems:
            self.target(system.kind, system.name)
            if system.user is not None:
                self.target(find_kind(self.documents, self.job.metadata.namespace, system.user), system.user)
        if any(system.kind == "provider" for system in plan.systems):
            ToolBox(self.tools())

    def _open(self, target: Target, tools: ToolBox | None, on_spent: OnSpent | None) -> AgentClient:
        shared = self.dependencies
        dependencies = shared if on_spent is None else replace(shared, on_spent=on_spent)
        return open_client(target, tools, concurrency=self.concurrency, dependencies=dependencies)


def make_chat_target(provider: Provider, api_key: str | None, chat: ChatDefaults) -> ChatTarget:
    """Return the model of a provider. Its own settings come before those of the arena file.

    Raises:
        InputError: it has no address, no model, or does not speak the OpenAI-compatible chat API.
    """
    spec, name = provider.spec, provider.metadata.name
    if spec.role != CHAT_ROLE:
        raise InputError(
            f"Provider {name}: its role is {spec.role!r}", hint=f"A model that chats is of role {CHAT_ROLE}."
        )
    if not spec.model:
        raise InputError(f"Provider {name}: names no model", hint="Write the model's name into spec.model.")
    own, pricing = spec.defaults, spec.pricing
    both = pricing is not None and pricing.input_cost_per1k is not None and pricing.output_cost_per1k is not None
    return ChatTarget(
        model=spec.model,
        base_url=_read_base_url(provider),
        api_key=api_key,
        headers=tuple(spec.headers.items()),
        temperature=own.temperature if own.temperature is not None else chat.temperature,
        top_p=own.top_p if own.top_p is not None else chat.top_p,
        max_tokens=own.max_tokens if own.max_tokens is not None else chat.max_tokens,
        seed=chat.seed,
        timeout_s=parse_seconds(own.request_timeout) if own.request_timeout else defaults.AGENT_TIMEOUT_S,
        prices=Prices(pricing.input_cost_per1k or 0.0, pricing.output_cost_per1k or 0.0) if pricing and both else None,
    )


def _read_base_url(provider: Provider) -> str:
    """Return the address of the provider's OpenAI-compatible API. A vendor's address is never assumed."""
    name, kind, url = provider.metadata.name, provider.spec.type, (provider.spec.base_url or "").strip()
    hint = "Write the address of an OpenAI-compatible API, such as an AI gateway's, into spec.baseURL."
    if not url:
        raise InputError(f"Provider {name}: type {kind} without a baseURL cannot be reached", hint=hint)
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        usable = False
    if not usable:
        raise InputError(f"Provider {name}: its baseURL is not an http(s) address", hint=hint)
    return urlunsplit(parts._replace(path=API_ROOT)) if parts.path in ("", "/") else url


def list_prices(target: ChatTarget) -> PriceList:
    """Return the prices of a model as a judge counts them, in US dollars for a million tokens; empty if unknown."""
    if target.prices is None:
        return PriceList()
    price = Price(input=1000 * target.prices.input_per_1k, output=1000 * target.prices.output_per_1k)
    return PriceList({target.model: price})


def make_agent_target(agent: AgentRuntime) -> Target:
    """Return how an agent is talked to.

    Raises:
        InputError: its status names no address.
    """
    endpoint = agent.endpoint()
    if endpoint is None:
        hint = "Write status.a2a.endpoint into its document, or wait until it is deployed."
        raise InputError(f"AgentRuntime {agent.metadata.name}: no address in its status", hint=hint)
    return A2ATarget(endpoint.url) if endpoint.protocol == "a2a" else WebSocketTarget(endpoint.url)


# --- tools ----------------------------------------------------------------------------------------------------------


def make_mock_tool(tool: MockTool) -> Tool:
    """Return a tool of the bundle."""
    return Tool(tool.name, MockHandler(tool.result), tool.description, tool.input_schema)


def list_registry_tools(registry: ToolRegistry) -> Iterator[Tool]:
    """Yield the tools that a registry found; without a status, those that its handlers describe.

    Raises:
        InputError: one of them cannot be called from here: a model without it must not be taken for one with it.
    """
    handlers = {handler.name: handler for handler in registry.spec.handlers}
    known = registry.status.discovered_tools if registry.status is not None else ()
    for tool in known or _list_described_tools(registry):
        place = f"ToolRegistry {registry.metadata.name}: tool {tool.name}"
        if tool.status == "Unavailable":
            raise InputError(f"{place} is unavailable", hint="Wait until its registry finds it again.")
        handler = handlers.get(tool.handler_name or "")
        yield Tool(
            tool.name, _make_handler(tool, handler, place), tool.description, tool.input_schema or {"type": "object"}
        )


def _list_described_tools(registry: ToolRegistry) -> tuple[DiscoveredTool, ...]:
    """Return the tools that handlers describe themselves, as those of type http do."""
    described = [
        DiscoveredTool.model_validate({"handlerName": handler.name, **tool})
        for handler in registry.spec.handlers
        if isinstance(tool := (handler.model_extra or {}).get("tool"), Mapping) and "name" in tool
    ]
    if not described:
        hint = "A registry's status lists its tools; in a manifest by hand, write status.discoveredTools."
        raise InputError(f"ToolRegistry {registry.metadata.name}: no tool is known", hint=hint)
    return tuple(described)


def _make_handler(tool: DiscoveredTool, handler: ToolHandler | None, place: str) -> Handler:
    kind = handler.type if handler is not None else "http"
    if kind not in SETTINGS_OF:
        hint = f"Tools are called over {' and '.join(SETTINGS_OF)}; offer it in one of these ways."
        raise InputError(f"{place}: tools of type {kind} cannot be called", hint=hint)
    given = (handler.model_extra or {}).get(SETTINGS_OF[kind]) if handler is not None else None
    settings: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    url = tool.endpoint or settings.get("endpoint")
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        raise InputError(f"{place}: no http(s) address", hint="Write it into endpoint of the tool, or of its handler.")
    headers = settings.get("headers")
    pairs = tuple((str(key), str(value)) for key, value in headers.items()) if isinstance(headers, Mapping) else ()
    return HttpHandler(url, pairs) if kind == "http" else McpHandler(url, pairs)


def _require(resource: ResourceT | None, kind: str, name: str) -> ResourceT:
    if resource is None:
        raise InputError(f"no {kind} {name!r} among the documents", hint="Put its document into the manifest.")
    return resource


def open_client(
    target: Target,
    tools: ToolBox | None = None,
    *,
    concurrency: int = defaults.AGENT_CONCURRENCY,
    dependencies: ClientDependencies | None = None,
) -> AgentClient:
    """Return a client for a system under test, or for a simulated user; to be made inside the event loop.

    `tools` are offered to a model, answer the calls of an agent behind a WebSocket, and are nothing to an agent behind
    A2A, which has its own. The client closes them, so each client gets a box of its own.

    Raises:
        InputError: the address is not one.
    """
    dependencies = dependencies or ClientDependencies()
    match target:
        case ChatTarget():
            from testbench.arena.targets.chat_client import ChatClient

            return ChatClient(
                target,
                tools,
                clock=dependencies.clock,
                instrument=dependencies.instrument,
                on_spent=dependencies.on_spent,
            )
        case WebSocketTarget():
            from testbench.arena.targets.websocket_client import WebSocketClient

            return WebSocketClient(target, tools, clock=dependencies.clock)
        case A2ATarget():
            from testbench.schema.a2a_client import A2AStepClient, ClientSettings

            settings = ClientSettings(target.url, target.headers, target.timeout_s, concurrency)
            return A2AStepClient(settings, clock=dependencies.clock, instrument=dependencies.instrument)
