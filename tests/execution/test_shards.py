"""A run in parts: who takes what, and that the parts put together are the run, or nothing at all."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbench.cli.phase import main
from testbench.errors import AgentError, InputError
from testbench.evaluate import command as evaluate
from testbench.execution.executor import RunDependencies, list_trials
from testbench.execution.merging import ShardFile, merge
from testbench.execution.run import RunSettings, execute
from testbench.gate import command as gate
from testbench.merge import command as merging
from testbench.net.clock import FakeClock
from testbench.schema.agent import FakeAgentClient
from testbench.schema.ids import assign_ids
from testbench.schema.models import ExecutedExperiment, Experiment, Scenario, Step
from testbench.schema.progress import hide_progress
from testbench.schema.shards import Shard, all_shards
from tests.support.run_phase import OUTPUT, Desk

if TYPE_CHECKING:
    from tests.support.servers.scripted_agent import ScriptedAgent

EVALUATED = "data/experiments/evaluated_experiment.json"
OF_ONE_PROCESS = {
    "trace_id",
    "span_id",
    "context_id",
    "task_id",
    "started_at",
    "wall_seconds",
    "timestamp",
    "latency_ms",
}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    return Desk(tmp_path)


def answer(text: str) -> str:
    if text.startswith("bad"):
        raise AgentError("no", kind="failed")
    return f"You said: {text}"


def run(experiment: Experiment, folder: Path, repeats: int, shard: Shard | None) -> ShardFile:
    output = folder / (f"{shard.index}-of-{shard.count}.json" if shard else "all.json")
    asked = RunSettings("http://agent", output, repeats=repeats, shard=shard)
    around = RunDependencies(clock=FakeClock())
    asyncio.run(execute(experiment, asked, FakeAgentClient(answer), around, hide_progress))
    return ShardFile(output, ExecutedExperiment.model_validate_json(output.read_bytes()))


def content(value: Any) -> Any:
    """A file without what differs from process to process."""
    if isinstance(value, dict):
        return {key: content(item) for key, item in value.items() if key not in OF_ONE_PROCESS}
    return [content(item) for item in value] if isinstance(value, list) else value


def text_of(experiment: ExecutedExperiment) -> str:
    return json.dumps(content(experiment.model_dump(mode="json", exclude_none=True)))


texts = st.sampled_from(["a", "b", "bad", "c"])
scenarios = st.builds(
    lambda name, steps: Scenario(name=name, steps=tuple(Step(input=text) for text in steps)),
    st.sampled_from(["one", "two"]),
    st.lists(texts, min_size=1, max_size=3),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(scenarios, min_size=1, max_size=5), st.integers(1, 3), st.integers(1, 7), st.randoms())
def test_any_shards_merged_in_any_order_are_the_whole_run(
    asked: list[Scenario], repeats: int, count: int, random: Any
) -> None:
    experiment = Experiment(scenarios=tuple(asked))
    with tempfile.TemporaryDirectory() as folder:
        whole = run(experiment, Path(folder), repeats, None)
        parts = [run(experiment, Path(folder), repeats, shard) for shard in all_shards(count)]
    random.shuffle(parts)
    assert text_of(merge(parts)) == text_of(whole.experiment)


@given(st.integers(0, 20), st.integers(1, 4), st.integers(1, 9))
def test_every_trial_belongs_to_one_shard_and_no_shard_has_two_more_than_another(
    number: int, repeats: int, count: int
) -> None:
    planned = assign_ids(Scenario(name=str(name), steps=(Step(input="a"),)) for name in range(number))
    parts = [list_trials(planned, repeats, shard) for shard in all_shards(count)]
    dealt = Counter(trial.key for part in parts for trial in part)
    assert dealt == Counter(trial.key for trial in list_trials(planned, repeats))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(st.integers(1, 9), st.integers(1, 3), st.integers(1, 3), st.integers(1, 5))
def test_a_shard_keeps_its_trials_when_repeats_grow(number: int, repeats: int, more: int, count: int) -> None:
    planned = assign_ids(Scenario(name=str(name), steps=(Step(input="a"),)) for name in range(number))
    for shard in all_shards(count):
        before = {trial.key for trial in list_trials(planned, repeats, shard)}
        assert before <= {trial.key for trial in list_trials(planned, repeats + more, shard)}


@pytest.mark.parametrize(
    "text", ["0/2", "3/2", "1", "1/0", "a/b", "-1/2", "1/2/3", "01/2", "\u0661/\u0662", "1/9999999"]
)
def test_what_is_no_shard_is_bad_input(text: str) -> None:
    with pytest.raises(InputError, match="not a shard"):
        Shard.parse(text)


# --- as a user runs it ---------------------------------------------------------------------------------------


def part(desk: Desk, url: str, shard: str, *arguments: str) -> str:
    """Run a shard; the name of its file."""
    output = f"data/part-{shard.replace('/', '-of-')}.json"
    assert desk.run(url, "w", "--shard", shard, "--output", output, *arguments) == 0
    return output


def test_shards_are_run_and_merged_and_the_run_is_then_complete(
    desk: Desk, agent: ScriptedAgent, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.ask(*[f"question {number}" for number in range(5)])
    parts = [part(desk, agent.url, f"{index}/2", "--repeats", "2") for index in (2, 1)]
    assert main(merging, parts) == 0
    assert f"merge: done (exit 0): 2 shards with 10 of 10 steps answered -> {OUTPUT}" in capsys.readouterr().out
    executed = desk.executed()
    assert executed.run is not None
    assert (executed.run.shard, executed.run.repeats, executed.run.agent_name) == (None, 2, "scripted agent")
    assert Counter(received.text for received in agent.received) == {f"question {number}": 2 for number in range(5)}
    agent.close()
    assert desk.run(agent.url, "w", "--repeats", "2") == 0
    assert "already complete: 10 of 10" in capsys.readouterr().out


def test_the_file_of_a_shard_says_so_and_another_shard_does_not_take_it_for_its_own(
    desk: Desk, agent: ScriptedAgent
) -> None:
    desk.ask("a", "b", "c")
    assert desk.run(agent.url, "--shard", "1/2") == 0
    first = desk.executed()
    assert first.run is not None
    assert (first.run.shard, [scenario.name[-1] for scenario in first.scenarios]) == ("1/2", ["1", "3"])
    assert desk.run(agent.url, "--shard", "2/2") == 0
    assert [scenario.name[-1] for scenario in desk.executed().scenarios] == ["2"]
    assert desk.left() == {Path(OUTPUT).name, f"{Path(OUTPUT).name}.previous-1"}
    assert desk.run(agent.url) == 0
    assert len(desk.steps()) == 3


def test_a_shard_without_a_scenario_is_done_and_never_looks_like_a_pass(
    desk: Desk, nobody: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a fleet it must not fail the others; nobody is asked, and whatever reads its file has nothing to do."""
    desk.ask("a")
    assert desk.run(nobody, "--shard", "2/2") == 0
    assert "shard 2/2 has no step to send" in capsys.readouterr().out
    assert desk.executed().scenarios == ()
    assert main(evaluate, []) == 4
    assert main(gate, ["--input", OUTPUT]) == 4


