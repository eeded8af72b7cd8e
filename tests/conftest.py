"""Fixtures: one scripted part each, an environment without a developer's settings, and no way off this machine.

`tests_e2e` takes the same fixtures from here by importing them in its own conftest.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.support.servers.loopback import nobody_listens
from tests.support.servers.loopback_guard import only_loopback

if TYPE_CHECKING:  # the parts are imported by the fixture that needs them: a test of pure code stays fast
    from pathlib import Path

    from playwright.sync_api import Browser

    from tests.support.arena_runs import Arena
    from tests.support.servers.otlp_receiver import OtlpReceiver
    from tests.support.servers.s3_store import S3Store
    from tests.support.servers.scripted_agent import ScriptedAgent
    from tests.support.servers.scripted_chat import ScriptedChat
    from tests.support.servers.scripted_judge import ScriptedJudge
    from tests.support.servers.static_files import StaticFiles

os.environ["OTEL_INSTRUMENTATION_A2A_SDK_ENABLED"] = "false"  # read once, when a test module first imports a2a

# a busy machine is no broken law
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

FOREIGN_PREFIXES = ("TESTBENCH_", "OPENAI_", "OTEL_", "AWS_", "DEEPEVAL_", "RAGAS_")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
DEFAULTS = {
    "AWS_EC2_METADATA_DISABLED": "true",
    "RAGAS_DO_NOT_TRACK": "true",
    "DEEPEVAL_TELEMETRY_OPT_OUT": "1",
    "DEEPEVAL_DISABLE_DOTENV": "1",
    "DEEPEVAL_FILE_SYSTEM": "READ_ONLY",
    "OTEL_INSTRUMENTATION_A2A_SDK_ENABLED": "false",
}


@pytest.fixture(scope="session", autouse=True)
def loopback_guard() -> Iterator[list[str]]:
    """Every socket of the test process stays on this machine."""
    attempts: list[str] = []
    with only_loopback(attempts):
        yield attempts


@pytest.fixture(autouse=True)
def attempts_to_leave(loopback_guard: list[str]) -> Iterator[list[str]]:
    """Fails a test that tried to leave this machine, even if the code under test swallowed the error."""
    loopback_guard.clear()
    yield loopback_guard
    assert not loopback_guard, f"tried to reach {loopback_guard}"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the developer's shell decides a test; child processes inherit the same."""
    for name in list(os.environ):
        if name.startswith(FOREIGN_PREFIXES) or name.upper() in PROXIES:
            monkeypatch.delenv(name)
    for name, value in DEFAULTS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def agent() -> Iterator[ScriptedAgent]:
    """An A2A 1.0 agent with a card, answering by magic input texts."""
    from tests.support.servers.scripted_agent import ScriptedAgent

    with ScriptedAgent() as part:
        yield part


@pytest.fixture
def judge() -> Iterator[ScriptedJudge]:
    """An OpenAI-compatible judge."""
    from tests.support.servers.scripted_judge import ScriptedJudge

    with ScriptedJudge() as part:
        yield part


@pytest.fixture
def polite(judge: ScriptedJudge, monkeypatch: pytest.MonkeyPatch) -> ScriptedJudge:
    """A judge that finds all answers fine, and that the environment names."""
    from tests.support.servers.scripted_judge import code_in

    judge.answer("RubricVerdict", lambda prompt: {"reason": "fine", "score": 5, "code": code_in(prompt)})
    monkeypatch.setenv("OPENAI_API_BASE", judge.base_url)
    return judge


@pytest.fixture
def chat() -> Iterator[ScriptedChat]:
    """A model behind an OpenAI-compatible gateway."""
    from tests.support.servers.scripted_chat import ScriptedChat

    with ScriptedChat() as part:
        yield part


@pytest.fixture
def arena(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Arena:
    """A folder for an ArenaJob, with two scenarios in its bundle and no manifest yet."""
    from tests.support.arena_runs import Arena, asks

    monkeypatch.chdir(tmp_path)
    found = Arena(tmp_path)
    found.bundle(greets=asks("greets", "hello", "and again"), leaves=asks("leaves", "goodbye"))
    return found


@pytest.fixture
def otlp() -> Iterator[OtlpReceiver]:
    """An OTLP/HTTP collector."""
    from tests.support.servers.otlp_receiver import OtlpReceiver

    with OtlpReceiver() as part:
        yield part


@pytest.fixture
def files() -> Iterator[StaticFiles]:
    """An HTTP file server."""
    from tests.support.servers.static_files import StaticFiles

    with StaticFiles() as part:
        yield part


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Store]:
    """The session's S3 server; tests take `s3`."""
    from tests.support.servers.s3_store import S3Store

    with S3Store() as part:
        yield part


@pytest.fixture
def s3(s3_server: S3Store) -> S3Store:
    """An S3 store, empty at the beginning of the test."""
    s3_server.clear()
    return s3_server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium. Not the session's: while Playwright runs, no test of asyncio can."""
    from tests.support.servers.chromium import chromium

    with chromium() as part:
        yield part


@pytest.fixture
def nobody() -> Iterator[str]:
    """A base URL at which every connection is refused."""
    with nobody_listens() as url:
        yield url
