"""Reads the provider and tool files of a bundle; used where a job names no providers or tool registries itself.

No credentials are taken from it: the author of a bundle must not choose which secret is sent to which address.
A Provider document of the same name in the manifest has them, and wins.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from testbench.arena.manifest.documents import validate_manifest
from testbench.arena.manifest.fields import NAME_PATTERN
from testbench.arena.manifest.resources import Provider
from testbench.arena.plan.model import MockTool
from testbench.errors import InputError
from testbench.schema.files import describe

PROVIDER_KIND: Final = "Provider"
_PROVIDER_KEYS: Final = frozenset({"id", "type", "model", "base_url", "headers", "defaults", "pricing"})
_CREDENTIALS: Final = frozenset({"credential", "credentials", "api_key", "headers"})
_DEFAULTS: Final = {"temperature": "temperature", "top_p": "topP", "max_tokens": "maxTokens"}
_PRICING: Final = {
    "input_cost_per_1k": "inputCostPer1K",
    "output_cost_per_1k": "outputCostPer1K",
    "cached_cost_per_1k": "cachedCostPer1K",
}


def read_provider(document: Mapping[str, Any], path: str) -> tuple[Provider, tuple[str, ...]]:
    """Return the provider of a file of kind Provider (or of what would be its `spec` alone), and what is left out.

    Raises:
        InputError: it is not as it should be.
    """
    spec, metadata = (document.get("spec"), document.get("metadata")) if "kind" in document else (document, None)
    if document.get("kind", PROVIDER_KIND) != PROVIDER_KIND or not isinstance(spec, Mapping):
        raise InputError(f"{path}: not a provider file", hint=f"It is of kind {PROVIDER_KIND} and has a spec.")
    name = spec.get("id") or (metadata.get("name") if isinstance(metadata, Mapping) else None)
    if not isinstance(name, str) or not re.fullmatch(NAME_PATTERN.replace("$", r"\Z"), name):
        hint = "Use small letters, digits, - and . only: it is the name of a resource."
        raise InputError(f"{path}: the id {name!r} cannot be the name of a provider", hint=hint)
    manifest = {
        "metadata": {"name": name},
        "spec": {
            "type": spec.get("type"),
            "model": spec.get("model"),
            "baseURL": spec.get("base_url"),
            "defaults": _rename_keys(spec.get("defaults"), _DEFAULTS),
            "pricing": _rename_keys(spec.get("pricing"), _PRICING) or None,
        },
    }
    left_out = [f"{path}: not supported: {key}" for key in spec.keys() - _PROVIDER_KEYS - _CREDENTIALS]
    if spec.keys() & _CREDENTIALS:
        left_out.append(f"{path}: not used: credentials and headers; write a Provider {name} into the manifest")
    try:
        return validate_manifest(Provider, manifest), tuple(sorted(left_out))
    except ValidationError as error:
        raise InputError(f"{path}: {describe(error)}", hint="A provider has a type, a model and a base_url.") from error


def _rename_keys(given: Any, names: Mapping[str, str]) -> dict[str, Any]:
    return {names[key]: value for key, value in given.items() if key in names} if isinstance(given, Mapping) else {}


TOOL_KIND: Final = "Tool"
_TOOL_KEYS: Final = frozenset({"name", "description", "input_schema", "output_schema", "mode", "mock_result"})


def read_tool(document: Mapping[str, Any], path: str) -> tuple[MockTool | None, tuple[str, ...]]:
    """Return the tool of a file of kind Tool (or of what would be its `spec` alone), and what is not supported.

    The tool is None where it is not a mock with a fixed result.

    Raises:
        InputError: it is not as it should be.
    """
    spec, metadata = (document.get("spec"), document.get("metadata")) if "kind" in document else (document, None)
    if document.get("kind", TOOL_KIND) != TOOL_KIND or not isinstance(spec, Mapping):
        raise InputError(f"{path}: not a tool file", hint=f"It is of kind {TOOL_KIND} and has a spec.")
    if spec.get("mode", "mock") != "mock" or "mock_result" not in spec:
        return None, (f"{path}: not supported: a tool without mock_result; list it in a ToolRegistry",)
    name = spec.get("name") or (metadata.get("name") if isinstance(metadata, Mapping) else None)
    fields = {
        "name": name,
        "description": spec.get("description") or "",
        "input_schema": spec.get("input_schema") or {"type": "object"},
        "result": spec["mock_result"],
    }
    try:
        tool = MockTool.model_validate(fields)
    except ValidationError as error:
        raise InputError(
            f"{path}: {describe(error)}", hint="A tool has a name, and mode: mock a mock_result."
        ) from error
    return tool, tuple(f"{path}: not supported: {key}" for key in sorted(spec.keys() - _TOOL_KEYS))
