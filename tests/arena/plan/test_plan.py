"""The plan: who meets what how often, with keys that last, and a digest that notices everything."""

from __future__ import annotations

import random
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from testbench.arena.bundle.bundle import Bundle, BundleFiles
from testbench.arena.bundle.reader import load_bundle
from testbench.arena.manifest.documents import Documents, parse_documents
from testbench.arena.manifest.fields import API_VERSION
from testbench.arena.plan import build as planning
from testbench.arena.plan.build import make_plan, prepare_plan
from testbench.arena.plan.groups import Cast
from testbench.arena.plan.model import Plan, SystemUnderTest
from testbench.arena.plan.text import count_calls, format_plan
from testbench.errors import InputError, NothingToDo
from testbench.schema.plain_data import PlainDocument
from testbench.schema.shards import all_shards

PROVIDERS = ("gpt", "claude", "gemini", "judge", "user")
AGENTS = ("bot",)
PLAYED = {
    "kind": "Scenario",
    "spec": {
        "id": "played",
        "turns": [{"role": "user", "content": "hi"}, {"role": "shopper", "turns": 2, "max_turns": 4}],
    },
}


def resource(kind: str, name: str, **parts: Any) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, **parts}


def documents(spec: dict[str, Any], *others: dict[str, Any], shuffled: int | None = None) -> Documents:
    everything = [
        resource("ArenaJob", "job", spec={"sourceRef": {"name": "s"}} | spec),
        *(resource("Provider", name, spec={"type": "openai", "model": name}) for name in PROVIDERS),
        *(resource("AgentRuntime", name, status={"a2a": {"endpoint": f"http://{name}/"}}) for name in AGENTS),
        *others,
    ]
    if shuffled is not None:
        random.Random(shuffled).shuffle(everything)
    return parse_documents(PlainDocument(f"document {number}", one) for number, one in enumerate(everything))


def bundle(files: dict[str, Any] | None = None) -> Bundle:
    taken = BundleFiles("b")
    for path, content in (scenarios(2) if files is None else files).items():
        taken.add(path, (content if isinstance(content, str) else yaml.safe_dump(content)).encode())
    return taken.bundle()


def scenarios(count: int) -> dict[str, Any]:
    return {
        f"s{number}.yaml": {"name": f"s{number}", "steps": [{"input": f"question {number}"}]} for number in range(count)
    }


def plan_of(spec: dict[str, Any], files: dict[str, Any] | None = None) -> Plan:
    found = documents(spec)
    return make_plan(found.job(), found, bundle(files))


def entries(*names: str) -> list[dict[str, Any]]:
    return [{"agentRef" if name in AGENTS else "providerRef": {"name": name}} for name in names]


def met(plan: Plan) -> Counter[tuple[str, str]]:
    return Counter((item.scenario_name, item.system.label) for item in plan.items)


# --- groups ---------------------------------------------------------------------------------------------------------


def test_every_provider_and_agent_of_a_group_meets_every_scenario_and_the_judge_none() -> None:
    plan = plan_of({"providers": {"default": entries("gpt", "bot"), "judge": entries("judge")}, "trials": 3})
    assert met(plan) == {(scenario, who): 3 for scenario in ("s0", "s1") for who in ("gpt", "bot")}
    assert plan.judge == "judge"
    assert {system.label: system.kind for system in plan.systems} == {"gpt": "provider", "bot": "agent"}


def test_other_groups_are_under_test_too_and_keep_their_name() -> None:
    plan = plan_of({"providers": {"default": entries("gpt"), "cheap": entries("gemini", "gpt")}})
    assert {system.label for system in plan.systems} == {"gpt", "cheap:gemini", "cheap:gpt"}


def test_selfplay_alone_is_each_ordered_pair() -> None:
    plan = plan_of({"providers": {"selfplay": entries("gpt", "bot", "claude"), "judge": entries("judge")}})
    pairs = {(system.name, system.user) for system in plan.systems}
    assert pairs == {(a, b) for a in ("gpt", "bot", "claude") for b in ("gpt", "bot", "claude") if a != b}
    assert len(plan.items) == 2 * 6


