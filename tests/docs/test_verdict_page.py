"""The page that explains the verdict: its example is run, and every sentence in its boxes is what the code says."""

from __future__ import annotations

import re
from pathlib import Path

from testbench.gating.decision import show_percent
from testbench.schema.models import EvaluatedExperiment
from tests.support.gate_samples import recorded, run_of, scenario, verdict_against, verdict_on

PAGE = (Path(__file__).parents[2] / "docs/explanation/verdict.md").read_text()
TEXT = " ".join(PAGE.split())
BEFORE, NOW = {3, 17, 29}, {3, 8, 12, 21, 33, 40}


def fifty(fails: set[int], errors: frozenset[int] = frozenset(), day: int = 1) -> EvaluatedExperiment:
    ends = ["fail" if n in fails else "error" if n in errors else "pass" for n in range(50)]
    return run_of(*(scenario(f"question {n}", end) for n, end in enumerate(ends)), **recorded(day=day))


def test_every_sentence_in_a_box_is_what_the_code_says() -> None:
    alone = [one.model_dump(mode="json") for one in fifty(NOW).scenarios]
    unknown = [one.model_dump(mode="json") for one in fifty(NOW, frozenset({1, 2, 4})).scenarios]
    against = verdict_against(fifty(BEFORE), fifty(NOW, day=2), min_pass_rate=0.8)
    worse = verdict_against(fifty(BEFORE), fifty(NOW | set(range(41, 47)), day=2), min_pass_rate=0.7)
    assert against.baseline is not None
    assert against.baseline.power is not None
    said = [
        verdict_on(alone, min_pass_rate=0.8).sentence,
        verdict_on(unknown, min_pass_rate=0.85, max_error_rate=0.1).sentence,
        against.sentence,
        against.baseline.power.sentence,
        worse.sentence,
    ]
    assert re.findall(r"```text\n(.*)\n```", PAGE) == said


def test_every_number_in_its_text_is_computed() -> None:
    verdict = verdict_against(fifty(BEFORE), fifty(NOW, day=2), min_pass_rate=0.8)
    assert verdict.interval is not None
    assert verdict.baseline is not None
    assert f"between {show_percent(verdict.interval.low)} and {show_percent(verdict.interval.high)}" in TEXT
    assert (len(verdict.baseline.worse), len(verdict.baseline.better)) == (5, 2)
    assert "five that passed now fail, and two that failed now pass" in TEXT
    assert f"in {round(100 * verdict.baseline.tests[0].p_value)} of 100 comparisons" in TEXT
