"""A bundle's tool file as a tool that models under test are offered: mocks only.

A tool that calls an address is left to a ToolRegistry: whoever writes a bundle must not choose which addresses our
workers call. Called by `testbench.arena.arena_file`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from testbench.arena.plan import MockTool
from testbench.errors import InputError
from testbench.schema.files import describe

KIND: Final = "Tool"
_KEYS: Final = frozenset({"name", "description", "input_schema", "output_schema", "mode", "mock_result"})


def read_tool(document: Mapping[str, Any], path: str) -> tuple[MockTool | None, tuple[str, ...]]:
    """The tool of a file of kind Tool (or of what would be its `spec` alone), and what is not supported.

    None for a tool that is no mock with a fixed result.

    Raises:
        InputError: it is not as it should be.
    """
    spec, metadata = (document.get("spec"), document.get("metadata")) if "kind" in document else (document, None)
    if document.get("kind", KIND) != KIND or not isinstance(spec, Mapping):
        raise InputError(f"{path}: no tool file", hint=f"It is of kind {KIND} and has a spec.")
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
    return tool, tuple(f"{path}: not supported: {key}" for key in sorted(spec.keys() - _KEYS))
