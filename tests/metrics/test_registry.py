"""Finding metrics by name: frameworks loaded only when asked for, and what cannot be used is refused with a hint."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from testbench.errors import InputError
from testbench.metrics.adapter import FrameworkAdapter
from testbench.metrics.builtin.adapter import BuiltinAdapter
from testbench.metrics.judge.judge import Judge
from testbench.metrics.protocol import MetricCallable, MetricResult, MetricSpec, Parameter, Sample
from testbench.metrics.registry import FRAMEWORKS, GenericMetricsRegistry, missing_extras
from tests.support.metric_samples import metric, sample

ROOT = Path(__file__).parents[2]


class OtherAdapter(FrameworkAdapter):
    """A framework of a user's own, as an entry point would bring it."""

    framework = "ragas"

    def specs(self) -> Mapping[str, MetricSpec]:
        return {
            "Faithfulness": MetricSpec("ragas", "Faithfulness", "Is it so?", needs_llm=True),
            "Broken": MetricSpec("ragas", "Broken", "Never.", unavailable="the package x is missing"),
        }

    def aliases(self) -> Mapping[str, str]:
        return {"faithfulness": "Faithfulness"}

    def create(self, name: str, parameters: Mapping[str, Any], judge: Judge | None) -> MetricCallable:
        async def call(sample: Sample, **overrides: Any) -> MetricResult:
            return MetricResult(score=1.0)

        return call


@pytest.fixture
def registry() -> GenericMetricsRegistry:
    return GenericMetricsRegistry({"builtin": BuiltinAdapter, "ragas": OtherAdapter})


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Faithfulness", "ragas.Faithfulness"),
        ("ragas.Faithfulness", "ragas.Faithfulness"),
        ("faithfulness", "ragas.Faithfulness"),
        ("ragas.faithfulness", "ragas.Faithfulness"),
        ("builtin.tool_calls", "builtin.tool_calls"),
    ],
)
def test_names_with_and_without_framework(registry: GenericMetricsRegistry, name: str, found: str) -> None:
    assert registry.check(metric(name)).full_name == found


