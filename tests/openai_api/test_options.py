"""What a gateway refuses is left out or called otherwise, one option after the other, and nothing else is."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from testbench.openai_api.options import ALL_OPTIONS, REPHRASABLE, Json, Option, find_refused, without_refused

STRICT = {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": {}}}
REQUEST: Json = {
    "model": "m",
    "messages": [],
    "temperature": 0.5,
    "max_tokens": 5,
    "stream": True,
    "stream_options": {"include_usage": True},
    "response_format": STRICT,
}


@given(st.sets(st.sampled_from(sorted(ALL_OPTIONS))))
def test_a_request_keeps_all_that_was_not_refused(refused: Iterable[Option]) -> None:
    refused = set(refused)
    before = dict(REQUEST)
    sent = without_refused(REQUEST, refused)
    assert before == REQUEST
    assert (sent["model"], sent["messages"], sent["stream"]) == ("m", [], True)
    assert ("temperature" in sent) is ("temperature" not in refused)
    assert ("stream_options" in sent) is ("stream_options" not in refused)
    assert sent.get("max_completion_tokens" if "max_tokens" in refused else "max_tokens") == 5
    form = sent.get("response_format", {}).get("type")
    assert form == (
        "json_schema" if "json_schema" not in refused else None if "json_object" in refused else "json_object"
    )


def test_what_is_complained_of_is_found_until_nothing_is_left() -> None:
    refused: set[Option] = set()
    complaints = ("Response_Format is unknown", "no JSON mode", "max_tokens", "temperature", "stream_options")
    for complaint in complaints:
        option = find_refused(without_refused(REQUEST, refused), complaint, ALL_OPTIONS)
        assert option is not None
        refused.add(option)
    assert refused == ALL_OPTIONS
    bare = without_refused(REQUEST, refused)
    assert [find_refused(bare, complaint, ALL_OPTIONS) for complaint in complaints] == [None] * 5


def test_an_option_that_decides_the_answer_is_dropped_only_for_those_who_allow_it() -> None:
    assert find_refused(REQUEST, "temperature", REPHRASABLE) is None
    assert find_refused(REQUEST, "max_tokens", REPHRASABLE) == "max_tokens"
    assert find_refused(REQUEST, "the model does not exist", ALL_OPTIONS) is None
