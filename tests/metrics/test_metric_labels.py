"""Two rubrics of one metric are told apart by their labels wherever scores are shown, counted or compared."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from pydantic import ValidationError

from testbench.cli.phase import main
from testbench.evaluate import command as evaluate
from testbench.gate import command as gate
from testbench.publish import command as publish
from testbench.schema.models import Metric
from tests.support.metric_samples import experiment, metric, scenario, step
from tests.support.servers.otlp_receiver import OtlpReceiver


def labelled(text: str, label: str | None) -> Metric:
    return metric("builtin.contains", 1.0, text=text).model_copy(update={"label": label})


@pytest.fixture
def evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of an answer that is kind and not short."""
    monkeypatch.chdir(tmp_path)
    return evaluation_of(labelled("sunny", "kind"), labelled("short", "brief"), Path("out.json"))


def evaluation_of(first: Metric, second: Metric, output: Path) -> Path:
    asked = experiment(scenario(step(answer="It is sunny.", metrics=(first, second))))
    Path("in.json").write_text(asked.model_dump_json(exclude_none=True))
    assert main(evaluate, ["--input", "in.json", "--output", str(output)]) == 0
    return output


def judged(file: Path, *options: str) -> int:
    return main(gate, ["--input", str(file), "--output", "verdict.json", "--junit", "junit.xml", *options])


def test_each_has_a_row_of_its_own(evaluated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(evaluate, ["--input", "in.json", "--output", str(evaluated), "--fresh"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows[1:3]] == ["kind", "brief"]


def test_each_has_a_case_of_its_own(evaluated: Path) -> None:
    assert judged(evaluated) == 1
    names = [case.get("name", "").partition(":")[0] for case in ET.parse("junit.xml").iter("testcase")]
    assert names == ["answered", "kind", "brief"]


def test_a_threshold_is_for_the_one_with_that_label(evaluated: Path) -> None:
    assert judged(evaluated, "--threshold", "brief=0") == 0
    assert judged(evaluated, "--threshold", "kind=0") == 1
    assert judged(evaluated, "--threshold", "builtin.contains=0") == 2


def test_each_has_a_gauge_of_its_own(evaluated: Path, otlp: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp.endpoint)
    assert main(publish, ["w", "e", "1", "--input", str(evaluated)]) == 0
    points = otlp.points_of("testbench_evaluation_metric")
    assert {point.attributes["name"]: point.value for point in points} == {"kind": 1.0, "brief": 0.0}


def test_a_label_that_means_another_metric_now_is_named(evaluated: Path) -> None:
    """Otherwise a baseline would compare what has nothing in common but its name."""
    other = metric("builtin.not_contains", 1.0, text="sunny").model_copy(update={"label": "kind"})
    now = evaluation_of(other, labelled("short", "brief"), Path("now.json"))
    judged(now, "--baseline", str(evaluated))
    (obstacle,) = json.loads(Path("verdict.json").read_text())["baseline"]["obstacles"]
    assert obstacle.startswith("kind differs: builtin.contains, ")
    assert "builtin.not_contains, " in obstacle


@pytest.mark.parametrize("label", ["", " ", "a|b", "<b>", "a\n", "a ", "`x`", "x" * 65, "*"])
def test_a_label_is_plain(label: str) -> None:
    with pytest.raises(ValidationError):
        Metric(metric_name="builtin.judge", label=label)
