"""Rows become conversations; names and ids do not depend on where a row stood."""

from __future__ import annotations

import random
import string

from hypothesis import given
from hypothesis import strategies as st

from testbench.schema.ids import assign_ids
from testbench.schema.models import Step
from testbench.sources.columns import PlacedStep
from testbench.sources.dataset import NAME_CHARACTERS, group_into_scenarios
from tests.support.setup_phase import law


def named(*placed: tuple[str, str | None]) -> list[tuple[str, list[str]]]:
    scenarios = group_into_scenarios(PlacedStep(Step(input=text), scenario) for text, scenario in placed)
    return [(scenario.name, [step.input for step in scenario.steps]) for scenario in scenarios]


def test_rows_of_one_scenario_are_its_steps_in_order_and_others_stand_alone() -> None:
    rows = (("a1", "A"), ("single", None), ("b1", "B"), ("a2", "A"), ("other", None), ("b2", "B"))
    assert named(*rows) == [("A", ["a1", "a2"]), ("single", ["single"]), ("B", ["b1", "b2"]), ("other", ["other"])]


def test_a_name_that_is_taken_gets_an_occurrence() -> None:
    names = [
        name for name, _ in named(("x", None), ("x", None), ("y", "x"), ("x", None), ("x (2)", None), ("z", "x (2)"))
    ]
    assert names == ["x", "x (2)", "x (3)", "x (4)", "x (2) (2)", "x (2) (3)"]


def test_a_name_that_another_row_has_already_is_passed_over() -> None:
    names = [name for name, _ in named(("x (2)", None), ("x", None), ("x", None))]
    assert names == ["x (2)", "x", "x (3)"]


def test_the_users_own_name_is_printable_and_kept_whole() -> None:
    ((name, _),) = named(("x", "trip\x1b[31m " + "to a far town " * 10))
    assert name == ("trip\\x1b[31m " + "to a far town " * 10).strip()


def test_a_name_is_one_short_printable_line() -> None:
    ((name, _),) = named(("  What\n is\x1b[31m this?\u202e " + "long " * 50, None))
    assert name.startswith("What is\\x1b[31m this?")
    assert len(name) == NAME_CHARACTERS
    assert name.isprintable()


inputs = st.lists(st.text(string.ascii_letters, min_size=1, max_size=NAME_CHARACTERS), unique=True)


@law
@given(inputs=inputs, seed=st.integers())
def test_ids_do_not_depend_on_the_order_of_rows(inputs: list[str], seed: int) -> None:
    def ids(texts: list[str]) -> dict[str, str]:
        scenarios = assign_ids(group_into_scenarios(PlacedStep(Step(input=text)) for text in texts))
        return {scenario.steps[0].input: scenario.id for scenario in scenarios}

    assert ids(random.Random(seed).sample(inputs, len(inputs))) == ids(inputs)


@law
@given(st.lists(st.tuples(st.text(min_size=1).filter(str.strip), st.none() | st.sampled_from(["a", "b", "a (2)"]))))
def test_names_are_unique_and_no_step_is_lost(rows: list[tuple[str, str | None]]) -> None:
    rows = [(text, scenario) for text, scenario in rows if text.isprintable()]
    scenarios = named(*rows)
    assert len({name for name, _ in scenarios}) == len(scenarios)
    assert sorted(text for _, texts in scenarios for text in texts) == sorted(text for text, _ in rows)
