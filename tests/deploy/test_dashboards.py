"""The Grafana dashboards: they ask only for what publish sends, and find it long after a single push."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import promql_parser
import pytest
import yaml

from testbench.results.summary import summarize
from testbench.schema.models import Usage
from testbench.telemetry.attributes import DESCRIPTIONS
from testbench.telemetry.points import Execution, aggregate_points, samples, score_points
from tests.support.telemetry_samples import experiment, judged, paid, scenario, step

FOLDER = Path(__file__).parents[2] / "deploy" / "base" / "grafana-dashboards"
FILES = sorted(FOLDER.glob("*.json"))
VARIABLE = re.compile(r"\$\{?(\w+)")
SELECTOR = re.compile(r"(testbench_\w+)\{([^}]*)\}")
LABEL = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"')
Json = dict[str, Any]


def load(path: Path) -> Json:
    loaded: Json = json.loads(path.read_text())
    return loaded


def panels(dashboard: Json) -> Iterator[Json]:
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", ())


def queries(dashboard: Json) -> Iterator[str]:
    yield from (target["expr"] for panel in panels(dashboard) for target in panel.get("targets", ()))
    yield from (each["query"] for each in variables(dashboard) if each["type"] == "query")


def variables(dashboard: Json) -> list[Json]:
    listed: list[Json] = dashboard["templating"]["list"]
    return listed


def labels_of_gauges() -> dict[str, set[str]]:
    """The attributes that each gauge is published with."""
    execution = Execution("w", "e", 1)
    usage = Usage(input_tokens=1, output_tokens=1, cost_usd=1)
    evaluated = experiment(scenario(step(paid(judged("a", 1), usage))))
    scores = score_points(samples(evaluated), execution, content=True)
    points = [*scores, *aggregate_points(summarize(evaluated), execution)]
    return {point.gauge: set(point.attributes) for point in points}


@pytest.fixture(params=FILES, ids=lambda path: path.name)
def dashboard(request: pytest.FixtureRequest) -> Json:
    return load(request.param)


def test_there_are_the_two() -> None:
    assert [load(path)["uid"] for path in FILES] == ["testbench-execution", "testbench-trends"]


def test_every_panel_is_known_by_one_id_and_says_what_it_shows(dashboard: Json) -> None:
    ids = [panel["id"] for panel in panels(dashboard)]
    assert len(ids) == len(set(ids))
    shown = [panel for panel in panels(dashboard) if panel["type"] != "row"]
    assert all(panel["description"] and panel["title"] for panel in shown)
    assert {panel["fieldConfig"]["defaults"]["noValue"] for panel in shown} == {"nothing published"}


def test_panels_do_not_lie_on_each_other(dashboard: Json) -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in panels(dashboard):
        place = panel["gridPos"]
        for column in range(place["x"], place["x"] + place["w"]):
            for line in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((column, line), panel["title"]) == panel["title"]
                assert column < 24


def test_times_are_relative_and_data_sources_are_chosen(dashboard: Json) -> None:
    assert dashboard["time"]["from"].startswith("now-")
    assert dashboard["time"]["to"] == "now"
    sources = [panel["datasource"] for panel in panels(dashboard) if "datasource" in panel]
    sources += [target["datasource"] for panel in panels(dashboard) for target in panel.get("targets", ())]
    assert {source["uid"] for source in sources} == {"${datasource}"}


def test_every_variable_is_declared(dashboard: Json) -> None:
    known = {each["name"] for each in variables(dashboard)}
    used = {name for query in queries(dashboard) for name in VARIABLE.findall(query)}
    assert {name for name in used if not name.startswith("__")} <= known
    assert {each["name"] for each in variables(dashboard) if each["type"] == "query"} <= used


def test_queries_ask_for_what_is_published(dashboard: Json) -> None:
    published = labels_of_gauges()
    assert set(published) == set(DESCRIPTIONS)
    asked = {name for query in queries(dashboard) for name in re.findall(r"testbench_\w+", query)}
    assert asked <= set(published)
    for query in queries(dashboard):
        for gauge, selector in SELECTOR.findall(query):
            assert set(LABEL.findall(selector)) <= published[gauge], query


def test_every_query_of_a_panel_is_promql(dashboard: Json) -> None:
    for panel in panels(dashboard):
        for target in panel.get("targets", ()):
            promql_parser.parse(re.sub(r"\$(?:__\w+|\{__\w+\})", "1h", target["expr"]))


def test_trends_show_every_gauge_but_that_of_single_steps() -> None:
    asked = {name for query in queries(load(FOLDER / "trends.json")) for name in re.findall(r"testbench_\w+", query)}
    assert asked == set(DESCRIPTIONS) - {"testbench_evaluation_metric"}


def test_queries_still_answer_an_hour_after_a_push(dashboard: Json) -> None:
    """A sample is found for five minutes, so each selector looks back over a range, in one of two ways."""
    looks_back = re.compile(
        r"last_over_time\(testbench_\w+\{[^}]*\}\[\$__(?:range|interval)\]\)"
        r"|max_over_time\(timestamp\(testbench_\w+\{[^}]*\}\)\[\$\{__range\}:5m\]\)"
    )
    for panel in panels(dashboard):
        for target in panel.get("targets", ()):
            assert "testbench_" not in looks_back.sub("", target["expr"]), panel["title"]
            assert ("$__interval" in target["expr"]) == target["range"], panel["title"]


def test_the_dashboards_lead_to_each_other() -> None:
    uids = {load(path)["uid"] for path in FILES}
    for path in FILES:
        text = path.read_text()
        linked = set(re.findall(r"/d/([\w-]+)/", text))
        assert linked == uids - {load(path)["uid"]}


def test_a_row_leads_to_its_trace() -> None:
    tables = [panel for panel in panels(load(FOLDER / "execution-details.json")) if panel["type"] == "table"]
    assert [panel["title"] for panel in tables] == ["Failing steps", "All steps"]
    for panel in tables:
        [link] = panel["fieldConfig"]["defaults"]["links"]
        [panes] = parse_qs(urlsplit(link["url"]).query)["panes"]
        query = json.loads(panes)["trace"]["queries"][0]
        assert query["query"] == "${__data.fields.Trace}"
        assert query["datasource"] == {"type": "tempo", "uid": "${tempo}"}
        [organize] = [each["options"] for each in panel["transformations"] if each["id"] == "organize"]
        assert organize["renameByName"]["trace_id"] == "Trace"


def test_every_dashboard_becomes_a_config_map() -> None:
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    packed = [file for generator in kustomization["configMapGenerator"] for file in generator["files"]]
    assert sorted(packed) == [path.name for path in FILES]
    assert kustomization["generatorOptions"]["labels"]["grafana_dashboard"] == "1"
