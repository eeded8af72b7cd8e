"""What a model said and what it cost, read from bytes as gateways really send them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbench.arena.targets.target import Prices
from testbench.openai_api.completion import (
    ErrorReplyError,
    EventStream,
    MalformedReplyError,
    PartialCompletion,
    RequestedCall,
    add_stated_cost,
    read_completion,
    total_usage,
)
from testbench.schema.models import Usage


def delta(index: int = 0, finish_reason: str | None = None, **said: Any) -> bytes:
    return json.dumps({"choices": [{"index": index, "delta": said, "finish_reason": finish_reason}]}).encode()


def call(index: int | None, call_id: str | None, name: str | None, arguments: str | None) -> dict[str, Any]:
    return {"index": index, "id": call_id, "function": {"name": name, "arguments": arguments}}


def read(*payloads: bytes) -> PartialCompletion:
    reading = PartialCompletion()
    for payload in payloads:
        reading.add(payload)
    return reading


def test_only_the_first_choice_is_the_answer() -> None:
    reading = read(delta(content="yes"), delta(1, content="no"), delta(finish_reason="stop"))
    assert reading.completion().text == "yes"


def test_an_answer_in_parts_is_their_text() -> None:
    parts = [{"type": "thinking", "thinking": []}, {"type": "text", "text": "yes"}]
    body = json.dumps({"choices": [{"message": {"content": parts}}]}).encode()
    assert read_completion(body).text == "yes"


def test_calls_are_put_together_from_their_pieces() -> None:
    reading = read(
        delta(tool_calls=[call(0, "a", "first", '{"x"')]),
        delta(tool_calls=[call(1, "b", "second", "")]),
        delta(tool_calls=[call(0, None, None, ": 1}")]),
        delta(finish_reason="tool_calls"),
    )
    assert reading.completion().calls == (RequestedCall("a", "first", '{"x": 1}'), RequestedCall("b", "second", ""))


@pytest.mark.parametrize("index", [0, None])
def test_whole_calls_of_a_gateway_that_does_not_count_are_told_apart(index: int | None) -> None:
    reading = read(
        delta(tool_calls=[call(index, "a", "time", "{}")]),
        delta(tool_calls=[call(index, "b", "time", "{}")]),
        delta(finish_reason="stop"),
    )
    assert [one.id for one in reading.completion().calls] == ["a", "b"]


def test_calls_without_ids_get_some() -> None:
    calls = [{"function": {"name": "time", "arguments": {"x": 1}}}] * 2
    body = json.dumps({"choices": [{"message": {"tool_calls": calls}}]}).encode()
    assert read_completion(body).calls == (
        RequestedCall("call_0", "time", '{"x": 1}'),
        RequestedCall("call_1", "time", '{"x": 1}'),
    )


def test_calls_have_a_bound() -> None:
    with pytest.raises(MalformedReplyError, match="more than 64"):
        read(delta(tool_calls=[call(number, f"c{number}", "time", "") for number in range(65)]))


def test_an_error_in_a_good_reply_is_an_error() -> None:
    with pytest.raises(ErrorReplyError) as caught:
        read_completion(b'{"error": {"message": "no", "code": 429}}')
    assert caught.value.status == 429


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1), min_size=1), st.data())
def test_a_stream_means_the_same_wherever_it_is_cut(payloads: list[str], data: st.DataObject) -> None:
    stream = ": hello\r\n\r\n" + "".join(f"data: {payload}\r\n\r\n" for payload in payloads)
    raw = stream.encode().removesuffix(b"\r\n")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)))))
    events = EventStream()
    found = [
        event for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True) for event in events.feed(raw[start:end])
    ]
    assert [*found, *events.end()] == [payload.encode() for payload in payloads]


PRICES = Prices(1.0, 2.0)


def priced(usage: Usage | None, header: str | None) -> Usage | None:
    return PRICES.add_cost(add_stated_cost(usage, header))


def test_a_cost_that_the_reply_states_comes_before_any_other() -> None:
    usage = Usage(input_tokens=1000, output_tokens=1000, cost_usd=0.5)
    assert priced(usage, "0.7") == usage
    bare = usage.model_copy(update={"cost_usd": None})
    assert [priced(bare, cost).cost_usd for cost in ("0.7", None, "much", "-1", "nan")] == [0.7, 3.0, 3.0, 3.0, 3.0]  # type: ignore[union-attr]
    assert priced(Usage(input_tokens=1000), None) == Usage(input_tokens=1000)
    assert priced(None, None) is None
    assert priced(None, "0.7") == Usage(cost_usd=0.7)


def test_a_sum_with_an_unknown_part_is_unknown() -> None:
    known = Usage(input_tokens=1, output_tokens=2, cost_usd=0.25)
    assert total_usage([known, known]) == Usage(input_tokens=2, output_tokens=4, cost_usd=0.5)
    assert total_usage([known, Usage(input_tokens=1)]) == Usage(input_tokens=2)
    assert total_usage([known, None]) is None
    assert total_usage([]) is None
