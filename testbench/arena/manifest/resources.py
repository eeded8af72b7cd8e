"""The resources that an ArenaJob refers to, as far as a worker needs them.

They belong to others (the operator of agents, the platform team): whatever else they hold is left alone. Read by
`testbench.arena.manifest.documents`; used by whoever connects to a model, an agent or a tool.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from pydantic import ConfigDict, Field

from testbench.arena.manifest.fields import ManifestModel
from testbench.arena.manifest.job import Metadata


class ResourceModel(ManifestModel):
    """Immutable, camelCase in the manifest; keys that only their owner knows are left out.

    An error names the place and not the value, which may be a secret.
    """

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)


class Resource(ResourceModel):
    """What all of them have."""

    metadata: Metadata


class SecretKeyRef(ResourceModel):
    """A Secret of the resource's namespace; without a key, the key that fits the provider is looked for."""

    name: str
    key: str | None = None


# --- where scenarios come from --------------------------------------------------------------------------------------


class Artifact(ResourceModel):
    """What a source last delivered."""

    revision: str | None = None
    url: str | None = None
    checksum: str | None = None
    content_path: str | None = Field(default=None, description="Folder in the store that workers mount.")
    version: str | None = None


class ArenaSourceStatus(ResourceModel):
    """As far as it is known."""

    phase: str | None = None
    artifact: Artifact | None = None


class ConfigMapSource(ResourceModel):
    """A bundle in a ConfigMap of the source's namespace."""

    name: str


class ArenaSourceSpec(ResourceModel):
    """Where a bundle comes from."""

    type: str | None = None
    config_map: ConfigMapSource | None = None
    target_path: str | None = None


class ArenaSource(Resource):
    """A bundle of scenarios."""

    spec: ArenaSourceSpec = ArenaSourceSpec()
    status: ArenaSourceStatus | None = None


# --- models ---------------------------------------------------------------------------------------------------------


class Credential(ResourceModel):
    """Where a provider's key is: a Secret, a variable of the environment, or a file. At most one."""

    secret_ref: SecretKeyRef | None = None
    env_var: str | None = None
    file_path: str | None = None


class ProviderDefaults(ResourceModel):
    """Settings of every request; the resource writes numbers as texts."""

    temperature: float | None = Field(default=None, allow_inf_nan=False)
    top_p: float | None = Field(default=None, allow_inf_nan=False)
    max_tokens: int | None = None
    request_timeout: str | None = None


class Pricing(ResourceModel):
    """US dollars for a thousand tokens; the resource writes them as texts."""

    input_cost_per1k: float | None = Field(default=None, alias="inputCostPer1K", ge=0, allow_inf_nan=False)
    output_cost_per1k: float | None = Field(default=None, alias="outputCostPer1K", ge=0, allow_inf_nan=False)
    cached_cost_per1k: float | None = Field(default=None, alias="cachedCostPer1K", ge=0, allow_inf_nan=False)


class ProviderSpec(ResourceModel):
    """A model behind an API."""

    type: str
    model: str | None = None
    role: str = "llm"
    base_url: str | None = Field(default=None, alias="baseURL")
    headers: Mapping[str, str] = Field(default={}, repr=False, description="A value may be a key.")
    credential: Credential | None = None
    secret_ref: SecretKeyRef | None = Field(default=None, description="The older place of credential.secretRef.")
    defaults: ProviderDefaults = ProviderDefaults()
    pricing: Pricing | None = None


class Provider(Resource):
    """A model that answers, or judges."""

    spec: ProviderSpec


# --- agents ---------------------------------------------------------------------------------------------------------


class AgentEndpoint(NamedTuple):
    """Where an agent is reached, and how."""

    protocol: Literal["a2a", "websocket"]
    url: str


class FacadeEndpoint(ResourceModel):
    """One protocol that an agent speaks."""

    protocol: str
    url: str
    valid: bool = True


class Facade(ResourceModel):
    """All protocols that an agent speaks."""

    endpoints: tuple[FacadeEndpoint, ...] = ()


class A2AStatus(ResourceModel):
    """The agent's A2A address."""

    agent_card_url: str | None = Field(default=None, alias="agentCardURL")
    endpoint: str | None = None