def test_beside_others_selfplay_only_plays_the_users_of_scenarios_that_have_a_played_part() -> None:
    spec = {"providers": {"default": entries("gpt", "claude"), "selfplay": entries("user", "gemini")}}
    plan = plan_of(spec, scenarios(1) | {"played.yaml": PLAYED})
    scripted = {who for scenario, who in met(plan) if scenario == "s0"}
    played = {who for scenario, who in met(plan) if scenario == "played"}
    assert scripted == {"gpt", "claude"}
    assert played == {f"{who} (user: {user})" for who in ("gpt", "claude") for user in ("user", "gemini")}
    calls = count_calls(plan)
    assert (calls.messages, calls.most, calls.player_messages) == (2 + 4 * 3, 2 + 4 * 5, 4 * 2)


def test_a_played_part_without_a_player_is_refused() -> None:
    with pytest.raises(InputError, match="'played': nobody plays the user"):
        plan_of({"providers": {"default": entries("gpt")}}, {"played.yaml": PLAYED})


def test_a_scenario_may_be_for_one_group_only() -> None:
    scenario = {
        "kind": "Scenario",
        "spec": {"id": "s", "provider_group": "cheap", "turns": [{"role": "user", "content": "q"}]},
    }
    spec = {"providers": {"default": entries("gpt"), "cheap": entries("gemini")}}
    assert met(plan_of(spec, {"a.yaml": scenario})) == {("s", "cheap:gemini"): 1}
    with pytest.raises(InputError, match="nobody is in its group 'cheap'"):
        plan_of({"providers": {"default": entries("gpt")}}, {"a.yaml": scenario})


