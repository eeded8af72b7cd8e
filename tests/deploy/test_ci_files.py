"""The files of CI: what GitHub would refuse or an attacker would use, and the action's own steps run for real."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

import testbench
from tests.support.composite_action import Runner

if TYPE_CHECKING:
    from tests.support.servers.agent_answers import Exchange
    from tests.support.servers.scripted_agent import ScriptedAgent

ROOT = Path(__file__).parents[2]
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
WORKFLOWS: dict[str, Any] = {
    path.name: yaml.safe_load(path.read_text()) for path in sorted((ROOT / ".github/workflows").iterdir())
}
PINNED = re.compile(r"\./|[\w-]+/[\w./-]+@(v\d+|[0-9a-f]{40})")
EXPERIMENT = """
scenarios:
  - name: greeting
    steps:
      - input: hello
        metrics: [{metric_name: builtin.contains, parameters: {text: "%s"}}]
"""


def steps() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every step with the name of its file."""
    yield from (("action.yml", step) for step in ACTION["runs"]["steps"])
    for name, workflow in WORKFLOWS.items():
        yield from ((name, step) for job in workflow["jobs"].values() for step in job["steps"])


SCRIPTS = [(name, step["run"]) for name, step in steps() if "run" in step]


@pytest.mark.parametrize(("name", "script"), SCRIPTS)
def test_no_expression_becomes_part_of_a_script(name: str, script: str) -> None:
    """`${{ inputs.x }}` in a script's text would be run as shell, whatever it holds."""
    assert "${{" not in script


