"""Strict schemas: OpenAI's rules are kept, and what fits the strict schema fits the model."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from enum import Enum
from typing import Any, Literal, Optional

import jsonschema
import pytest
from pydantic import BaseModel, Field

from testbench.metrics.builtin.rubric import RubricVerdict
from testbench.metrics.estimate import make_instance
from testbench.openai_api.options import response_format, strict_schema, strictest_format
from tests.support.servers.scripted_judge import strict_fault


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Item(BaseModel):
    """One of many."""

    name: str = Field(min_length=1, pattern="^[a-z0-9]+$", description="What it is called.")
    rating: int = Field(default=1, ge=0, le=5)


class Everything(BaseModel):
    """All that pydantic writes into a schema and strict mode can say."""

    items: list[Item]
    favourite: Item = Field(description="The best of them.")
    colour: Colour = Colour.RED
    word: Literal["yes", "no"]
    one: Literal["only"] = "only"
    maybe: Optional[float] = None  # noqa: UP045  # as frameworks write it
    either: int | str = 0


class Tree(BaseModel):
    """Contains itself."""

    label: str
    below: list[Tree] = []


class FreeKeys(BaseModel):
    found: dict[str, int]


class AnyValue(BaseModel):
    found: Any


class AnyItems(BaseModel):
    found: list[Any]


class Pair(BaseModel):
    found: tuple[int, str]


class Nothing(BaseModel):
    """No field."""


def ragas_answers() -> Iterator[type[BaseModel]]:
    """Every model in which a metric of RAGAS wants the judge's answer."""
    collections = importlib.import_module("ragas.metrics.collections")
    for module in pkgutil.walk_packages(collections.__path__, "ragas.metrics.collections."):
        if not module.name.endswith("util"):
            continue
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and issubclass(value, BaseModel) and "Output" in value.__name__:
                yield value


@pytest.mark.parametrize("model", [Everything, Tree, RubricVerdict], ids=lambda model: model.__name__)
def test_a_strict_schema_keeps_the_rules_and_its_instances_fit_the_model(model: type[BaseModel]) -> None:
    strict = strict_schema(model)
    assert strict is not None
    assert strict_fault(strict) is None
    jsonschema.Draft202012Validator.check_schema(strict)


def test_what_fits_the_strict_schema_fits_the_model_but_for_its_bounds() -> None:
    strict = strict_schema(Everything)
    assert strict is not None
    made = make_instance(strict, strict)
    jsonschema.validate(made, dict(strict))
    assert Everything.model_validate(made).word == "yes"
    assert list(strict["properties"]) == list(Everything.model_fields)


@pytest.mark.parametrize("model", [FreeKeys, AnyValue, AnyItems, Pair, Nothing], ids=lambda model: model.__name__)
def test_what_strict_mode_cannot_say_is_asked_for_as_any_object(model: type[BaseModel]) -> None:
    assert strict_schema(model) is None
    assert response_format(model) is None

    assert strictest_format(model) == {"type": "json_object"}


def test_every_answer_that_ragas_wants_has_a_strict_schema() -> None:
    models = set(ragas_answers())
    assert len(models) > 10
    for model in models:
        strict = strict_schema(model)
        assert strict is not None, model
        assert strict_fault(strict) is None, model
        model.model_validate(make_instance(strict, strict))


def test_a_generic_answer_has_a_name_that_gateways_take() -> None:
    made = type("Answer[int]é", (Item,), {})
    wanted = response_format(made)
    assert wanted is not None
    assert wanted["json_schema"]["name"] == "Answer_int__"
