"""The summary in Markdown: what it says, and that no text of a dataset, an agent or a judge can do anything in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from testbench.gating.decision import reach_verdict
from testbench.gating.markdown import render_markdown, to_code_span
from testbench.results.verdict import Policy
from testbench.schema.models import EvaluatedExperiment
from tests.support.gate_samples import (
    attempts,
    quarantined,
    recorded,
    run_of,
    scenario,
    step,
    verdict_against,
    verdict_on,
)

HOSTILE = (
    "@everyone",
    "#1",
    "GH-1",
    "https://evil.example/",
    "![x](https://evil.example/pixel.png)",
    "<img src=x onerror=alert(1)>",
    "</details><script>alert(1)</script>",
    "``` `` ` | \\| \\` <b>",
    "`",
    "a\n\n# heading\n\n| x |",
    "<!-- -->",
    "&#64;everyone &lt;b&gt;",
    "\u202e\u0000\u001b[31m",
    "[x]: https://evil.example",
    "- [ ] todo",
    "$\\rm x$",
)
OURS = re.compile(
    r"</?(details|summary)>|<h[23]>|</h[23]>|</?(p|code|ul|li|table|thead|tbody|tr|th|td)( style=\"[^\"]*\")?>"
)


def rendered(text: str) -> str:
    return str(MarkdownIt("commonmark", {"html": True}).enable("table").render(text))


def outside_of_code(html: str) -> str:
    return re.sub(r"<code>.*?</code>", "", html, flags=re.DOTALL)


def hostile_run(text: str, day: int) -> EvaluatedExperiment:
    """A run in which every text that is not ours is `text`; on another day it fails elsewhere."""
    metric = {"metric_name": text, "threshold": 0.9}
    scenarios: list[dict[str, Any]] = []
    for number, result in enumerate(("pass", "fail", "error") if day == 1 else ("fail", "pass", "fail")):
        made = step(result)
        made |= {"id": f"stp_{number}", "input": text, "metrics": [metric]}
        made["evaluations"] = [one | {"metric": metric} for one in made["evaluations"]]
        if result == "error":
            made["evaluations"][0]["result"]["error"] = {"kind": text, "message": text}
        scenarios += [{"name": text, "id": f"scn_{number}", "steps": [made], "tags": [text], "repetition": 1}]
    return run_of(*scenarios, **recorded(version=text, day=day)).model_copy(update={"id": text})


@pytest.mark.parametrize("text", HOSTILE)
def test_untrusted_text_is_never_more_than_code(text: str) -> None:
    now = hostile_run(text, day=2)
    document = render_markdown(verdict_against(hostile_run(text, day=1), now), now, text)
    html = rendered(document)
    assert OURS.sub("", outside_of_code(html)).count("<") == 0, html
    for mark in ("@", "#1", "evil", "alert", "GH-", "todo", "heading"):
        assert mark not in outside_of_code(html)
    assert "\x1b" not in document
    assert "\u202e" not in document


@given(st.text(alphabet="`|\\<>@#&;a \n!*_[]()", min_size=1))
def test_any_text_is_one_code_span(text: str) -> None:
    html = rendered(to_code_span(text))
    assert re.fullmatch(r"<p><code>[^<]*</code></p>\n", html), html


def test_it_says_what_failed_what_was_not_judged_and_what_is_flaky() -> None:
    made = [
        *attempts("flaky", "pass", "fail"),
        *attempts("down", "error", "error"),
        *[quarantined(one) for one in attempts("known", "fail", "fail")],
    ]
    document = render_markdown(verdict_on(made), run_of(*made), "nightly")
    assert document.startswith("## ⚠️ NO VERDICT: 2 of 4 attempts at 2 steps could not be judged")
    assert "2 of 4 judged, pass rate 50%" in document
    assert "2 in quarantine, not counted" in document
    assert "<details><summary>Failed: 1</summary>\n\n- `flaky`: `flaky 1` 1/2\n" in document
    assert "<details><summary>Not judged: 1</summary>\n\n- `down`: `down 1` 0/2\n" in document
    assert "- `flaky`: `flaky 1` passed 1/2" in document


def test_a_result_that_is_lost_is_not_scored() -> None:
    made = [scenario("a", "pass"), scenario("b", "pass")]
    made[1]["steps"][0]["evaluations"] = []
    document = render_markdown(verdict_on(made), run_of(*made), "nightly")
    assert "| `builtin.exact_match` | 1 of 2 | 1.000 | 1 | 0 | 1 |" in document


def test_a_shard_that_is_called_anything_is_no_markup() -> None:
    run = run_of(
        scenario("a", "pass"), **recorded() | {"run": recorded()["run"] | {"shard": "1\n\n# www.evil.example"}}
    )
    verdict = reach_verdict(run, Policy())
    assert verdict.sentence == "NO VERDICT: this is a shard of a run and not the whole; merge them first."


def test_it_names_what_changed_since_the_baseline() -> None:
    before = run_of(scenario("a", "pass"), scenario("b", "fail"), scenario("old", "pass"), **recorded("1.0", 1))
    now = run_of(scenario("a", "fail"), scenario("b", "pass"), scenario("new", "pass"), **recorded("1.1", 2))
    document = render_markdown(verdict_against(before, now), now, "nightly")
    for words in (
        "### Against the baseline",
        "Baseline: `earlier.json`",
        "- `a`: `a 1` 1/1 → 0/1",
        "- `b`: `b 1` 0/1 → 1/1",
        "- `new`: `new 1`",
        "- `old`: `old 1`",
        "The agent's version differs: 1.0 before, 1.1 now.",
        "would be seen reliably",
    ):
        assert words in document


def test_its_length_is_bounded(tmp_path: Path) -> None:
    made = [scenario("x" * 500 + str(number), "fail", tags=[f"t{number}" * 50]) for number in range(300)]
    verdict = verdict_against(run_of(*made[:200]), run_of(*made[100:]), **Policy().model_dump())
    document = render_markdown(verdict, run_of(*made[100:]), "nightly")
    assert len(document.encode()) < 60_000
    assert "… and 180 more" in document
