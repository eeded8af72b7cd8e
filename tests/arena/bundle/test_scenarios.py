"""Scenarios of a bundle: our own form, promptarena's, the arena file, and filters. No check is ever lost on the way."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from testbench.arena.bundle.arena_file import ArenaFile, read_arena_file
from testbench.arena.bundle.assertions import SUPPORTED, NotSupportedError, read_assertion
from testbench.arena.bundle.bundle import Bundle, matches
from testbench.arena.bundle.promptarena import merge_calls, read_scenario
from testbench.arena.bundle.scenarios import FoundScenario, select_scenarios
from testbench.arena.manifest.job import ScenarioFilter
from testbench.errors import InputError, NothingToDo
from testbench.metrics.protocol import Sample
from testbench.metrics.registry import GenericMetricsRegistry
from testbench.schema.models import ExecutedScenario, ExecutedStep, Metric, ToolCall, Turn

PLAIN = "name: plain\nsteps: [{input: hello}]\n"


def bundle(files: Mapping[str, str]) -> Bundle:
    return Bundle("b", {path: files[path].encode() for path in sorted(files)}, "sha256:0")


def promptarena(*turns: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"kind": "Scenario", "metadata": {"name": "m"}, "spec": {"id": "s", "turns": list(turns)} | spec}


def user(content: str, *assertions: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": content, "assertions": list(assertions)}


def assertion(kind: str, **params: Any) -> dict[str, Any]:
    return {"type": kind, "params": params}


def read(files: Mapping[str, str], only: ScenarioFilter | None = None) -> list[FoundScenario]:
    given_bundle = bundle(files)
    path = "config.arena.yaml"
    arena = read_arena_file(given_bundle, path) if path in files else ArenaFile()
    return select_scenarios(given_bundle, arena, only).scenarios


# --- assertions, judged by the metrics that they become -------------------------------------------------------------


async def passes(metric: Metric, sample: Sample) -> bool:
    result = await GenericMetricsRegistry().prepare(metric, None).call(sample)
    assert result.error is None
    assert result.skipped is None
    assert result.score is not None
    assert metric.threshold is not None
    return result.score >= metric.threshold


async def verdict(kind: str, params: dict[str, Any], answer: str, *calls: ToolCall) -> bool:
    """Whether an answer passes the step that a turn with this assertion becomes."""
    step = read_scenario(promptarena(user("question", assertion(kind, **params)))).scenario.steps[0]
    turn = Turn(type="agent", content=answer, tool_calls=calls or None)
    sample = Sample.of_step(ExecutedStep(**dict(step), status="ok", turns=(turn,), latency_ms=120.0))
    assert step.metrics
    return all([await passes(metric, sample) for metric in step.metrics])


BERLIN = ToolCall(name="weather", args={"city": "Berlin", "unit": "C"})
PARIS = ToolCall(name="weather", args={"city": "Paris"})


@pytest.mark.parametrize(
    ("kind", "params", "good", "bad"),
    [
        ("contains", {"patterns": ["Paris", "france"]}, "PARIS is in France", "Paris"),
        ("content_includes", {"patterns": "Paris"}, "in paris", "in London"),
        ("contains_any", {"patterns": ["a b", "zz"]}, "A b", "ab"),
        ("regex", {"pattern": "^[0-9]+$"}, "42", "42!"),
        ("content_matches", {"pattern": "secret", "expect_match": False}, "nothing", "a secret"),
        ("content_excludes", {"patterns": ["secret"]}, "nothing", "A SECRET"),
        ("max_length", {"max": 3}, "abc", "abcd"),
        ("min_length", {"min": 3}, "abc", "ab"),
        ("json_valid", {}, '{"a": 1}', "```json\n{}\n```"),
        ("is_valid_json", {"allow_wrapped": True}, "```json\n{}\n```", "{"),
        ("json_schema", {"schema": {"type": "object", "required": ["a"]}}, '{"a": 1}', "{}"),
    ],
)
async def test_an_assertion_on_text_judges_as_it_did(kind: str, params: dict[str, Any], good: str, bad: str) -> None:
    assert await verdict(kind, params, good)
    assert not await verdict(kind, params, bad)


@pytest.mark.parametrize(
    ("kind", "params", "good", "bad"),
    [
        ("tools_called", {"tools": ["weather"]}, (BERLIN, PARIS), (ToolCall(name="time"),)),
        ("tools_called", {"tool_names": ["weather"], "min_calls": 2}, (BERLIN, PARIS), (BERLIN,)),
        ("tools_called", {"tools": ["weather"], "max_calls": 1}, (BERLIN,), (BERLIN, PARIS)),
        ("tools_not_called", {"tools": ["delete"]}, (BERLIN,), (ToolCall(name="delete"),)),
        ("tools_not_called", {"tools": ["get*"]}, (ToolCall(name="get_all"),), (ToolCall(name="get*"),)),
        ("tool_args", {"tool_name": "weather", "expected_args": {"city": "Berlin"}}, (PARIS, BERLIN), (PARIS,)),
    ],
)
async def test_an_assertion_on_tools_judges_as_it_did(
    kind: str, params: dict[str, Any], good: tuple[ToolCall, ...], bad: tuple[ToolCall, ...]
) -> None:
    assert await verdict(kind, params, "answer", *good)
    assert not await verdict(kind, params, "answer", *bad)


async def test_a_latency_budget_judges_the_answer_of_its_turn() -> None:
    assert await verdict("latency_budget", {"max_ms": 120}, "answer")
    assert not await verdict("latency_budget", {"max_ms": 119}, "answer")


def test_a_judge_is_asked_for_what_the_assertion_asks() -> None:
    (yes_or_no,) = read_assertion(assertion("llm_judge", criteria="polite", judge="j"), "turn").metrics
    (graded,) = read_assertion(assertion("llm_judge", criteria="polite", min_score=0.7), "turn").metrics
    (whole,) = read_assertion(assertion("llm_judge", criteria="polite", min_score=0.7), "conversation").metrics
    wrapped = {"eval_type": "llm_judge_session", "eval_params": {"criteria": "polite"}, "min_score": 0.8}
    (session,) = read_assertion(assertion("assertion", **wrapped), "turn").metrics
    assert yes_or_no.threshold == 1.0
    assert graded.threshold == 0.7
    assert whole.parameters["include"] == session.parameters["include"] == ["conversation"]
    assert session.threshold == 0.8
    for metric in (yes_or_no, graded, whole, session):
        assert GenericMetricsRegistry().check(metric).needs_judge
    assert GenericMetricsRegistry().check(yes_or_no).value_range == (0.0, 1.0)


def test_what_a_rag_assertion_compares_with_is_in_the_reference() -> None:
    turn = user(
        "question",
        assertion("faithfulness", contexts=["a", "b"], min_score=0.8),
        assertion("contextual_recall", contexts=["a", "b"], reference="an answer"),
    )
    step = read_scenario(promptarena(turn)).scenario.steps[0]
    assert step.reference is not None
    assert (step.reference.retrieved_contexts, step.reference.response) == (("a", "b"), "an answer")
    assert [metric.metric_name for metric in step.metrics] == ["ragas.Faithfulness", "ragas.ContextRecall"]
    assert step.metrics[0].threshold == 0.8


@pytest.mark.parametrize(
    "odd",
    [
        assertion("guardrail_triggered", validator="x"),
        assertion("tool_call_sequence", sequence=["a"]),
        assertion(""),
        "contains",
        assertion("contains"),
        assertion("contains", patterns=[]),
        assertion("contains", patterns=[""]),
        assertion("contains", patterns=["a"], case_sensitive=True),
        assertion("contains", patterns=["a"], min_score=0.5),
        assertion("content_excludes", patterns=["a"], match_mode="word_boundary"),
        assertion("max_length", max="long"),
        assertion("tool_args", tool_name="a"),
        assertion("latency_budget"),
        assertion("llm_judge"),
        assertion("llm_judge", criteria="x", min_score=7),
        assertion("assertion", eval_type="contains", eval_params={"patterns": ["a"]}, max_score=0.5),
        assertion("contains", patterns=["a"]) | {"when": {"tool_called": "x"}},
        {"type": "contains", "params": ["a"]},
    ],
    ids=str,
)
def test_an_assertion_that_cannot_be_judged_is_refused_and_never_dropped(odd: Any) -> None:
    with pytest.raises(NotSupportedError):
        read_assertion(odd, "turn")
    files = {"a.yaml": yaml.safe_dump(promptarena({"role": "user", "content": "q", "assertions": [odd]}))}
    with pytest.raises(InputError, match=r"not supported: a\.yaml: ") as caught:
        read(files)
    assert "would pass unseen" in caught.value.hint


@given(
    st.sampled_from(SUPPORTED), st.dictionaries(st.sampled_from(["patterns", "max", "x"]), st.integers(), max_size=2)
)
def test_an_assertion_is_a_check_or_a_refusal(kind: str, params: dict[str, Any]) -> None:
    try:
        expectation = read_assertion(assertion(kind, **params), "turn")
    except NotSupportedError:
        return
    assert expectation.metrics or expectation.calls


# --- promptarena's scenarios ----------------------------------------------------------------------------------------


def test_user_turns_are_steps_and_assertions_of_the_assistant_belong_to_the_question_before() -> None:
    document = promptarena(
        user("hello {{name}} {{other}}"),
        {"role": "assistant", "assertions": [assertion("contains", patterns=["hi"])]},
        {"role": "user", "parts": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        variables={"name": "Ann"},
        labels={"team": "x"},
        trials=3,
        streaming=True,
    )
    found = read_scenario(document)
    assert [step.input for step in found.scenario.steps] == ["hello Ann {{other}}", "a\nb"]
    assert [len(step.metrics) for step in found.scenario.steps] == [1, 0]
    assert (found.scenario.name, found.scenario.tags, found.trials) == ("s", ("team=x",), 3)
    assert found.warnings == ("spec.streaming",)


def test_what_no_answer_may_contain_is_checked_in_every_answer() -> None:
    document = promptarena(
        user("a"), user("b"), conversation_assertions=[assertion("content_excludes", patterns=["secret"])]
    )
    scenario = read_scenario(document).scenario
    assert [[metric.metric_name for metric in step.metrics] for step in scenario.steps] == [
        ["builtin.not_contains"]
    ] * 2
    assert scenario.metrics == ()


async def test_calls_that_a_conversation_expects_may_be_made_in_any_turn() -> None:
    document = promptarena(
        user("a", assertion("tools_called", tools=["time"])),
        user("b"),
        conversation_assertions=[
            assertion("tool_args", tool_name="weather", expected_args={"city": "Paris"}),
            assertion("tools_called", tools=["time"]),
        ],
    )
    scenario = read_scenario(document).scenario
    assert [len(step.metrics) for step in scenario.steps] == [1, 0]
    time = ToolCall(name="time")

    async def whole(*calls: tuple[ToolCall, ...]) -> bool:
        steps = tuple(
            ExecutedStep(**dict(step), status="ok", turns=(Turn(type="agent", content="x", tool_calls=made),))
            for step, made in zip(scenario.steps, calls, strict=True)
        )
        executed = ExecutedScenario(**(dict(scenario) | {"steps": steps}), id="i")
        return all([await passes(metric, Sample.of_scenario(executed)) for metric in scenario.metrics])

    assert await whole((time, PARIS), ())
    assert await whole((time,), (PARIS,))
    assert not await whole((time,), (BERLIN,))
    assert not await whole((), (PARIS,))


def test_calls_of_several_assertions_are_the_fewest_that_meet_them() -> None:
    bare, city, unit = ToolCall(name="w"), ToolCall(name="w", args={"c": 1}), ToolCall(name="w", args={"u": 2})
    other = ToolCall(name="w", args={"c": 3})
    assert merge_calls([bare, city]) == (city,)
    assert merge_calls([city, unit]) == (ToolCall(name="w", args={"c": 1, "u": 2}),)
    assert merge_calls([city, other]) == (city, other)
    assert merge_calls([bare, bare, city]) == (city, bare)


def test_a_played_part_is_known_by_its_role() -> None:
    document = promptarena(
        user("hello"),
        {
            "role": "shopper",
            "persona": "angry",
            "turns": 2,
            "max_turns": 5,
            "assertions": [assertion("content_excludes", patterns=["stupid"])],
        },
    )
    found = read_scenario(document)
    assert found.played is not None
    assert (found.played.role, found.played.persona, found.played.turns, found.played.max_turns) == (
        "shopper",
        "angry",
        2,
        5,
    )
    assert [metric.metric_name for metric in found.played.metrics] == ["builtin.not_contains"]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (promptarena(), "without turns"),
        (promptarena({"role": "user"}), "without content"),
        (promptarena({"role": "user", "parts": [{"type": "image"}]}), "'image'"),
        (promptarena(user("a") | {"chaos": {}}), "chaos"),
        (promptarena(user("a") | {"perturbations": {}}), "perturbations"),
        (promptarena(user("a"), {"role": "assistant", "content": "I say"}), "answers for the assistant"),
        (promptarena({"role": "p"}, user("a")), "after a part that is played"),
        (promptarena({"role": "p", "assertions": [assertion("tools_called", tools=["t"])]}), "not known yet"),
        (promptarena(user("a"), duplex={}), "duplex"),
        (promptarena(user("a"), trials=0), "trials"),
        ({"kind": "Scenario", "spec": {"turns": [user("a")]}}, "without an id"),
    ],
)
def test_a_scenario_that_would_be_another_one_is_refused(document: dict[str, Any], words: str) -> None:
    with pytest.raises(NotSupportedError, match=words):
        read_scenario(document)


# --- files ----------------------------------------------------------------------------------------------------------


def test_one_file_holds_one_scenario_or_several_in_yaml_or_json() -> None:
    files = {
        "a.yaml": PLAIN,
        "b.json": '[{"name": "one", "steps": [{"input": "x"}]}, {"name": "two", "steps": [{"input": "y"}]}]',
        "c.yaml": "default_threshold: 0.4\nscenarios: [{name: e, steps: [{input: z, metrics: [{metric_name: M}]}]}]\n",
        "d.yml": f"{yaml.safe_dump(promptarena(user('q')))}---\n{PLAIN.replace('plain', 'last')}",
        "provider.yaml": "kind: Provider\nspec: {}\n",
        "notes.md": "# no scenario",
    }
    found = read(files)
    assert [scenario.scenario.name for scenario in found] == ["plain", "one", "two", "e", "s", "last"]
    assert [scenario.path for scenario in found] == ["a.yaml", "b.json", "b.json", "c.yaml", "d.yml", "d.yml"]
    assert found[3].scenario.steps[0].metrics[0].threshold == 0.4


def test_a_file_that_is_no_scenario_is_left_out_and_said_to_be() -> None:
    reading = select_scenarios(bundle({"a.yaml": PLAIN, "b.yaml": "stebs: []\n", "c.yaml": ""}), ArenaFile(), None)
    assert reading.warnings == ["b.yaml: no scenario, left out", "c.yaml: empty, left out"]


@pytest.mark.parametrize(
    ("document", "warned"),
    [
        ({"kind": "Scenrio", "spec": {}}, True),
        ({"apiVersion": "promptkit.altairalabs.ai/v1alpha1", "kind": "Scenarios", "spec": {}}, True),
        ({"apiVersion": "promptkit.altairalabs.ai/v1alpha1", "kind": "Persona", "spec": {}}, False),
        ({"kind": "Provider", "spec": {}}, False),
        ({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {}}, False),
    ],
)
def test_a_kind_that_nobody_knows_may_be_a_scenario_that_is_misspelt(document: dict[str, Any], warned: bool) -> None:
    reading = select_scenarios(bundle({"a.yaml": PLAIN, "b.yaml": yaml.safe_dump(document)}), ArenaFile(), None)
    assert bool(reading.warnings) is warned


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a.yaml": "name: x\nsteps: [{input: a, metricks: []}]\n"}, "unknown key 'metricks'"),
        ({"a.yaml": "name: x\nsteps: []\n"}, "without steps"),
        ({"a.yaml": "name: [\n"}, "not valid YAML"),
        ({"a.yaml": PLAIN, "config.arena.yaml": "scenarios: [b.yaml]\n"}, "no file 'b.yaml'"),
        ({"a.yaml": PLAIN, "config.arena.yaml": "scenarios: [../b.yaml]\n"}, "leaves the bundle"),
        ({"a.yaml": PLAIN, "config.arena.yaml": "scenarios: ['x/*.yaml']\n"}, "matches nothing"),
        ({"a.yaml": "b: 1\n", "config.arena.yaml": "scenarios: [a.yaml]\n"}, "no scenario in this file"),
        ({"a.yaml": PLAIN, "config.arena.yaml": "mcp_servers: [{name: x, command: rm}]\n"}, "not started"),
        ({"a.yaml": PLAIN, "config.arena.yaml": "evals: [{file: a.yaml}]\n"}, "checks would be missing"),
        ({"a.yaml": PLAIN, "config.arena.yaml": "kind: Scenario\n"}, "kind is 'Scenario'"),
    ],
)
def test_a_bundle_with_a_fault_is_bad_input(files: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        read(files)


def test_a_bundle_without_a_scenario_is_nothing_to_do() -> None:
    with pytest.raises(NothingToDo):
        read({"a.yaml": "kind: Provider\n"})


def test_all_refusals_are_told_at_once() -> None:
    files = {f"{name}.yaml": yaml.safe_dump(promptarena(user("q", assertion(name)))) for name in ("one", "two")}
    with pytest.raises(InputError, match=r"one\.yaml: assertion type 'one'; two\.yaml: assertion type 'two'"):
        read(files)


# --- filters --------------------------------------------------------------------------------------------------------

TREE = {
    "scenarios/critical-a.yaml": PLAIN,
    "scenarios/critical-b-slow.yaml": PLAIN,
    "scenarios/x.yaml": PLAIN,
    "top.yaml": PLAIN,
}


@pytest.mark.parametrize(
    ("include", "exclude", "paths"),
    [
        (["scenarios/critical-*.yaml"], ["*-slow.yaml"], ["scenarios/critical-a.yaml"]),
        (["critical-a.yaml", "top.yaml"], [], ["scenarios/critical-a.yaml", "top.yaml"]),
        ([], ["scenarios/*"], ["top.yaml"]),
        (["**/*.yaml"], ["x.yaml"], ["scenarios/critical-a.yaml", "scenarios/critical-b-slow.yaml", "top.yaml"]),
    ],
)
def test_a_filter_selects_files(include: list[str], exclude: list[str], paths: list[str]) -> None:
    only = ScenarioFilter(include=tuple(include), exclude=tuple(exclude))
    assert [found.path for found in read(TREE, only)] == paths


@pytest.mark.parametrize(
    ("include", "exclude", "words"),
    [(["top.yaml", "critcal-*"], [], "'critcal-\\*' matches nothing"), ([], ["*.yaml"], "nothing is left")],
)
def test_a_filter_that_finds_nothing_is_an_error_that_names_the_files(
    include: list[str], exclude: list[str], words: str
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        read(TREE, ScenarioFilter(include=tuple(include), exclude=tuple(exclude)))
    assert "scenarios/critical-a.yaml" in caught.value.hint


def test_a_pattern_that_finds_files_without_a_scenario_finds_nothing() -> None:
    files = TREE | {"critical.yaml": "name: x\nstebs: [{input: a}]\n", "notes.yaml": "a: 1\n"}
    for pattern in ("critical.yaml", "notes*"):
        with pytest.raises(InputError, match=rf"scenarios\.include: '{re.escape(pattern)}' finds no scenario"):
            read(files, ScenarioFilter(include=("top.yaml", pattern)))
    only = ScenarioFilter(include=("top.yaml", "scenarios/*", "notes.yaml"), exclude=("notes.yaml",))
    assert len(read(files, only)) == 4


def test_the_arena_file_is_no_scenario_of_its_own_bundle() -> None:
    files = {"a.yaml": PLAIN, "config.arena.yaml": "scenarios: [a.yaml]\n"}
    assert [found.path for found in read(files, ScenarioFilter(include=("*.yaml",)))] == ["a.yaml"]


def test_a_pattern_of_an_arena_file_begins_at_its_folder() -> None:
    files = TREE | {"config.arena.yaml": "scenarios: ['*.yaml']\n", "scenarios/a[1].yaml": PLAIN}
    assert [found.path for found in read(files)] == ["top.yaml"]
    files["config.arena.yaml"] = "scenarios: ['scenarios/a[1].yaml']\n"
    assert [found.path for found in read(files)] == ["scenarios/a[1].yaml"]


def test_a_judge_or_player_that_no_provider_file_describes_is_refused() -> None:
    for use in ("judges: [{name: q, provider: jugde}]", "self_play: {roles: [{id: u, provider: jugde}]}"):
        files = ARENA_FILES | {"config.arena.yaml": f"providers: [providers/judge.yaml]\n{use}\n"}
        with pytest.raises(InputError, match="there is no provider 'jugde'") as caught:
            read_arena_file(bundle(files), "config.arena.yaml")
        assert "judge" in caught.value.hint
        assert read_arena_file(bundle(files), "config.arena.yaml", own_providers=False).uses_of("jugde")


def test_nobody_plays_where_self_play_is_switched_off() -> None:
    arena = ARENA.replace("enabled: true", "enabled: false")
    assert read_arena_file(bundle(ARENA_FILES), "config.arena.yaml").players == ("user",)
    assert read_arena_file(bundle(ARENA_FILES | {"config.arena.yaml": arena}), "config.arena.yaml").players == ()


def test_include_comes_instead_of_the_arena_files_list_and_exclude_takes_away_from_it() -> None:
    files = TREE | {"config.arena.yaml": "scenarios: [top.yaml, scenarios/x.yaml]\n"}
    assert [found.path for found in read(files)] == ["scenarios/x.yaml", "top.yaml"]
    assert [found.path for found in read(files, ScenarioFilter(include=("critical-a*",)))] == [
        "scenarios/critical-a.yaml"
    ]
    assert [found.path for found in read(files, ScenarioFilter(exclude=("x.yaml",)))] == ["top.yaml"]


@pytest.mark.parametrize(
    ("path", "pattern", "expected"),
    [
        ("a/b.yaml", "*.yaml", True),
        ("a/b.yaml", "a/*.yaml", True),
        ("a/c/b.yaml", "a/*.yaml", False),
        ("a/c/b.yaml", "a/**/*.yaml", True),
        ("a/b.yaml", "a/**/*.yaml", True),
        ("a/b.yaml", "./a/b.yaml", True),
        ("a/b.yaml", "**", True),
        ("A.yaml", "a.yaml", False),
        ("a/" * 20 + "b", "**/" * 20 + "c", False),
    ],
)
def test_a_star_stays_in_its_folder(path: str, pattern: str, expected: bool) -> None:
    assert matches(path, pattern) is expected


# --- the arena file -------------------------------------------------------------------------------------------------

ARENA = """
apiVersion: promptkit.altairalabs.ai/v1alpha1
kind: Arena
metadata: {name: a}
spec:
  prompt_configs: [{id: support, file: prompts/support.yaml, vars: {tone: kind}}]
  providers:
    - {file: providers/gpt.yaml}
    - {file: providers/judge.yaml, group: graders}
    - {file: providers/user.yaml, group: people}
  scenarios: [{file: a.yaml}]
  judges: [{name: quality, provider: judge}]
  self_play: {enabled: true, personas: [{file: personas/angry.yaml}], roles: [{id: shopper, provider: user}]}
  defaults: {temperature: 0.2, max_tokens: 100, concurrency: 6}
  globals: {conversation_assertions: [{type: content_excludes, params: {patterns: [x]}}]}
  a2a_agents: [{name: helper}]
