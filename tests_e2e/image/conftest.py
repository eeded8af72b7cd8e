"""Fixtures of the image's tests: the engine, a volume, and the sample agent in a container of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import pytest

from tests.conftest import agent, files  # noqa: F401 - fixtures are found by their names here
from tests_e2e.conftest import READY
from tests_e2e.image.build import IMAGE
from tests_e2e.image.engine import USER, Container, Ended, Engine, Job, find_engine, finish

collect_ignore_glob = [] if "IMAGE_TEST" in os.environ else ["test_*.py"]


@dataclass(frozen=True)
class Box:
    """The image on one volume: what `docker run --volume …:/app/data IMAGE …` does."""

    engine: Engine
    volume: str
    env: dict[str, str] = field(default_factory=dict)

    def start(self, *arguments: str, env: Mapping[str, str] | None = None, user: str = USER) -> Container:
        return self.engine.start(IMAGE, Job(arguments, self.volume, self.env | dict(env or {}), user))

    def run(self, *arguments: str, env: Mapping[str, str] | None = None, user: str = USER) -> Ended:
        return finish(self.start(*arguments, env=env, user=user))

    def python(self, code: str) -> Ended:
        return self.run("python3", "-c", code)

    def read(self, path: str) -> str:
        """A file of the volume, read by the image's own user."""
        ended = self.run("cat", path)
        assert ended.code == 0, ended
        return ended.out

    def write(self, path: str, text: str) -> None:
        ended = self.run("sh", "-c", 'printf %s "$2" >"$1"', "sh", path, text)
        assert ended.code == 0, ended


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    found = find_engine()
    yield found
    found.close()


@pytest.fixture
def box(engine: Engine) -> Iterator[Box]:
    with engine.volume(IMAGE) as volume:
        yield Box(engine, volume)


@pytest.fixture(scope="session")
def agent_in_image(engine: Engine) -> Iterator[str]:
    """The sample agent of the image; its URL."""
    with engine.volume(IMAGE) as volume:
        agent = engine.start(IMAGE, Job(("python3", "-m", "testbench.samples.weather_agent", "--port", "0"), volume))
        try:
            assert agent.process.stdout is not None
            line = agent.process.stdout.readline()
            assert line.startswith(READY), line
            yield line.removeprefix(READY).strip()
        finally:
            agent.terminate()
            finish(agent)


@pytest.fixture
def closed(engine: Engine) -> Iterator[Callable[[Container], Container]]:
    """Hands a container on and sees to it that it ends with the test."""
    started: list[Container] = []

    def note(container: Container) -> Container:
        started.append(container)
        return container

    yield note
    for container in started:
        if container.process.poll() is None:
            container.terminate()
            finish(container)
