"""Every scenario as often as was asked for: what is sent and in which order, what is written, and what is kept."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from testbench.cli.phase import main
from testbench.evaluate import command as evaluate
from testbench.metrics.evaluation import EvaluationDependencies, EvaluationSettings
from testbench.metrics.evaluation import evaluate as evaluate_experiment
from testbench.metrics.resume import resume_evaluation
from testbench.report.report_rows import build_rows
from testbench.schema.models import EvaluatedExperiment
from testbench.telemetry.points import samples
from tests.support.run_phase import JOURNAL, OUTPUT, Desk

if TYPE_CHECKING:
    from tests.support.servers.otlp_receiver import OtlpReceiver
    from tests.support.servers.scripted_agent import ScriptedAgent

EVALUATED = "data/experiments/evaluated_experiment.json"
REFERENCE = {"response": "answer to: a"}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    return Desk(tmp_path)


def sent(agent: ScriptedAgent) -> Counter[str]:
    return Counter(received.text for received in agent.received)


def repetitions(desk: Desk) -> list[tuple[str, int]]:
    return [(scenario.name[-1], scenario.repetition) for scenario in desk.executed().scenarios]


def identity_of(desk: Desk) -> str:
    run = desk.executed().run
    assert run is not None
    assert run.identity is not None
    return run.identity


def write_journal(desk: Desk, identity: str, *lines: str) -> None:
    """The journal that a killed process has left."""
    header = json.dumps({"journal": 1, "identity": identity})
    (desk.folder / JOURNAL).write_text("\n".join([header, *lines]) + "\n")


def killed(desk: Desk, *, keep: int) -> None:
    """Make of a finished run one whose process was killed when so many scenarios were done, in order of sending."""
    done = sorted(desk.executed().scenarios, key=lambda scenario: scenario.repetition)[:keep]
    write_journal(desk, identity_of(desk), *(scenario.model_dump_json(exclude_none=True) for scenario in done))
    (desk.folder / OUTPUT).unlink()


def test_all_scenarios_are_sent_once_before_any_is_sent_twice_and_are_written_side_by_side(
    desk: Desk, agent: ScriptedAgent, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.ask(("a", "!recall"), "b")
    assert desk.run(agent.url, "--repeats", "3", "--concurrency", "1") == 0
    assert [received.text for received in agent.received] == ["a", "!recall", "b"] * 3
    assert repetitions(desk) == [("1", 1), ("1", 2), ("1", 3), ("2", 1), ("2", 2), ("2", 3)]
    executed = desk.executed()
    assert executed.run is not None
    assert executed.run.repeats == 3
    first, second, third = executed.scenarios[:3]
    assert first.id == second.id == third.id
    assert [step.id for step in first.steps] == [step.id for step in second.steps]
    assert len({scenario.trace_id for scenario in executed.scenarios}) == 6
    assert {scenario.steps[1].answer for scenario in (first, second, third)} == {"a | !recall"}, "a context of its own"
    assert "steps     9 in 6 repetitions of 2 scenarios: 9 answered" in capsys.readouterr().out


def test_a_repetition_is_told_in_its_trace_where_there_are_several(
    desk: Desk, agent: ScriptedAgent, otlp: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp.endpoint)
    desk.ask("a")
    assert desk.run(agent.url) == 0
    assert "repetition" not in otlp.span("scenario scenario 1").attributes
    assert desk.run(agent.url, "--repeats", "3") == 0
    told = [span.attributes.get("repetition") for span in otlp.spans if span.name == "scenario scenario 1"]
    assert sorted(told, key=str) == [2, 3, None]


def test_more_repeats_keep_what_is_done(desk: Desk, agent: ScriptedAgent, capsys: pytest.CaptureFixture[str]) -> None:
    desk.ask("a", "!fail b")
    assert desk.run(agent.url, "--repeats", "2") == 0
    before = {(scenario.id, scenario.repetition): scenario for scenario in desk.executed().scenarios}
    assert desk.run(agent.url, "--repeats", "5") == 0
    assert sent(agent) == {"a": 5, "!fail b": 5}
    after = {(scenario.id, scenario.repetition): scenario for scenario in desk.executed().scenarios}
    assert len(after) == 10
    assert {key: after[key] for key in before} == before
    assert "kept      4 scenarios" in capsys.readouterr().out


def test_fewer_repeats_throw_no_answer_away(
    desk: Desk, agent: ScriptedAgent, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.ask("a")
    assert desk.run(agent.url, "--repeats", "4") == 0
    before = (desk.folder / OUTPUT).read_bytes()
    agent.close()
    assert desk.run(agent.url, "--repeats", "2") == 0
    assert (desk.folder / OUTPUT).read_bytes() == before
    told = capsys.readouterr().out
    assert "already complete: 4 of 4 steps answered" in told
    assert "with all 4 repetitions that were there" in told


def test_fewer_repeats_after_a_kill_need_only_those_and_the_others_are_put_aside(
    desk: Desk, agent: ScriptedAgent
) -> None:
    desk.ask("a", "b")
    assert desk.run(agent.url, "--repeats", "3") == 0
    killed(desk, keep=5)
    agent.close()
    assert desk.run(agent.url, "--repeats", "2") == 0
    assert repetitions(desk) == [("1", 1), ("1", 2), ("2", 1), ("2", 2)]
    assert desk.left() == {Path(OUTPUT).name, f"{Path(JOURNAL).name}.previous-1"}


def test_a_resumed_run_sends_each_missing_repetition_and_only_those(desk: Desk, agent: ScriptedAgent) -> None:
    desk.ask("a", "b")
    assert desk.run(agent.url, "--repeats", "3") == 0
    killed(desk, keep=3)
    agent.received.clear()
    assert desk.run(agent.url, "--repeats", "3") == 0
    assert sum(sent(agent).values()) == 3
    assert repetitions(desk) == [("1", 1), ("1", 2), ("1", 3), ("2", 1), ("2", 2), ("2", 3)]


def test_retry_errors_runs_only_the_repetitions_that_failed(desk: Desk, agent: ScriptedAgent) -> None:
    desk.ask("a", "b")
    agent.statuses(200, 200, 200, 500)
    assert desk.run(agent.url, "--repeats", "2", "--concurrency", "1") == 0
    assert [step.status for step in desk.steps()] == ["ok", "ok", "ok", "error"]
    assert desk.run(agent.url, "--repeats", "2", "--retry-errors") == 0
    assert sent(agent) == {"a": 2, "b": 2}, "the one that failed did not get through to the agent"
    assert [step.status for step in desk.steps()] == ["ok"] * 4


def test_retrying_errors_with_fewer_repeats_throws_no_answer_away(desk: Desk, agent: ScriptedAgent) -> None:
    desk.ask("a", "b")
    agent.statuses(200, 200, 200, 200, 200, 500)
    assert desk.run(agent.url, "--repeats", "3", "--concurrency", "1") == 0
    assert desk.run(agent.url, "--repeats", "2", "--retry-errors") == 0
    assert [step.status for step in desk.steps()] == ["ok"] * 6
    assert sent(agent) == {"a": 3, "b": 3}


def test_an_interrupted_larger_run_goes_on_from_output_and_journal(desk: Desk, agent: ScriptedAgent) -> None:
    desk.ask("a", "b")
    assert desk.run(agent.url) == 0
    second = desk.executed().scenarios[0].model_copy(update={"repetition": 2})
    write_journal(desk, identity_of(desk), second.model_dump_json(exclude_none=True))
    agent.received.clear()
    assert desk.run(agent.url, "--repeats", "2") == 0
    assert sent(agent) == {"b": 1}
    assert repetitions(desk) == [("1", 1), ("1", 2), ("2", 1), ("2", 2)]


def test_a_kill_before_the_output_was_written_loses_neither_the_agents_name_nor_the_time(
    desk: Desk, agent: ScriptedAgent
) -> None:
    desk.ask("a")
    assert desk.run(agent.url) == 0
    session = {"started_at": "2026-01-01T00:00:00Z", "seconds": 40.0, "agent_name": "n", "agent_version": "7"}
    later = {"started_at": "2026-01-01T02:00:00Z", "seconds": 1.0, "agent_name": "n", "agent_version": "8"}
    notes = [f'{{"session":{json.dumps(note)}}}' for note in (session, session | {"seconds": 50.0}, later)]
    done = desk.executed().scenarios[0].model_dump_json(exclude_none=True)
    write_journal(desk, identity_of(desk), *notes, done)
    (desk.folder / OUTPUT).unlink()
    agent.close()
    assert desk.run(agent.url) == 0
    run = desk.executed().run
    assert run is not None
    assert (run.agent_name, run.agent_version, run.wall_seconds) == ("n", "8", 51.0)
    assert run.started_at.isoformat() == "2026-01-01T00:00:00+00:00"


def test_a_kill_between_output_and_journal_leaves_the_record_as_it_was(desk: Desk, agent: ScriptedAgent) -> None:
    desk.ask("a")
    assert desk.run(agent.url) == 0
    before = (desk.folder / OUTPUT).read_bytes()
    write_journal(desk, identity_of(desk), desk.executed().scenarios[0].model_dump_json(exclude_none=True))
    agent.close()
    assert desk.run(agent.url) == 0
    assert (desk.folder / OUTPUT).read_bytes() == before
    assert desk.left() == {Path(OUTPUT).name}


def test_a_run_that_grows_adds_its_times_and_tells_of_another_agent(
    desk: Desk, agent: ScriptedAgent, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.ask("a")
    assert desk.run(agent.url) == 0
    executed = desk.executed()
    assert executed.run is not None
    older = executed.run.model_copy(update={"wall_seconds": 1000.0, "agent_version": "0"})
    text = executed.model_copy(update={"run": older}).model_dump_json(exclude_none=True)
    (desk.folder / OUTPUT).write_text(text)
    assert desk.run(agent.url, "--repeats", "2") == 0
    run = desk.executed().run
    assert run is not None
    assert (run.started_at, run.agent_version) == (older.started_at, "1")
    assert run.wall_seconds > 1000
    assert "the agent was version 0 when this run began and is 1 now" in capsys.readouterr().err


def test_an_interrupted_evaluation_knows_one_repetition_from_another(desk: Desk, agent: ScriptedAgent) -> None:
    metric = {"metric_name": "builtin.contains", "parameters": {"text": "answer"}}
    desk.ask(scenarios=[{"name": "s", "steps": [{"input": "a", "metrics": [metric]}]}])
    assert desk.run(agent.url, "--repeats", "3") == 0
    assert main(evaluate, []) == 0
    evaluated = EvaluatedExperiment.model_validate_json((desk.folder / EVALUATED).read_bytes())
    settings, output = EvaluationSettings(), desk.folder / "data/interrupted.json"
    with resume_evaluation(desk.executed(), settings, output, fresh=True) as finished:
        finished.add(evaluated.scenarios[1])
    with resume_evaluation(desk.executed(), settings, output, fresh=False) as finished:
        assert [key.repetition for key in finished.done] == [2]
        done = {key: one.model_copy(update={"provider_note": "kept"}) for key, one in finished.done.items()}
    again = asyncio.run(evaluate_experiment(desk.executed(), settings, EvaluationDependencies({}), done=done))
    assert [scenario.repetition for scenario in again.scenarios] == [1, 2, 3]
    assert [bool(scenario.model_extra) for scenario in again.scenarios] == [False, True, False], (
        "2 was not judged again"
    )


def test_every_repetition_is_evaluated_for_itself_and_has_a_name_of_its_own(desk: Desk, agent: ScriptedAgent) -> None:
    step = {"input": "a", "metrics": [{"metric_name": "builtin.exact_match"}], "reference": REFERENCE}
    desk.ask(scenarios=[{"name": "s", "steps": [step], "metrics": [{"metric_name": "builtin.tool_calls"}]}])
    assert desk.run(agent.url, "--repeats", "3") == 0
    executed = desk.executed()
    first, second, third = executed.scenarios
    human, said = second.steps[0].turns
    wrong = said.model_copy(update={"content": "something else"})
    other = second.steps[0].model_copy(update={"turns": (human, wrong)})
    changed = (first, second.model_copy(update={"steps": (other,)}), third)
    text = executed.model_copy(update={"scenarios": changed}).model_dump_json(exclude_none=True)
    (desk.folder / OUTPUT).write_text(text)
    assert main(evaluate, []) in (0, 3)
    evaluated = EvaluatedExperiment.model_validate_json((desk.folder / EVALUATED).read_bytes())
    results = [scenario.steps[0].evaluations[0].result.result for scenario in evaluated.scenarios]
    assert results == ["pass", "fail", "pass"]
    hashes = [sample.hash for sample in samples(evaluated)]
    assert len(set(hashes)) == len(hashes) == 6
    assert hashes[2:4] == [f"{hashes[0]}-r2", f"{hashes[1]}-r2"]
    assert [row.id for row in build_rows(evaluated, None)] == hashes, "what links of the report lead to"