def test_an_experiment_without_a_step_is_nothing_to_do_in_a_shard_too(desk: Desk, nobody: str) -> None:
    desk.ask(scenarios=[])
    assert desk.run(nobody, "--shard", "1/2") == 4


def test_evaluated_shards_are_merged_like_executed_ones(desk: Desk, agent: ScriptedAgent) -> None:
    """The shard that had nothing to evaluate stands in as run wrote it."""
    metric = {"metric_name": "builtin.contains", "parameters": {"text": "answer"}}
    desk.ask(scenarios=[{"name": f"s{n}", "steps": [{"input": f"q{n}", "metrics": [metric]}]} for n in range(3)])
    assert desk.run(agent.url, "w") == 0
    assert main(evaluate, []) == 0
    whole = content(json.loads((desk.folder / EVALUATED).read_bytes()))
    whole["evaluation"].pop("identity", None)  # nobody has evaluated the whole of what was merged
    whole["evaluation"].pop("made_of")
    whole["run"].pop("made_of")
    parts = [part(desk, agent.url, f"{index}/4") for index in range(1, 5)]
    for path in parts[:3]:
        assert main(evaluate, ["--input", path, "--output", f"{path}.evaluated"]) == 0
    assert main(merging, [parts[3], *(f"{path}.evaluated" for path in parts[:3])]) == 0
    merged = content(json.loads((desk.folder / EVALUATED).read_bytes()))
    assert len(merged["evaluation"].pop("made_of")) == 3
    assert len(merged["run"].pop("made_of")) == 1
    assert merged == whole
    assert main(gate, []) == 0
    Path(parts[1]).write_text("{}")
    assert main(gate, []) == 2  # an answer that was judged does not lie there any more