@pytest.mark.parametrize(("name", "script"), SCRIPTS)
def test_every_script_is_valid_bash(name: str, script: str) -> None:
    done = subprocess.run(["bash", "-n"], input=script, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_other_actions_are_pinned() -> None:
    used = [step["uses"] for _, step in steps() if "uses" in step]
    assert used
    assert [name for name in used if not PINNED.fullmatch(name)] == []


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_may_only_read_unless_a_job_says_what_it_writes(name: str) -> None:
    workflow = WORKFLOWS[name]
    assert workflow["permissions"] == {"contents": "read"}
    writing = {job: set(told.get("permissions", {}).items()) for job, told in workflow["jobs"].items()}
    if name != "release.yaml":
        assert not any(writing.values())
    assert all(told.get("timeout-minutes") for told in workflow["jobs"].values())


def test_a_pull_request_never_runs_with_the_rights_of_the_repository() -> None:
    for workflow in WORKFLOWS.values():
        triggers = workflow[True]  # YAML 1.1 reads the key `on` as true
        assert not {"pull_request_target", "workflow_run", "issue_comment"} & set(triggers)


def test_no_checkout_leaves_its_token_behind() -> None:
    checkouts = [step for _, step in steps() if step.get("uses", "").startswith("actions/checkout")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_ci_runs_what_the_project_runs() -> None:
    ran = {step.get("run") for job in WORKFLOWS["ci.yaml"]["jobs"].values() for step in job["steps"]}
    assert {".ci/run", "make manifests", "make deepeval-test", "make image-test", "make build"} <= ran


def test_the_notes_of_a_release_are_its_section_of_the_changes(tmp_path: Path) -> None:
    (tmp_path / "CHANGELOG.md").write_text("# Changes\n\n## 1.10.0\n\nten\n\n## 1.1.0\n\none\n\n## 1.0.0\n\nold\n")
    jobs = WORKFLOWS["release.yaml"]["jobs"]
    script = next(step["run"] for step in jobs["release"]["steps"] if "CHANGELOG" in step.get("run", ""))

    def notes(tag: str, folder: Path) -> str:
        command = ["bash", "-eo", "pipefail", "-c", script]
        subprocess.run(command, cwd=folder, check=True, env={"TAG": tag, "PATH": "/usr/bin:/bin"})
        return (folder / "notes.md").read_text().strip()

    assert notes("v1.1.0", tmp_path) == "one"
    assert notes("v1.10.0", tmp_path) == "ten"
    with pytest.raises(subprocess.CalledProcessError):
        notes("v2.0.0", tmp_path)
    with pytest.raises(subprocess.CalledProcessError):
        notes("v1.1", tmp_path)
    (tmp_path / "CHANGELOG.md").write_text((ROOT / "CHANGELOG.md").read_text())
    assert notes(f"v{testbench.__version__}", tmp_path)


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    """A runner with an experiment in its workspace, and a uv that has nothing to install."""
    workspace, temp, tools = (tmp_path / name for name in ("workspace", "temp", "tools"))
    for folder in (workspace, temp, tools):
        folder.mkdir()
    (workspace / "experiment.yaml").write_text(EXPERIMENT % "hello")
    (workspace / "strict.yaml").write_text(EXPERIMENT % "no agent says this")
    (tools / "uv").write_text("#!/bin/sh\nexit 0\n")
    (tools / "uv").chmod(0o755)
    context = {
        "github.action_path": str(ROOT),
        "github.workflow": "Nightly",
        "github.run_id": "41",
        "github.run_attempt": "2",
        "github.run_number": "7",
        "runner.temp": str(temp),
    }
    return Runner(workspace, temp, context, {"PATH": f"{tools}:/usr/bin:/bin"})


def test_the_action_ends_green_with_a_summary_and_the_report(runner: Runner, agent: ScriptedAgent) -> None:
    ended = runner.run(ACTION, agent_url=agent.url, dataset="experiment.yaml")
    assert ended.code == 0, ended
    assert (ended.outputs["verdict"], ended.outputs["exit-code"]) == ("pass", "0")
    assert (runner.workspace / ended.outputs["report"]).exists()
    assert "PASS: 1 of 1 steps passed" in ended.summary
    assert "Nightly" in ended.summary
    upload = ended.used["actions/upload-artifact"]
    assert upload["name"] == "testbench"
    for pattern in upload["path"].split():
        assert list(runner.workspace.glob(pattern)), pattern
    report = (runner.workspace / "data/results/evaluation_report.html").read_text()
    assert "41-2" in report


def test_a_verdict_of_fail_fails_the_job_unless_that_is_allowed(runner: Runner, agent: ScriptedAgent) -> None:
    ended = runner.run(ACTION, agent_url=agent.url, dataset="strict.yaml")
    assert (ended.code, ended.outputs["verdict"]) == (1, "fail"), ended
    assert "FAIL" in ended.summary
    ended = runner.run(ACTION, agent_url=agent.url, dataset="strict.yaml", allow_fail="true", artifact_name="")
    assert (ended.code, ended.outputs["verdict"]) == (0, "fail"), ended
    assert "actions/upload-artifact" not in ended.used


def test_an_outage_is_no_verdict_and_fails_the_job_whatever_is_allowed(
    runner: Runner, agent: ScriptedAgent, nobody: str
) -> None:
    assert runner.run(ACTION, agent_url=agent.url, dataset="experiment.yaml").code == 0
    (runner.temp / "step-summary").unlink()
    ended = runner.run(ACTION, agent_url=nobody, dataset="experiment.yaml", allow_fail="true")
    assert (ended.code, ended.outputs["verdict"], ended.outputs["exit-code"]) == (3, "none", "3"), ended
    assert ended.summary == "## Testbench: no verdict (exit code 3); the log says why\n"
    assert not (runner.workspace / "data/results").exists(), "the earlier run's results"


def test_another_agent_at_the_same_address_is_asked_anew(runner: Runner, agent: ScriptedAgent) -> None:
    assert runner.run(ACTION, agent_url=agent.url, dataset="experiment.yaml").code == 0

    async def worse(exchange: Exchange) -> None:
        await exchange.complete("something else")

    agent.behaviour = worse
    ended = runner.run(ACTION, agent_url=agent.url, dataset="experiment.yaml")
    assert (ended.code, ended.outputs["verdict"]) == (1, "fail"), ended


def test_the_artifact_holds_nothing_of_an_earlier_run(runner: Runner, agent: ScriptedAgent, nobody: str) -> None:
    assert runner.run(ACTION, agent_url=agent.url, dataset="experiment.yaml").code == 0
    ended = runner.run(ACTION, agent_url=nobody, dataset="experiment.yaml")
    patterns = ended.used["actions/upload-artifact"]["path"].split()
    assert [path for pattern in patterns for path in runner.workspace.glob(pattern)] == []


def test_a_variable_of_the_job_is_in_force_where_no_input_is_given(
    runner: Runner, agent: ScriptedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "TESTBENCH_GATE_BASELINE": "no-such-file.json",
        "TESTBENCH_RUN_HEADER": "X-Team: weather",
    }.items():
        monkeypatch.setenv(name, value)
    ended = runner.run(ACTION, agent_url=agent.url, dataset="experiment.yaml")
    assert ended.code == 2, ended
    assert "no-such-file.json" in ended.log
    assert {message.headers["x-team"] for message in agent.received} == {"weather"}


def test_a_header_is_sent_and_seen_by_nobody_else(runner: Runner, agent: ScriptedAgent) -> None:
    header = "Authorization: Bearer sk-secret\nX-Team: weather"
    ended = runner.run(ACTION, agent_url=agent.url, dataset="experiment.yaml", header=header)
    assert ended.code == 0, ended
    assert {message.headers["authorization"] for message in agent.received} == {"Bearer sk-secret"}
    assert {message.headers["x-team"] for message in agent.received} == {"weather"}
    assert "sk-secret" not in ended.log + ended.summary
    (script,) = (step["run"] for step in ACTION["runs"]["steps"] if step.get("id") == "evaluate")
    assert not re.search(r"arguments.*HEADER", script), "the command line can be seen by everybody"


def test_inputs_win_over_the_pipeline_file_and_metrics_are_a_list(runner: Runner, agent: ScriptedAgent) -> None:
    (runner.workspace / "pipeline.yaml").write_text("setup: {dataset: strict.yaml}\nrun: {timeout: 5}\n")
    ended = runner.run(
        ACTION,
        agent_url=agent.url,
        dataset="greetings.csv",
        config="pipeline.yaml",
        metrics="builtin.exact_match\nbuiltin.similarity=0.5",
    )
    assert ended.code == 2, "there is no such dataset"
    (runner.workspace / "greetings.csv").write_text("user_input,reference\nhello,echo: hello\n")
    ended = runner.run(
        ACTION,
        agent_url=agent.url,
        dataset="greetings.csv",
        config="pipeline.yaml",
        metrics="builtin.exact_match\nbuiltin.similarity=0.5",
        min_pass_rate="0",
    )
    assert ended.code == 0, ended
    assert "builtin.exact_match" in ended.summary
    assert "builtin.similarity" in ended.summary


@pytest.mark.parametrize(
    "name", ["agent_url", "dataset", "config", "metrics", "header", "min_pass_rate", "workflow_name", "allow_fail"]
)
def test_an_input_is_never_run_as_shell(runner: Runner, nobody: str, name: str) -> None:
    hostile = "x$(touch pwned)`touch pwned`\"; touch pwned; '\ntouch pwned #"
    inputs = {"agent_url": nobody, "dataset": "experiment.yaml", "artifact_name": ""} | {name: hostile}
    ended = runner.run(ACTION, **inputs)
    assert ended.code in (2, 3), ended
    assert not list(runner.workspace.rglob("pwned"))
