"""The image's files and the Makefile's targets, as far as they can be tested without a container engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

import testbench
from testbench.__main__ import COMMANDS

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
Call = tuple[list[str], dict[str, str]]
Make = Callable[..., Call]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Runs a target with a docker that records its arguments and its environment; returns both."""
    recorded = tmp_path / "recorded.json"
    docker = tmp_path / "docker"
    record = f"json.dump([sys.argv[1:], dict(os.environ)], open({str(recorded)!r}, 'w'))"
    docker.write_text(f"#!{sys.executable}\nimport json, os, sys\n{record}\n")
    docker.chmod(0o755)
    shutil.copy(ROOT / "Makefile", tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str) -> Call:
        subprocess.run(["make", "-s", *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)
        given, environment = json.loads(recorded.read_text())
        return given, environment

    return run


def names_of(option: str, arguments: list[str]) -> list[str]:
    return [value for name, value in pairwise(arguments) if name == option]


def test_make_run_hands_on_the_names_of_our_variables_and_no_value(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if re.match("(OPENAI|OTEL|TESTBENCH|AWS|MINIO)_", name)]:
        monkeypatch.delenv(name)
    key = "sk-secret $(shell id) 'quote"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    monkeypatch.setenv("TESTBENCH_RUN_TIMEOUT", "60")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("MINIO_URL", "http://minio:9000")
    monkeypatch.setenv("MINIONS", "none of ours")
    monkeypatch.setenv("GITHUB_TOKEN", "another secret")
    arguments, environment = make(
        "run", "PHASE=run.py http://agent:8000 --concurrency 4", "OTEL_SERVICE_NAME=given-to-make"
    )
    assert names_of("--env", arguments) == [
        "AWS_REGION",
        "MINIO_URL",
        "OPENAI_API_KEY",
        "OTEL_SERVICE_NAME",
        "TESTBENCH_RUN_TIMEOUT",
    ]
    assert not [argument for argument in arguments if "secret" in argument]
    assert (environment["OPENAI_API_KEY"], environment["OTEL_SERVICE_NAME"]) == (key, "given-to-make")


def test_make_run_mounts_the_data_folder_for_its_owner(make: Make, tmp_path: Path) -> None:
    arguments, _ = make("run", "IMAGE=some/image:1", "PHASE=gate.py --json")
    assert (tmp_path / "data").is_dir()
    assert names_of("--volume", arguments) == [f"{tmp_path}/data:/app/data"]
    assert names_of("--user", arguments) == [f"{os.getuid()}:{os.getgid()}"]
    assert "--read-only" in arguments
    assert arguments[-3:] == ["some/image:1", "gate.py", "--json"]


def test_make_run_shows_the_pipelines_help_when_asked_for_nothing(make: Make) -> None:
    assert make("run")[0][-2:] == ["pipeline.py", "--help"]


def test_make_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (listed,) = re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    told = subprocess.run(["make", "-s", "-C", ROOT, "help"], check=True, capture_output=True, text=True).stdout
    assert [line.split()[1] for line in told.splitlines()] == re.findall(r"^([a-z][\w-]*):", makefile, re.MULTILINE)
    assert set(listed.split()) == set(re.findall(r"^  make (\S+)", told, re.MULTILINE))


def test_make_build_tags_the_image(make: Make) -> None:
    arguments, _ = make("build", "IMAGE=some/image:1")
    assert (arguments[0], names_of("--tag", arguments), arguments[-1]) == ("build", ["some/image:1"], ".")


@pytest.mark.parametrize(
    ("typed", "runs"),
    [
        (["setup.py", "http://x/a b.csv"], ["python3", "/app/testbench/setup.py", "http://x/a b.csv"]),
        (["testbench/run.py", "URL"], ["python3", "/app/testbench/run.py", "URL"]),
        (["/app/data/own.py"], ["python3", "/app/data/own.py"]),
        (["arena", "run", "job.yaml"], ["testbench", "arena", "run", "job.yaml"]),
        (["testbench", "gate"], ["testbench", "gate"]),
        (["python3", "-m", "testbench.gate"], ["python3", "-m", "testbench.gate"]),
    ],
)
def test_the_entry_point_runs_a_phase_by_its_name(tmp_path: Path, typed: list[str], runs: list[str]) -> None:
    for name in ("python3", "testbench"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" {name} "$@"\n')
        program.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    command = ["sh", str(ROOT / "docker-entrypoint.sh"), *typed]
    ended = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    assert ended.stdout.splitlines() == runs


def test_the_entry_point_knows_every_command() -> None:
    (line,) = re.findall(r"^  ([a-z|]+)\) exec testbench", (ROOT / "docker-entrypoint.sh").read_text(), re.MULTILINE)
    assert line.split("|") == list(COMMANDS)


def test_the_entry_point_never_stays_as_the_first_process() -> None:
    """A shell as process 1 would keep SIGTERM to itself."""
    branches = re.findall(r"\) (.*) ;;", (ROOT / "docker-entrypoint.sh").read_text())
    assert branches
    assert all("exec " in branch for branch in branches)


def test_the_image_has_the_projects_version() -> None:
    assert re.findall(r"^ARG VERSION=(.+)", DOCKERFILE, re.MULTILINE) == [testbench.__version__]


def test_only_what_the_lock_file_knows_is_left_out() -> None:
    """A package that was renamed or is gone would otherwise be left out in vain."""
    locked = {package["name"] for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]}
    left_out = set(re.findall(r"--no-install-package ([\w.-]+)", DOCKERFILE))
    assert left_out
    assert left_out <= locked


def test_nothing_that_our_code_imports_is_left_out() -> None:
    left_out = {name.replace("-", "_") for name in re.findall(r"--no-install-package ([\w.-]+)", DOCKERFILE)}
    left_out |= {"sknetwork", "robot", "scipy.io", "scipy.signal", "pyarrow.flight", "langchain_community"}
    for path in (ROOT / "testbench").rglob("*.py"):
        imported = re.findall(r"^\s*(?:from|import) ([\w.]+)", path.read_text(), re.MULTILINE)
        assert not left_out & {name for module in imported for name in (module, module.split(".")[0])}, path


def test_every_file_that_the_image_is_made_of_is_sent_to_the_builder() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = re.findall(r"^COPY (?:--chmod=\S+ )?((?!--from)[^\n]+)", DOCKERFILE, re.MULTILINE)
    assert {source for line in copied for source in line.split()[:-1]} == allowed