@pytest.mark.parametrize(
    ("name", "parameters", "message", "hint"),
    [
        ("Faithfullness", {}, "no metric 'Faithfullness'", "ragas.Faithfulness"),
        ("builtin.tool_cals", {}, "no metric", "builtin.tool_calls"),
        ("tool_calls", {}, "no metric 'tool_calls'", "builtin.tool_calls"),
        ("xyzzy", {}, "no metric", "--list-metrics"),
        ("deepevil.GEval", {}, "no metric framework 'deepevil'", "builtin, ragas"),
        ("ragass.Faithfulness", {}, "no metric framework 'ragass'", "ragas.Faithfulness"),
        ("builtin.contains", {"txt": "a"}, "no parameter 'txt'", "'text'"),
        ("builtin.latency", {}, "needs the parameter 'max_ms'", "max_ms"),
        ("builtin.latency", {"max_ms": "soon"}, "max_ms", "max_ms: float"),
        ("ragas.Broken", {}, "the package x is missing", "--list-metrics"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_hint(
    registry: GenericMetricsRegistry, name: str, parameters: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(InputError) as caught:
        registry.check(metric(name, **parameters))
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_equal_metrics_share_a_callable(registry: GenericMetricsRegistry) -> None:
    one, same, other = (registry.prepare(metric("builtin.contains", text=text), None) for text in ("a", "a", "b"))
    assert one is same
    assert one is not other


async def test_overrides_replace_parts_of_the_sample(registry: GenericMetricsRegistry) -> None:
    ready = registry.prepare(metric("builtin.contains", text="rain"), None)
    assert (await ready.call(sample("sunny"))).score == 0.0
    assert (await ready.call(sample("sunny"), response="rain")).score == 1.0


def test_a_framework_is_loaded_when_it_is_asked_for() -> None:
    loaded: list[str] = []

    def load() -> FrameworkAdapter:
        loaded.append("ragas")
        return OtherAdapter()

    registry = GenericMetricsRegistry({"builtin": BuiltinAdapter, "ragas": load})
    registry.check(metric("builtin.tool_calls"))
    assert loaded == []
    registry.check(metric("Faithfulness"))
    registry.check(metric("Faithfulness"))
    assert loaded == ["ragas"]


def test_parameters_are_described_as_users_write_them() -> None:
    described = {parameter.name: parameter for parameter in BuiltinAdapter().specs()["json_schema"].parameters}
    assert described["schema"] == Parameter(
        name="schema",
        type="dict[str, any]",
        required=True,
        description="The schema; draft 2020-12 unless it says otherwise.",
    )
    modes = {parameter.name: parameter.type for parameter in BuiltinAdapter().specs()["contains"].parameters}
    assert (modes["mode"], modes["text"], modes["casefold"]) == ("all | any", "str | list[str]", "bool")


@pytest.mark.parametrize("name", [name for name in FRAMEWORKS if name not in missing_extras()])
def test_every_adapter_can_be_loaded_by_a_fresh_process(name: str) -> None:
    code = f"""
import warnings; warnings.simplefilter("error")
from testbench.metrics.registry import FRAMEWORKS, GenericMetricsRegistry
registry = GenericMetricsRegistry()
adapter = registry._adapter({name!r})
assert adapter.framework == {name!r} and adapter.specs(), adapter
assert set(adapter.aliases().values()) <= set(adapter.specs())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")


ADAPTER = """
from testbench.metrics.adapter import FrameworkAdapter
from testbench.metrics.protocol import MetricSpec

class Adapter(FrameworkAdapter):
    framework = "mine"
    def specs(self):
        return {
            "Own": MetricSpec("mine", "Own", "Of a user's own."),
            "Asking": MetricSpec("mine", "Asking", "Needs what there is not.", required=("answer",)),
        }
    def create(self, name, parameters, judge):
        return {}[name]

class Elsewhere(Adapter):
    framework = "builtin"

class Forgetful(Adapter):
    framework = "forgetful"
    def specs(self):
        raise RuntimeError("no file")

class Unfinished(FrameworkAdapter):
    framework = "unfinished"
"""
ENTRIES = """[testbench.metrics]
mine = users_metrics:Adapter
broken = users_metrics:Missing
quits = users_quits:Adapter
elsewhere = users_metrics:Elsewhere
forgetful = users_metrics:Forgetful
unfinished = users_metrics:Unfinished
twice = users_metrics:Adapter
builtin = users_metrics:Elsewhere
"""


@pytest.fixture
def package_of_a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two installed packages: an adapter, several that are broken, one that wants to be `builtin`, one named twice."""
    (tmp_path / "users_metrics.py").write_text(ADAPTER)
    (tmp_path / "users_quits.py").write_text("raise SystemExit(0)")
    for name, entries in (("metrics", ENTRIES), ("others", "[testbench.metrics]\ntwice = others:Adapter\n")):
        info = tmp_path / f"users_{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: users-{name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(entries)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("package_of_a_user")
def test_a_package_of_a_user_adds_a_framework() -> None:
    registry = GenericMetricsRegistry()
    assert registry.check(metric("mine.Own")).description == "Of a user's own."
    assert registry.check(metric("builtin.tool_calls")).framework == "builtin"


@pytest.mark.usefixtures("package_of_a_user")
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("broken.Own", "broken cannot be loaded: AttributeError"),
        ("quits.Own", "quits cannot be loaded: SystemExit"),
        ("unfinished.Own", "unfinished cannot be loaded: TypeError"),
        ("forgetful.Own", "forgetful cannot list its metrics: its adapter failed with RuntimeError: no file"),
        ("elsewhere.Own", "'elsewhere' calls itself 'builtin'"),
        ("twice.Own", "several packages bring a metric framework 'twice': others:Adapter and users_metrics:Adapter"),
        ("mine.Asking", "mine.Asking needs 'answer', which no sample has"),
        ("mine.Own", "mine.Own cannot be made: its adapter failed with KeyError"),
    ],
)
def test_a_broken_package_of_a_user_is_named(name: str, told: str) -> None:
    with pytest.raises(InputError, match=re.escape(told)):
        GenericMetricsRegistry().prepare(metric(name), None)


def test_a_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbench.metrics.registry.find_spec", lambda name: None)
    with pytest.raises(InputError, match="need the package ragas"):
        GenericMetricsRegistry().check(metric("Faithfulness"))