class FacadeSpec(ResourceModel):
    """A protocol that was asked for."""

    type: str | None = None


class AgentRuntimeStatus(ResourceModel):
    """As far as it is known."""

    service_endpoint: str | None = None
    a2a: A2AStatus | None = Field(default=None, alias="a2a")
    facade: Facade | None = None


class AgentRuntimeSpec(ResourceModel):
    """As far as a worker needs it."""

    facade: FacadeSpec | None = None
    facades: tuple[FacadeSpec, ...] = ()


class AgentRuntime(Resource):
    """An agent that runs."""

    spec: AgentRuntimeSpec = AgentRuntimeSpec()
    status: AgentRuntimeStatus | None = None

    def endpoint(self) -> AgentEndpoint | None:
        """Return the best way to the agent: the A2A address (or card) of its status, a valid facade, or its service.

        The service speaks A2A unless the spec asks for WebSocket alone. None where the status names no address.
        """
        status = self.status or AgentRuntimeStatus()
        if status.a2a is not None and status.a2a.endpoint:
            return AgentEndpoint("a2a", status.a2a.endpoint)
        if status.a2a is not None and status.a2a.agent_card_url:
            return AgentEndpoint("a2a", status.a2a.agent_card_url.partition("/.well-known/")[0])
        offered = [endpoint for endpoint in (status.facade or Facade()).endpoints if endpoint.valid]
        for protocol in ("a2a", "websocket"):
            for endpoint in offered:
                if endpoint.protocol == protocol:
                    return AgentEndpoint(protocol, endpoint.url)
        if status.service_endpoint:
            return self._service(status.service_endpoint)
        return None

    def _service(self, host: str) -> AgentEndpoint:
        bare = host.partition("://")[2] or host
        kinds = {facade.type for facade in (*self.spec.facades, self.spec.facade) if facade is not None}
        if kinds == {"websocket"}:
            query = f"agent={self.metadata.name}&namespace={self.metadata.namespace}"
            return AgentEndpoint("websocket", f"ws://{bare}/ws?{query}")
        return AgentEndpoint("a2a", f"http://{bare}")


# --- tools ----------------------------------------------------------------------------------------------------------


class DiscoveredTool(ResourceModel):
    """A tool that a registry found, with the address where it is called."""

    name: str
    handler_name: str | None = None
    description: str = ""
    endpoint: str | None = None
    input_schema: Mapping[str, Any] | None = None
    output_schema: Mapping[str, Any] | None = None
    status: str = "Unknown"


class ToolRegistryStatus(ResourceModel):
    """As far as it is known."""

    phase: str | None = None
    discovered_tools: tuple[DiscoveredTool, ...] = ()


class ToolHandler(ResourceModel):
    """How tools are called; the settings of each type are kept as they are."""

    model_config = ConfigDict(extra="allow")

    name: str
    type: str


class ToolRegistrySpec(ResourceModel):
    """What a registry offers."""

    handlers: tuple[ToolHandler, ...] = ()


class ToolRegistry(Resource):
    """Tools that a model is offered."""

    spec: ToolRegistrySpec = ToolRegistrySpec()
    status: ToolRegistryStatus | None = None


# --- values ---------------------------------------------------------------------------------------------------------


class Secret(Resource):
    """Credentials that came with the manifest. Never shown: neither in `repr`, nor in a dump, nor in an error."""

    string_data: Mapping[str, str] = Field(default={}, repr=False, exclude=True)
    data: Mapping[str, str] = Field(default={}, repr=False, exclude=True)

    def value(self, key: str) -> str | None:
        """Return the value of a key, `stringData` before `data`; None where there is none, or not base64 of a text."""
        if key in self.string_data:
            return self.string_data[key]
        try:
            return base64.b64decode(self.data[key], validate=True).decode() if key in self.data else None
        except (binascii.Error, ValueError):
            return None

    @property
    def keys(self) -> tuple[str, ...]:
        """The names of its values, sorted."""
        return tuple(sorted({*self.string_data, *self.data}))


class ConfigMap(Resource):
    """Settings, or the files of a bundle."""

    data: Mapping[str, str] = {}
    binary_data: Mapping[str, str] = {}
