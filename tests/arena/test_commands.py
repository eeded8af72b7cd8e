"""`testbench arena` as a user calls it: what it prints, where, and with which exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from testbench.arena.commands import command
from testbench.cli.phase import main

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "testbench" / "samples" / "arena"
JOB = str(SAMPLES / "job.yaml")
HEAVY = {
    "pandas",
    "pyarrow",
    "ragas",
    "langchain_core",
    "a2a",
    "openai",
    "obstore",
    "jinja2",
    "httpx",
    "pydantic",
    "yaml",
}


def run(*arguments: str) -> int:
    return main(command, list(arguments))


def test_the_sample_is_planned(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("plan", JOB, "--source", str(SAMPLES)) == 0
    printed = capsys.readouterr()
    assert "scenarios/critical-weather.yaml: weather in two" in printed.out
    assert printed.out.splitlines()[-1].startswith("arena: done (exit 0): 6 items, 10 messages")
    assert printed.err == ""


def test_the_plan_as_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("plan", JOB, "--source", str(SAMPLES), "--only", "off-topic.yaml", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert [item["scenario_name"] for item in printed["items"]] == ["off topic"] * 2
    assert printed["calls"]["judged_evaluations"] == 0
    assert printed["digest"].startswith("sha256:")


def test_validate_counts_and_warns_on_stderr(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: a\nsteps: [{input: q}]\n")
    (tmp_path / "b.yaml").write_text("stebs: []\n")
    assert run("validate", JOB, "--source", str(tmp_path)) == 0
    printed = capsys.readouterr()
    assert printed.err == "warning: b.yaml: no scenario, left out\n"
    assert "1 scenarios and 1 under test" in printed.out


def test_evaluations_that_ask_a_judge_are_counted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    judged = "{metric_name: builtin.judge, parameters: {criteria: polite}}"
    (tmp_path / "a.yaml").write_text(f"name: a\nsteps: [{{input: q, metrics: [{judged}]}}]\n")
    assert run("plan", JOB, "--source", str(tmp_path)) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("2 messages, 2 evaluations by a judge")


@pytest.mark.parametrize(
    ("scenario", "words"),
    [
        ("name: a\nsteps: [{input: q, metrics: [{metric_name: builtin.contians}]}]\n", "a.yaml: "),
        ("name: a\nsteps: [{input: q, metrics: [{metric_name: builtin.length}]}]\n", "a.yaml: "),
        ("kind: Scenario\nspec: {id: a, turns: [{role: user, content: q, assertions: [{type: x}]}]}\n", "type 'x'"),
    ],
)
def test_a_check_that_cannot_be_made_is_bad_input_before_anything_is_sent(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, scenario: str, words: str
) -> None:
    (tmp_path / "a.yaml").write_text(scenario)
    assert run("validate", JOB, "--source", str(tmp_path)) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert words in printed.err
    assert "hint: " in printed.err
    assert printed.err.splitlines()[-1] == "arena: bad input (exit 2)"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("plan", JOB), "ArenaSource samples: its content is not here"),
        (("plan", JOB, "--source", "nowhere"), "nowhere: no such folder"),
        (("plan", JOB, "--source", str(SAMPLES), "--only", "*-slow.yaml"), "'*-slow.yaml' matches nothing"),
        (("plan", JOB, "--source", str(SAMPLES), "--job", "other"), "no job is called 'other'"),
        (("plan", "missing.yaml"), "missing.yaml: no such file"),
        (("plan",), "Missing argument"),
        (("fly",), "No such command"),
    ],
)
def test_bad_input_says_what_and_where(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    assert run(*arguments) == 2
    printed = capsys.readouterr().err
    assert words in printed
    assert printed.splitlines()[-1] == "arena: bad input (exit 2)"


def test_a_source_in_the_manifest_needs_no_other(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    omnia = "apiVersion: omnia.altairalabs.ai/v1alpha1"
    source = (
        f"{omnia}\nkind: ArenaSource\nmetadata: {{name: samples}}\nspec: {{type: configMap, configMap: {{name: m}}}}\n"
    )
    files = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {a.yaml: 'name: a\n\n  steps: [{input: q}]'}\n"
    manifest = tmp_path / "all.yaml"
    manifest.write_text("---\n".join([(SAMPLES / "job.yaml").read_text(), source, files]))
    assert run("plan", str(manifest)) == 0
    assert "2 items" in capsys.readouterr().out


def test_an_option_can_be_a_variable(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TESTBENCH_ARENA_PLAN_SOURCE", str(SAMPLES))
    assert run("plan", JOB) == 0
    assert "6 items" in capsys.readouterr().out


def script(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)


def test_help_loads_nothing_heavy_and_names_the_command() -> None:
    code = """
import sys
from testbench.__main__ import main
assert main(["arena", "plan", "--help"]) == 0
print(" ".join({name.split(".")[0] for name in sys.modules}))
"""
    printed = script(code).stdout
    assert "Usage: testbench arena plan" in printed
    assert "TESTBENCH_ARENA_PLAN_" in printed
    assert set(printed.splitlines()[-1].split()) & HEAVY == set()


def test_a_module_of_the_arena_hides_no_library(tmp_path: Path) -> None:
    """`python testbench/arena/commands.py` would put a folder first on the path where `operator` is."""
    show = (
        "import atexit, sys\natexit.register(lambda: print([p for p in sys.path if p.endswith('testbench/arena')]))\n"
    )
    (tmp_path / "sitecustomize.py").write_text(show)
    done = subprocess.run(
        [sys.executable, "-m", "testbench", "arena", "plan", JOB, "--source", str(SAMPLES)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "[]"