@pytest.mark.parametrize(
    ("providers", "words", "hint"),
    [
        (None, "nobody is under test", "spec.providers.default"),
        ({}, "nobody is under test", "spec.providers.default"),
        ({"judge": entries("judge")}, "nobody is under test", ""),
        ({"selfplay": entries("gpt")}, "nobody is under test", "needs two"),
        ({"default": entries("gpt", "gpt")}, "gpt is there twice", "trials"),
        ({"default": entries("unknown")}, "no Provider 'unknown'", "default/gpt"),
        ({"default": [{"agentRef": {"name": "ghost"}}]}, "no AgentRuntime 'ghost'", "default/bot"),
        ({"default": [{"providerRef": {"name": "gpt", "namespace": "other"}}]}, "'other/gpt'", ""),
        ({"default": entries("gpt"), "judge": entries("bot")}, "agent bot cannot judge", "Provider"),
    ],
)
def test_an_entry_that_leads_nowhere_is_bad_input_with_a_hint(
    providers: dict[str, Any] | None, words: str, hint: str
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        plan_of({} if providers is None else {"providers": providers})
    assert hint in caught.value.hint


def test_one_name_in_two_namespaces_is_two_under_test() -> None:
    there = resource("Provider", "gpt", spec={"type": "openai", "model": "another"})
    there["metadata"]["namespace"] = "shared"
    groups = {"default": [*entries("gpt"), {"providerRef": {"name": "gpt", "namespace": "shared"}}]}
    found = documents({"providers": groups}, there)
    tested = make_plan(found.job(), found, bundle(scenarios(1))).systems
    assert [one.label for one in tested] == ["gpt", "shared/gpt"]


def test_an_agent_that_is_not_deployed_is_bad_input() -> None:
    found = documents({"providers": {"default": [{"agentRef": {"name": "new"}}]}}, resource("AgentRuntime", "new"))
    with pytest.raises(InputError, match="AgentRuntime new: no address"):
        make_plan(found.job(), found, bundle())


def test_two_of_one_name_are_refused_because_results_would_mix() -> None:
    spec = {"providers": {"default": [{"agentRef": {"name": "gpt"}}, {"providerRef": {"name": "gpt"}}]}}
    found = documents(spec, resource("AgentRuntime", "gpt", status={"a2a": {"endpoint": "http://x/"}}))
    with pytest.raises(InputError, match="two are called 'gpt'"):
        make_plan(found.job(), found, bundle())
    players = {"default": entries("claude"), "selfplay": spec["providers"]["default"]}
    found = documents(
        {"providers": players}, resource("AgentRuntime", "gpt", status={"a2a": {"endpoint": "http://x/"}})
    )
    with pytest.raises(InputError, match=r"two are called 'claude \(user: gpt\)'"):
        make_plan(found.job(), found, bundle())


def test_without_providers_in_the_job_those_of_the_bundle_are_tested() -> None:
    arena = {
        "providers": ["p/one.yaml", {"file": "p/two.yaml", "group": "graders"}, "p/gpt.yaml"],
        "judges": [{"name": "q", "provider": "two"}],
        "scenarios": ["s*.yaml"],
    }
    files = scenarios(1) | {"config.arena.yaml": arena}
    files |= {
        f"p/{name}.yaml": {"kind": "Provider", "spec": {"id": name, "type": "mock"}} for name in ("one", "two", "gpt")
    }
    found = documents({})
    prepared = prepare_plan(found.job(), found, bundle(files))
    assert {system.name for system in prepared.plan.systems} == {"one", "gpt"}
    assert prepared.plan.judge == "two"
    assert prepared.documents.providers["default/one"].spec.type == "mock"
    assert prepared.documents.providers["default/gpt"].spec.type == "openai", "the manifest's document wins"


def by_id(**names: str) -> dict[str, dict[str, Any]]:
    return {key: entries(name)[0] for key, name in names.items()}


USES = {
    "judges": [{"name": "quality", "provider": "grader"}, {"name": "tone", "provider": "critic"}],
    "self_play": {"roles": [{"id": "shopper", "provider": "customer"}]},
    "scenarios": ["s0.yaml", "played.yaml"],
}
WITH_USES = scenarios(1) | {"played.yaml": PLAYED, "config.arena.yaml": USES}


def test_in_a_map_the_ids_of_the_arena_file_say_who_judges_and_who_plays() -> None:
    group = by_id(model="gpt", agent="bot", grader="judge", critic="judge", customer="user")
    plan = plan_of({"providers": {"default": group}}, WITH_USES)
    assert (plan.judge, plan.warnings) == ("judge", ())
    assert {who for scenario, who in met(plan) if scenario == "s0"} == {"gpt", "bot"}
    assert {who for scenario, who in met(plan) if scenario == "played"} == {"gpt (user: user)", "bot (user: user)"}


def test_in_a_list_entries_have_no_ids_and_the_same_map_without_uses_is_the_same_plan() -> None:
    group = by_id(model="gpt", agent="bot")
    as_map, as_list = ({"providers": {"default": each}} for each in (group, list(group.values())))
    assert plan_of(as_map) == plan_of(as_list)


def test_in_the_groups_judge_and_selfplay_the_name_of_the_group_decides() -> None:
    groups = {"default": by_id(model="gpt"), "judge": by_id(customer="judge"), "selfplay": by_id(grader="user")}
    plan = plan_of({"providers": groups}, WITH_USES)
    assert (plan.judge, {system.user for system in plan.systems}) == ("judge", {None, "user"})


def test_an_id_that_plays_and_judges_does_both_and_is_not_tested() -> None:
    arena = USES | {"judges": [{"name": "quality", "provider": "customer"}]}
    group = by_id(model="gpt", customer="user")
    plan = plan_of({"providers": {"default": group}}, WITH_USES | {"config.arena.yaml": arena})
    assert plan.judge == "user"
    assert {(system.name, system.user) for system in plan.systems} == {("gpt", None), ("gpt", "user")}


def test_an_agent_cannot_judge_by_its_id_either() -> None:
    with pytest.raises(InputError, match="agent bot cannot judge"):
        plan_of({"providers": {"default": by_id(model="gpt", grader="bot", customer="user")}}, WITH_USES)


def test_two_ids_of_one_provider_under_test_would_mix_results() -> None:
    with pytest.raises(InputError, match="gpt is there twice"):
        plan_of({"providers": {"default": by_id(one="gpt", two="gpt")}})


def test_a_judge_of_the_arena_file_that_nobody_is_in_the_job_is_told_of() -> None:
    plan = plan_of({"providers": {"default": entries("gpt"), "selfplay": entries("user")}}, WITH_USES)
    assert plan.judge is None
    assert any("no entry judges" in warning and "grader" in warning for warning in plan.warnings)


def test_provider_files_of_the_bundle_do_not_matter_where_the_job_names_providers() -> None:
    arena = {"providers": ["p.yaml", "gone.yaml", "odd.yaml"], "judges": [{"name": "q", "provider": "nobody"}]}
    files = scenarios(1) | {"config.arena.yaml": arena | {"scenarios": ["s0.yaml"]}}
    files |= {"p.yaml": {"kind": "Provider", "spec": {"id": "Not_A_Name"}}, "odd.yaml": "[1]"}
    assert len(plan_of({"providers": {"default": entries("gpt"), "judge": entries("judge")}}, files).items) == 1
    with pytest.raises(InputError, match="cannot be the name of a provider"):
        plan_of({}, files)


def test_a_player_that_could_be_two_is_refused() -> None:
    spec = {"providers": {"default": entries("claude"), "selfplay": [{"agentRef": {"name": "gpt"}}]}}
    found = documents(spec, resource("AgentRuntime", "gpt", status={"a2a": {"endpoint": "http://x/"}}))
    with pytest.raises(InputError, match="a Provider is called 'gpt' too"):
        make_plan(found.job(), found, bundle())


# --- keys and digest ------------------------------------------------------------------------------------------------

GROUPS = st.dictionaries(
    st.sampled_from(["default", "cheap", "judge", "selfplay"]),
    st.lists(st.sampled_from(["gpt", "claude", "gemini", "user"]), min_size=1, max_size=4, unique=True),
    min_size=1,
    max_size=4,
).filter(lambda groups: set(groups) & {"default", "cheap"} or len(groups.get("selfplay", ())) > 1)


@given(GROUPS, st.integers(1, 5), st.integers(1, 3), st.integers(1, 7), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_any_sharding_has_every_item_once_and_order_changes_nothing(
    groups: dict[str, list[str]], count: int, trials: int, shards: int, seed: int
) -> None:
    spec = {"trials": trials, "providers": {group: entries(*names) for group, names in groups.items()}}
    plan = plan_of(spec, scenarios(count))
    assert len({item.key for item in plan.items}) == len(plan.items) > 0
    assert [item.position for item in plan.items] == list(range(len(plan.items)))
    dealt = [item.key for shard in all_shards(shards) for item in shard.of(plan.items)]
    assert Counter(dealt) == Counter(item.key for item in plan.items)
    judge = {f"judge:{name}" for name in groups.get("judge", ())}
    assert not judge & {item.system.label for item in plan.items}

    files = list(scenarios(count).items())
    random.Random(seed).shuffle(files)
    other = documents(spec | {"providers": dict(reversed(spec["providers"].items()))}, shuffled=seed)  # type: ignore[attr-defined]
    assert make_plan(other.job(), other, bundle(dict(files))) == plan


def test_a_slow_system_is_spread_over_all_shards() -> None:
    plan = plan_of({"providers": {"default": entries("gpt", "claude", "gemini")}}, scenarios(6))
    for count in (2, 3, 6):
        for shard in all_shards(count):
            dealt = Counter(item.system.name for item in shard.of(plan.items))
            assert max(dealt.values()) - min(dealt.values()) <= 1, (shard, dealt)
            assert len(dealt) == 3


SPEC = {"providers": {"default": entries("gpt")}, "trials": 2}


def test_a_change_elsewhere_keeps_the_keys_and_changes_the_digest() -> None:
    before, after = plan_of(SPEC), plan_of(SPEC, scenarios(2) | {"README.md": "changed"})
    assert [item.key for item in before.items] == [item.key for item in after.items]
    assert before.digest != after.digest


def test_another_question_is_another_item() -> None:
    changed = scenarios(2)
    changed["s1.yaml"]["steps"][0]["input"] = "another question"
    before, after = plan_of(SPEC), plan_of(SPEC, changed)
    kept = {item.key for item in before.items} & {item.key for item in after.items}
    assert {item.scenario_name for item in before.items if item.key in kept} == {"s0"}


def test_the_digest_covers_the_model_behind_a_name_and_no_secret() -> None:
    def digest(**provider: Any) -> str:
        spec = {"type": "openai", "model": "m", "baseURL": "http://a:pw@gateway/v1?key=1"} | provider
        found = documents({"providers": {"default": entries("own")}}, resource("Provider", "own", spec=spec))
        return make_plan(found.job(), found, bundle()).digest

    assert digest(model="other") != digest()
    assert digest(baseURL="http://elsewhere/v1") != digest()
    assert digest(defaults={"temperature": 1}) != digest()
    assert digest(headers={"Authorization": "x"}) == digest(baseURL="http://b:pw2@gateway/v1?key=2") == digest()


@pytest.mark.parametrize(
    "part",
    [
        {"loadTest": {"targetRPS": 5}},
        {"dataGen": {"count": 7}},
        {"toolRegistries": [{"name": "shop"}]},
        {"trials": 3},
        {"type": "loadtest"},
    ],
    ids=lambda part: next(iter(part)),
)
def test_the_digest_covers_what_the_job_asks_for(part: dict[str, Any]) -> None:
    assert plan_of(SPEC | part).digest != plan_of(SPEC).digest


def test_the_digest_does_not_cover_where_and_by_how_many_the_work_is_done() -> None:
    place = {"workers": {"replicas": 5}, "output": {"type": "pvc", "pvc": {"claimName": "c"}}, "verbose": True}
    assert plan_of(SPEC | place).digest == plan_of(SPEC).digest


def test_the_plan_is_the_same_from_another_folder_or_an_archive(tmp_path: Path) -> None:
    found = documents(SPEC)
    files = {path: yaml.safe_dump(content) for path, content in (scenarios(3) | {"é/b.yaml": PLAYED}).items()}
    files["config.arena.yaml"] = "scenarios: ['s*.yaml']"
    sources = [tmp_path / "one", tmp_path / "deep" / "er" / "two", tmp_path / "b.tar.gz"]
    for folder, names in ((sources[0], sorted(files)), (sources[1], sorted(files, reverse=True))):
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(files[name], encoding="utf-8")
    with tarfile.open(sources[2], "w:gz") as archive:
        archive.add(sources[1], "repo-main")
    digests = {make_plan(found.job(), found, load_bundle(source)).digest for source in sources}
    assert len(digests) == 1


def test_equal_scenarios_in_two_files_are_two_items() -> None:
    same = {"name": "same", "steps": [{"input": "q"}]}
    plan = plan_of(SPEC, {"a.yaml": same, "b.yaml": same})
    assert len({item.key for item in plan.items}) == 4


# --- limits and words -----------------------------------------------------------------------------------------------


def test_too_many_items_are_refused_and_never_cut() -> None:
    with pytest.raises(InputError, match="200,000 items") as caught:
        plan_of({"providers": {"default": entries("gpt")}, "trials": 100_000})
    assert "At most 100,000" in caught.value.hint


def test_who_meets_a_scenario_is_found_out_once_and_not_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Counter[bool]()
    systems = Cast.systems

    def counted(cast: Cast, *, played: bool) -> tuple[SystemUnderTest, ...]:
        calls[played] += 1
        return systems(cast, played=played)

    monkeypatch.setattr(Cast, "systems", counted)
    plan_of(SPEC, scenarios(50))
    assert max(calls.values()) <= 2


def test_no_scenario_is_nothing_to_do_but_for_data_generation() -> None:
    files = {"notes.txt": "x"}
    with pytest.raises(NothingToDo):
        plan_of({"providers": {"default": entries("gpt")}}, files)
    generation = {"type": "datagen", "dataGen": {}, "providers": {"default": entries("gpt")}}
    with pytest.raises(InputError, match="nothing to generate data from"):
        plan_of(generation, files)
    plan = plan_of(generation, {"documents/notes.txt": "x"})
    assert ([system.name for system in plan.systems], plan.items) == (["gpt"], ())


def test_an_arena_file_that_is_asked_for_has_to_be_there() -> None:
    with pytest.raises(InputError, match=r"no arena file 'other\.arena\.yaml'"):
        plan_of(SPEC | {"arenaFile": "other.arena.yaml"})


def test_prompts_personas_and_settings_are_in_the_plan() -> None:
    arena = {
        "prompt_configs": [{"id": "x", "file": "prompt.yaml"}],
        "self_play": {"personas": ["persona.yaml"]},
        "defaults": {"temperature": 0.5},
        "scenarios": ["played.yaml"],
    }
    turn = {"role": "shopper", "persona": "angry", "turns": 1}
    spec = {"id": "played", "task_type": "support", "variables": {"shop": "Acme"}, "turns": [turn]}
    files = {
        "config.arena.yaml": arena,
        "prompt.yaml": {
            "kind": "PromptConfig",
            "spec": {"task_type": "support", "system_template": "{{shop}} {{tone}}"},
        },
        "persona.yaml": {"id": "angry", "system_prompt": "You buy at {{shop}}."},
        "played.yaml": {"kind": "Scenario", "spec": spec},
    }
    plan = plan_of({"providers": {"default": entries("gpt"), "selfplay": entries("user")}}, files)
    (scenario,) = plan.scenarios
    assert scenario.system_prompt == "Acme {{tone}}"
    assert scenario.self_play is not None
    assert scenario.self_play.instructions == "You buy at Acme."
    assert plan.chat.temperature == 0.5
    assert any("'tone' has no value" in warning for warning in plan.warnings)
    turn["persona"] = "calm"
    with pytest.raises(InputError, match="no persona 'calm'"):
        plan_of({"providers": {"default": entries("gpt"), "selfplay": entries("user")}}, files)


@pytest.mark.parametrize("given", [{"cron": "0 2 31 2 *"}, {"cron": "0 2 * * *", "timezone": "Mars/Base"}])
def test_a_schedule_that_cannot_be_kept_is_bad_input_before_it_is_applied(given: dict[str, str]) -> None:
    with pytest.raises(InputError, match=r"schedule\."):
        plan_of(SPEC | {"schedule": given})


def test_settings_without_effect_are_said_to_have_none() -> None:
    load = {"concurrency": 3, "vusPerWorker": 2, "ramp": {"up": "5s"}}
    useless = {"dataGen": {}, "sessionRecording": True, "verbose": True, "schedule": {"cron": "0 2 * * *"}}
    plan = plan_of(SPEC | {"loadTest": load} | useless)
    words = (
        "loadTest.concurrency",
        "vusPerWorker",
        "loadTest.ramp",
        "spec.dataGen",
        "sessionRecording",
        "verbose",
        "schedule",
    )
    for word in words:
        assert any(word in warning for warning in plan.warnings), word


def test_different_judges_in_files_are_refused_where_nobody_else_judges() -> None:
    files = {
        f"{name}.yaml": {"llm_as_a_judge_model": name, "scenarios": [{"name": name, "steps": [{"input": "q"}]}]}
        for name in ("a", "b")
    }
    with pytest.raises(InputError, match="different judges: a, b"):
        plan_of(SPEC, files)
    assert plan_of(SPEC, {"a.yaml": files["a.yaml"]}).judge_model == "a"
    judged = plan_of({"providers": {"default": entries("gpt"), "judge": entries("judge")}}, files)
    assert (judged.judge, judged.judge_model) == ("judge", None)


def test_more_judges_than_one_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of({"providers": {"default": entries("gpt"), "judge": entries("judge", "claude")}})
    assert plan.warnings == ("not supported: further judges: claude",)
    monkeypatch.setattr(planning, "MAX_ITEMS", 1)
    with pytest.raises(InputError, match="2 items"):
        plan_of({"providers": {"default": entries("gpt")}})


def test_the_text_of_a_plan_shows_the_matrix_and_the_calls() -> None:
    text = format_plan(
        plan_of({"providers": {"default": entries("gpt", "bot"), "judge": entries("judge")}, "trials": 2})
    )
    assert "judge judge" in text
    assert "8 items, 8 messages, 0 evaluations" in text
    rows = [line.split() for line in text.splitlines() if line.startswith("s")]
    assert ["s0.yaml:", "s0", "2", "2"] in rows


def test_a_name_in_a_bundle_cannot_write_on_the_terminal() -> None:
    judged = {"config.arena.yaml": {"judge_model": "x\x1b[2Jy"}}
    assert "\x1b" not in format_plan(plan_of(SPEC, scenarios(1) | judged))
    text = format_plan(plan_of(SPEC, {"a.yaml": {"name": "x\x1b[2Jy", "steps": [{"input": "q"}]}}))
    assert "\x1b" not in text
