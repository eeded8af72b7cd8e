"""What a judge costs by the user's own price list, because a list in a program is out of date when it is written.

    a file -> PriceList -> the cost of a reply that its gateway did not name, and the most that a request can cost

The file is YAML or JSON, in US dollars for a million tokens:

    gpt-4o: {input: 2.50, output: 10.00}
    text-embedding-3-small: {input: 0.02}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from testbench.errors import InputError
from testbench.schema.files import describe, load_document, read_bytes
from testbench.schema.models import Usage

MILLION: Final = 1_000_000
TOKENS_OF_A_MESSAGE: Final = 16
"""More than any gateway adds to a message for roles and marks."""
_HINT: Final = "Write a line for each model, e.g. gpt-4o: {input: 2.50, output: 10.00}, in USD per million tokens."


class Price(BaseModel):
    """US dollars for a million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: float = Field(ge=0, allow_inf_nan=False)
    output: float = Field(default=0.0, ge=0, allow_inf_nan=False)

    def of(self, input_tokens: int, output_tokens: int) -> float:
        """The cost of so many tokens."""
        return (input_tokens * self.input + output_tokens * self.output) / MILLION


_PRICES = TypeAdapter(dict[str, Price])


@dataclass(frozen=True)
class PriceList:
    """Prices by the name of the model, as it is asked for."""

    prices: Mapping[str, Price] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> PriceList:
        """The prices in a file.

        Raises:
            InputError: it is missing, or no price list.
        """
        document = load_document(path, read_bytes(path, hint=_HINT))
        try:
            return cls(_PRICES.validate_python(document))
        except ValidationError as error:
            raise InputError(f"{path}: no price list: {describe(error)}", hint=_HINT) from error

    def of(self, model: str | None) -> Price | None:
        """The price of a model, or None where the list does not name it."""
        return self.prices.get(model or "")

    def priced(self, usage: Usage, model: str | None) -> Usage:
        """The usage with its cost: as reported, else by this list, else unknown (and never 0)."""
        price = self.of(model)
        if usage.cost_usd is not None or price is None or usage.input_tokens is None:
            return usage
        if usage.output_tokens is None and price.output:
            return usage
        return usage.model_copy(update={"cost_usd": price.of(usage.input_tokens, usage.output_tokens or 0)})


def most_tokens(texts: list[str]) -> int:
    """More tokens than these messages can have: no tokenizer makes more tokens than there are bytes."""
    return sum(len(text.encode(errors="replace")) + TOKENS_OF_A_MESSAGE for text in texts)


def likely_tokens(texts: list[str]) -> int:
    """About as many tokens as these messages have: four characters of Latin script are one."""
    return sum(len(text) // 4 + TOKENS_OF_A_MESSAGE // 4 for text in texts)
