"""Ids are made of content: the same on every machine, distinct for what is distinct, untouched by thresholds."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from testbench.schema.ids import assign_ids, experiment_id
from testbench.schema.models import Experiment, Metric, Scenario, Step

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
steps = st.builds(Step, input=texts, custom_values=st.dictionaries(texts, st.integers() | texts, max_size=2))
scenarios = st.builds(Scenario, name=texts, steps=st.lists(steps, min_size=1, max_size=3).map(tuple))


def one(*inputs: str, name: str = "s") -> Scenario:
    return Scenario(name=name, steps=tuple(Step(input=text) for text in inputs))


@given(st.lists(scenarios, max_size=6))
def test_no_two_ids_are_equal(given_scenarios: list[Scenario]) -> None:
    planned = assign_ids(given_scenarios)
    ids = [scenario.id for scenario in planned] + [step.id for scenario in planned for step in scenario.steps]
    assert len(ids) == len(set(ids))


@given(st.lists(scenarios, max_size=4))
def test_ids_survive_the_file(given_scenarios: list[Scenario]) -> None:
    experiment = Experiment(scenarios=tuple(given_scenarios))
    read = Experiment.model_validate(json.loads(experiment.model_dump_json()))
    assert assign_ids(read.scenarios) == assign_ids(experiment.scenarios)
    assert experiment_id(read) == experiment_id(experiment)


@given(st.lists(scenarios, min_size=1, max_size=4), scenarios)
def test_a_scenario_added_at_the_end_changes_no_id_before_it(before: list[Scenario], added: Scenario) -> None:
    assert assign_ids([*before, added])[:-1] == assign_ids(before)


def test_ids_are_these_on_every_machine() -> None:
    (scenario,) = assign_ids([one("What is the weather?", name="weather")])
    assert (scenario.id, scenario.steps[0].id) == ("scn_340c9d1d986370bc", "stp_8f531a9b12e01504")


def test_a_threshold_or_a_metric_makes_no_other_step() -> None:
    plain = Scenario(name="s", steps=(Step(input="x"),))
    judged = Scenario(name="s", steps=(Step(input="x", metrics=(Metric(metric_name="A", threshold=0.5),)),))
    assert assign_ids([plain])[0].steps[0].id == assign_ids([judged])[0].steps[0].id


def test_the_same_question_elsewhere_in_a_conversation_is_another_step() -> None:
    (scenario,) = assign_ids([one("hello", "hello")])
    assert scenario.steps[0].id != scenario.steps[1].id
    assert assign_ids([one("hi", "hello")])[0].steps[1].id != assign_ids([one("bye", "hello")])[0].steps[1].id


def test_equal_scenarios_are_told_apart_by_their_occurrence() -> None:
    first, second = assign_ids([one("x"), one("x")])
    assert first.id != second.id
    assert first.steps[0].id != second.steps[0].id
