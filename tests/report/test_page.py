"""The page without a browser: what it is made of, what it forbids, and what it says where no script runs."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import UTC, datetime, timedelta, timezone
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import pytest

from testbench.gating.decision import reach_verdict
from testbench.report import load_report
from testbench.report.page import (
    cut_text,
    format_moment,
    format_money,
    format_percent,
    format_score,
    format_seconds,
    name_hidden_characters,
    read_chart_js,
    split_hidden_characters,
)
from testbench.report.render import SCRIPTS, STYLES
from testbench.results.comparison import to_baseline
from testbench.results.verdict import Policy
from testbench.schema.models import EvaluatedExperiment
from tests.support.hostile_report import BROKEN_CHARACTER, PAYLOADS, hostile_experiment
from tests.support.report_factory import experiment
from tests.support.report_files import report

POLICY = Policy(min_pass_rate=0.85, max_error_rate=0.1)
FOLDER = Path(str(resources.files("testbench.report")))


class Page(HTMLParser):
    """Every element with its attributes, and the text of scripts, styles and everything else."""

    def __init__(self, html: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": [], "title": [], "": []}
        self.types: list[str | None] = []
        self._open = ""
        self.feed(html.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in self.inside:
            self._open = tag
            self.inside[tag].append("")
            if tag == "script":
                self.types.append(dict(attrs).get("type"))

    def handle_endtag(self, tag: str) -> None:
        self._open = "" if tag == self._open else self._open

    def handle_data(self, data: str) -> None:
        if self._open:
            self.inside[self._open][-1] += data
        else:
            self.inside[""].append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.inside[""]).split())

    @property
    def policy(self) -> str:
        (content,) = (found["content"] for tag, found in self.elements if found.get("http-equiv"))
        assert content is not None
        return content


@pytest.fixture(scope="module")
def sample() -> Page:
    return Page(report(experiment(60), policy=POLICY))


@pytest.fixture(scope="module")
def hostile() -> Page:
    return Page(report(hostile_experiment(), workflow=PAYLOADS[1], baseline=to_baseline(hostile_experiment())))


def digest(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def test_the_policy_forbids_everything_but_what_the_page_brought(sample: Page) -> None:
    code = [text for text, kind in zip(sample.inside["script"], sample.types, strict=True) if kind is None]
    rules = dict(rule.split(" ", 1) for rule in sample.policy.split("; "))
    assert len(code) == 2
    assert rules == {
        "default-src": "'none'",
        "script-src": " ".join(map(digest, code)),
        "style-src": digest(sample.inside["style"][0]),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_the_policy_comes_before_everything_that_it_rules(sample: Page) -> None:
    names = [
        tag for tag, found in sample.elements if tag in ("script", "style", "link", "img") or found.get("http-equiv")
    ]
    assert names[0] == "meta"


@pytest.mark.parametrize("which", ["sample", "hostile"])
def test_nothing_comes_from_outside_and_nothing_runs_in_an_attribute(
    which: str, request: pytest.FixtureRequest
) -> None:
    page: Page = request.getfixturevalue(which)
    for tag, attributes in page.elements:
        assert tag not in ("iframe", "object", "embed", "base", "form", "img", "audio", "video")
        assert "src" not in attributes
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        assert (attributes.get("href") or "#").startswith(("#", "data:image/svg+xml,"))


def test_hostile_text_adds_no_element(sample: Page, hostile: Page) -> None:
    known = {tag for tag, _ in sample.elements}
    comparison = {"strong", "details", "summary"}
    assert {tag for tag, _ in hostile.elements} - known - comparison == set()
    assert [kind for kind in hostile.types if kind is None] == [None, None]


@pytest.mark.parametrize("payload", [payload for payload in PAYLOADS if payload.isprintable()])
def test_hostile_text_is_shown_as_it_is(hostile: Page, payload: str) -> None:
    assert " ".join(payload.split()) in hostile.text


def test_characters_that_nobody_sees_are_named(hostile: Page) -> None:
    for name in ("U+202E", "U+2028", "U+0000", "U+001B", "U+200B", "U+E0041"):
        assert name in hostile.text


def test_the_sentence_and_the_colour_are_the_gates(sample: Page) -> None:
    verdict = reach_verdict(experiment(60), POLICY)
    assert (verdict.verdict, verdict.sentence in sample.text) == ("fail", True)
    assert next(found["class"] for tag, found in sample.elements if tag == "section") == "verdict verdict--fail"
    assert sample.elements[0] == ("html", {"lang": "en", "data-verdict": "fail"})


def test_without_script_the_page_still_tells_the_story(sample: Page) -> None:
    for words in (
        "travel-desk-nightly",
        "synthetic-judge-1",
        "ragas.Faithfulness",
        "58 of 60",
        "0.80\u20130.89",
        "informs only",
    ):
        assert words in sample.text
    assert sum(tag == "details" for tag, _ in sample.elements) >= 50
    assert "The first 50 of 73 rows" in sample.text
    assert "search_connections" in sample.text
    assert "Every departure that the answer names" in sample.text


def test_a_metric_without_a_score_says_so_and_shows_no_zero() -> None:
    made = experiment(12)
    failed = [step.model_copy(update={"evaluations": ()}) for scenario in made.scenarios for step in scenario.steps]
    page = Page(
        report(made.model_copy(update={"scenarios": (made.scenarios[0].model_copy(update={"steps": tuple(failed)}),)}))
    )
    assert "no score" in page.text
    assert "0.00" not in page.text


def test_an_empty_experiment_is_no_verdict_in_grey() -> None:
    page = Page(report(EvaluatedExperiment(scenarios=())))
    assert page.elements[0][1]["data-verdict"] == "nothing"
    assert "NO VERDICT" in page.text


def test_the_same_input_gives_the_same_page() -> None:
    assert report(experiment(10)) == report(experiment(10))


def test_a_character_that_no_encoding_holds_breaks_nothing() -> None:
    assert b"U+D800" in report(experiment(1), workflow=BROKEN_CHARACTER)


def test_chart_js_is_the_official_build_of_version_4() -> None:
    source = read_chart_js()
    assert re.match(r"/\*!\n \* Chart\.js v4\.\d+\.\d+\n", source)
    assert "Released under the MIT License" in source[:200]
    assert "sourceMappingURL" not in source
    assert "http://" not in source.replace("http://www.w3.org", "")


def test_no_template_leaves_text_unescaped_and_no_script_makes_markup() -> None:
    for template in FOLDER.joinpath("templates").iterdir():
        assert not re.search(r"\|\s*safe\b|autoescape|Markup", template.read_text()), template
    for script in FOLDER.joinpath("assets").glob("*.js"):
        found = re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", script.read_text()
        )
        assert not found, script


def test_every_asset_is_in_a_page() -> None:
    used = {*SCRIPTS, *STYLES, *load_report.SCRIPTS, *load_report.STYLES}
    assert {path.name for path in FOLDER.joinpath("assets").iterdir()} == used


def test_values_read_as_people_write_them() -> None:
    assert [format_score(value) for value in (1.0, 0.9999, 0.996, 0.5, 0.0)] == ["1.00", "0.99", "0.99", "0.50", "0.00"]
    assert [format_percent(value) for value in (1.0, 0.99999, 0.975, 0.5)] == [
        "100\u202f%",
        "99.9\u202f%",
        "97.5\u202f%",
        "50\u202f%",
    ]
    assert [format_seconds(value) for value in (0.84, 12.34, 245, 7800)] == [
        "0.84 s",
        "12.3 s",
        "4 min 05 s",
        "2 h 10 min",
    ]
    assert [format_money(value) for value in (0, 0.000412, 1234.5)] == ["$0.00", "$0.000412", "$1,234.50"]
    assert cut_text("x" * 300, 240).endswith("(60 more characters)")
    berlin = timezone(timedelta(hours=1))
    assert format_moment(datetime(2026, 11, 21, 0, 30, tzinfo=berlin)) == "20 Nov 2026, 23:30 UTC"
    assert format_moment(datetime(2026, 11, 21, 0, 30, tzinfo=UTC).replace(tzinfo=None)) == "21 Nov 2026, 00:30 UTC"


def test_hidden_characters_are_named_and_nothing_is_lost() -> None:
    text = "a\u202eb\r\nc\td\ud800"
    assert list(split_hidden_characters(text)) == [(False, "a"), (True, "U+202E"), (False, "b\nc\td"), (True, "U+D800")]
    assert name_hidden_characters("a\u2028b") == "a[U+2028]b"
    assert "".join(shown for _, shown in split_hidden_characters("👩\u200d🚀 naïve שלום")) == "👩\u200d🚀 naïve שלום"
