"""The kinds of objects that the operator reads or writes, as the API server addresses them."""

from __future__ import annotations

from typing import Any, Final, NamedTuple, TypeAlias

from testbench.arena.manifest.fields import GROUP, VERSION

Json: TypeAlias = dict[str, Any]
"""An object as the API server sends it."""


class Kind(NamedTuple):
    """A namespaced kind; the core group is empty."""

    group: str
    version: str
    plural: str
    name: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def root(self) -> str:
        """The first part of its objects' paths."""
        return f"/apis/{self.api_version}" if self.group else f"/api/{self.version}"


ARENA_JOB: Final = Kind(GROUP, VERSION, "arenajobs", "ArenaJob")
ARENA_SOURCE: Final = Kind(GROUP, VERSION, "arenasources", "ArenaSource")
PROVIDER: Final = Kind(GROUP, VERSION, "providers", "Provider")
AGENT_RUNTIME: Final = Kind(GROUP, VERSION, "agentruntimes", "AgentRuntime")
TOOL_REGISTRY: Final = Kind(GROUP, VERSION, "toolregistries", "ToolRegistry")
JOB: Final = Kind("batch", "v1", "jobs", "Job")
POD: Final = Kind("", "v1", "pods", "Pod")
CONFIG_MAP: Final = Kind("", "v1", "configmaps", "ConfigMap")
SECRET: Final = Kind("", "v1", "secrets", "Secret")
EVENT: Final = Kind("", "v1", "events", "Event")
CLAIM: Final = Kind("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