@pytest.fixture
def three(desk: Desk, agent: ScriptedAgent) -> list[str]:
    """The files of three shards of a run of five scenarios."""
    desk.ask(*"abcde")
    return [part(desk, agent.url, f"{index}/3") for index in (1, 2, 3)]


def edited(path: str, change: Callable[[Any], None]) -> str:
    document = json.loads(Path(path).read_bytes())
    change(document)
    Path(f"{path}.edited").write_text(json.dumps(document))
    return f"{path}.edited"


def refused(capsys: pytest.CaptureFixture[str], *files: str) -> str:
    capsys.readouterr()
    assert main(merging, list(files)) == 2
    assert not Path(OUTPUT).exists()
    return capsys.readouterr().err.splitlines()[0]


def test_a_missing_shard_is_named(three: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, three[0], three[2]) == "error: missing shards: 2/3"
    assert "missing shards: 1/3, 3/3" in refused(capsys, three[1])


def test_a_shard_that_is_there_twice_is_refused(three: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "shard 2/3 is there twice" in refused(capsys, *three, three[1])


def test_another_division_run_or_experiment_is_refused(
    desk: Desk, agent: ScriptedAgent, three: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "not of one division" in refused(capsys, *three, part(desk, agent.url, "1/2"))
    repeated = part(desk, agent.url, "3/3", "--repeats", "2", "--output", "data/repeated.json")
    assert "another number of repeats" in refused(capsys, *three[:2], "data/repeated.json"), repeated
    part(desk, agent.url, "3/3", "--on-step-error", "continue", "--output", "data/other.json")
    assert "another run" in refused(capsys, *three[:2], "data/other.json")
    desk.ask(*"abcdef")
    part(desk, agent.url, "3/3", "--output", "data/other.json")
    assert "another experiment" in refused(capsys, *three[:2], "data/other.json")


def test_another_version_of_the_agent_is_refused(three: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    other = edited(three[1], lambda document: document["run"].update(agent_version="2"))
    assert "another version of the agent" in refused(capsys, three[0], other, three[2])


def test_what_is_no_shard_is_refused(
    desk: Desk, agent: ScriptedAgent, three: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    whole = edited(three[0], lambda document: document["run"].pop("shard"))
    assert "is not a shard of a run" in refused(capsys, whole, *three[1:])
    foreign = edited(three[0], lambda document: document.pop("run"))
    assert "is not a shard of a run" in refused(capsys, foreign, *three[1:])
    assert "is not a shard" in refused(capsys, edited(three[0], lambda d: d["run"].update(shard="4/3")), *three[1:])
    assert "no such file" in refused(capsys, "data/nothing.json", *three[1:])


def test_a_shard_that_lost_a_scenario_is_refused(three: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    first = edited(three[0], lambda document: document["scenarios"].pop())
    assert "holds 1 scenarios, and shard 1/3 of 4 has 2" in refused(capsys, first, *three[1:])
    last = edited(three[1], lambda document: document["scenarios"].pop())
    assert "are not the whole of experiment" in refused(capsys, three[0], last, three[2])


def test_a_scenario_that_is_another_ones_is_refused(three: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    def twice(document: Any) -> None:
        document["scenarios"][1] = document["scenarios"][0]

    assert "do not hold 1 repetitions of the same" in refused(capsys, edited(three[0], twice), *three[1:])
    swapped = edited(three[0], lambda document: document["scenarios"].reverse())
    assert "are not the whole of experiment" in refused(capsys, swapped, *three[1:])


def test_the_output_is_never_one_of_the_shards(three: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "is one of the shards" in refused(capsys, *three, "--output", three[0])
