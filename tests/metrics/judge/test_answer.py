"""Reading what a judge said: JSON wherever it stands, and never a verdict that contradicts another."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from testbench.metrics.judge.answer import UnfitAnswerError, find_objects, read_answer
from testbench.metrics.judge.judge import Question


class Verdict(BaseModel):
    verdict: int
    reason: str = ""


QUESTION = Question("?", Verdict)
GOOD = '{"verdict": 1, "reason": "said {so}"}'


@pytest.mark.parametrize(
    "said",
    [
        GOOD,
        f"```json\n{GOOD}\n```",
        f"Here you go:\n\n```\n{GOOD}\n```\nAnything else?",
        f"Sure! {GOOD} Hope that helps {{:-)}}",
        f'<think>Is it {{"verdict": 0}}? No.</think>{GOOD}',
        f"{GOOD}\n{GOOD}",
        '{"verdict": 1, "verdict": 1, "reason": "said {so}"}',
        f"{{{{{{ {GOOD}",
        f'The input was {{"question": "x"}}. {GOOD}',
        '{"verdict": "1", "reason": "said {so}"}',
    ],
)
def test_an_answer_is_found_wherever_it_stands(said: str) -> None:
    assert read_answer(said, QUESTION) == Verdict(verdict=1, reason="said {so}")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("", "no JSON object"),
        ("The verdict is 1.", "no JSON object"),
        ('{"verdict": ', "no JSON object"),
        ('{"verdict": "yes"}', "verdict"),
        ('{"reason": "x"}', "verdict: Field required"),
        ("[1]", "no JSON object"),
        ('{"verdict": 1} and {"verdict": 0}', "contradict"),
        ('{"verdict": NaN}', "verdict"),
        ('{"a":' * 100, "no JSON object"),
        ('{"a":' * 5000, "too many fragments"),
        ('{"verdict": 0, "verdict": 1}', "gives 'verdict' two values"),
        ('{"verdict": 0, "x": {"y": 1, "y": 2}}', "gives 'y' two values"),
        ('{"verdict": 1, "reason": "\\ud83d"}', "half of a character"),
        ('{"verdict": "\uff11"}', "verdict"),
        ('{"verdict": 0.8}', "verdict"),
        ('{"verdict": "0.8/1"}', "verdict"),
        ('{"verdict": 1e999}', "verdict"),
    ],
)
def test_what_is_no_answer_says_why(said: str, told: str) -> None:
    with pytest.raises(UnfitAnswerError, match=told):
        read_answer(said, QUESTION)


def test_a_check_of_the_content_is_part_of_fitting() -> None:
    def check(answer: Verdict) -> str | None:
        return None if answer.verdict in (0, 1) else "verdict must be 0 or 1"

    with pytest.raises(UnfitAnswerError, match="0 or 1"):
        read_answer('{"verdict": 9}', Question("?", Verdict, check=check))


@pytest.mark.parametrize(
    "begun",
    [
        '{"' * 100_000,
        '{"a":' * 100_000,
        '{"a":' * 150 + "[" + "1," * 1_000_000,
        '{"a":"' + "x" * 1_000_000 + "\\" * 3 + '{"' * 300,
    ],
)
def test_objects_without_end_do_not_keep_us_busy(begun: str) -> None:
    with pytest.raises(UnfitAnswerError):
        read_answer(begun + GOOD, QUESTION)


def test_braces_and_many_objects_hide_nothing() -> None:
    assert read_answer("{" * 200_000 + GOOD, QUESTION).verdict == 1
    assert len(list(find_objects(json.dumps([{"a": n} for n in range(1000)])))) == 1000


def test_thoughts_without_end_do_not_keep_us_busy() -> None:
    assert read_answer("<think>" * 50_000 + GOOD, QUESTION).verdict == 1


@given(st.text().filter(lambda text: "{" not in text and "<" not in text), st.text())
def test_prose_without_braces_never_changes_an_answer(prose: str, reason: str) -> None:
    document: dict[str, Any] = {"verdict": 0, "reason": reason}
    assert read_answer(f"{prose}{json.dumps(document)}", QUESTION) == Verdict(**document)