"""
ARENA_FILES = {
    "config.arena.yaml": ARENA,
    "a.yaml": PLAIN,
    "prompts/support.yaml": "kind: PromptConfig\nspec: {task_type: support, system_template: 'Be {{tone}}.'}\n",
    "providers/gpt.yaml": "kind: Provider\nspec: {id: gpt, type: openai, model: m, credential: {credential_env: K}}\n",
    "providers/judge.yaml": "kind: Provider\nspec: {id: judge, type: openai, model: m}\n",
    "providers/user.yaml": "kind: Provider\nspec: {id: user, type: openai, pricing: {input_cost_per_1k: 0.1}}\n",
    "personas/angry.yaml": "kind: Persona\nspec: {id: angry, system_prompt: You are angry., goals: [a refund]}\n",
}


def test_an_arena_file_says_who_does_what() -> None:
    arena = read_arena_file(bundle(ARENA_FILES), "config.arena.yaml")
    assert arena.scenarios == ("a.yaml",)
    assert [arena.role_of(group) for group in ("default", "graders", "people", "judge", "other")] == [
        "default",
        "judge",
        "selfplay",
        "judge",
        "default",
    ]
    assert (arena.chat.temperature, arena.chat.max_tokens) == (0.2, 100)
    assert arena.personas["angry"] == "You are angry.\n\nYour goals:\n- a refund"
    assert arena.prompts[0].variables == {"tone": "kind"}
    assert any("a2a_agents" in warning for warning in arena.warnings)
    assert any("defaults.concurrency" in warning for warning in arena.warnings)


def test_a_bundle_does_not_choose_which_secret_is_sent_where() -> None:
    arena = read_arena_file(bundle(ARENA_FILES), "config.arena.yaml")
    gpt = arena.providers[0].provider
    assert (gpt.metadata.name, gpt.spec.credential, dict(gpt.spec.headers)) == ("gpt", None, {})
    assert any("not used: credentials" in warning for warning in arena.warnings)
    pricing = arena.providers[2].provider.spec.pricing
    assert pricing is not None
    assert pricing.input_cost_per1k == 0.1


def test_the_plain_form_is_the_same_without_its_frame() -> None:
    framed = yaml.safe_load(ARENA)
    plain = bundle(ARENA_FILES | {"config.arena.yaml": yaml.safe_dump(framed["spec"])})
    assert read_arena_file(plain, "config.arena.yaml") == read_arena_file(bundle(ARENA_FILES), "config.arena.yaml")


def test_a_mock_is_a_tool_and_a_tool_that_calls_an_address_is_left_to_a_registry() -> None:
    mock = "kind: Tool\nspec: {name: get_weather, mode: mock, mock_result: {degrees: 7}, description: d}\n"
    live = "kind: Tool\nspec: {name: pay, mode: live, http: {url: 'http://169.254.169.254/'}}\n"
    files = {"config.arena.yaml": "tools: [{file: mock.yaml}, live.yaml]\n", "mock.yaml": mock, "live.yaml": live}
    arena = read_arena_file(bundle(files), "config.arena.yaml")
    assert [(tool.name, tool.result) for tool in arena.tools] == [("get_weather", {"degrees": 7})]
    assert arena.warnings == ("live.yaml: not supported: a tool without mock_result; list it in a ToolRegistry",)
    with pytest.raises(InputError, match="'get_weather' is there twice"):
        read_arena_file(bundle(files | {"live.yaml": mock}), "config.arena.yaml")


def test_tool_registries_replace_the_tools_of_an_arena_file() -> None:
    files = bundle({"config.arena.yaml": "tools: [{file: t.yaml}]\nmcp_servers: [{command: x}]\n"})
    assert read_arena_file(files, "config.arena.yaml", own_tools=False).warnings == ()
