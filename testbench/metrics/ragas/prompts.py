"""RAGAS's prompts hold the schema of their answer, which RAGAS works out for every question again; here it is known.

That was half of the time that a question took beside its request. Used by `testbench.metrics.ragas.adapter`.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from pydantic import BaseModel
from ragas.prompt.metrics.base_prompt import BasePrompt


class KnownSchema:
    """Stands in for an answer's model in a prompt, which asks it for nothing but its schema."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._model = model

    @cached_property
    def _schema(self) -> dict[str, Any]:
        return self._model.model_json_schema()

    def model_json_schema(self) -> dict[str, Any]:
        """As pydantic's; not to be changed, because it is shared."""
        return self._schema


def remember_schemas(metric: Any) -> None:
    """Let the prompts of a metric, which are its attributes, work out their schema once."""
    for prompt in vars(metric).values():
        if isinstance(prompt, BasePrompt):
            prompt.output_model = KnownSchema(prompt.output_model)  # type: ignore[assignment]  # all that it asks for
