"""Events, cut anywhere, are put together into the reply that the agent would have sent at once."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbench.a2a_protocol.streams import EventParser, ReplyAssembly, ServerEvent, text_of
from testbench.a2a_protocol.tolerance import ReplyMender
from tests.support.servers.raw_agent import artifact_03, message_03, status_03, task_03


def parsed(body: bytes, *cuts: int) -> list[tuple[str, str]]:
    parser, places = EventParser(), [0, *sorted(cuts), len(body)]
    events: list[ServerEvent] = []
    for begin, end in pairwise(places):
        events += parser.feed(body[begin:end])
    return [(event.name, event.data) for event in [*events, *parser.end()]]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@given(cuts=st.lists(st.integers(0, 90)))
def test_bytes_may_be_cut_anywhere_also_within_a_character(end: str, cuts: list[int]) -> None:
    lines = [
        "\ufeff: hi",
        ": keep-alive",
        "",
        "data: größer",
        "data:  als 4 m",
        "",
        "event: error",
        "id: 7",
        "data: ✓",
        "",
    ]
    expected = [("message", "größer\n als 4 m"), ("error", "✓")]
    assert parsed(end.join([*lines, ""]).encode(), *cuts) == expected


def test_the_last_event_counts_without_its_empty_line() -> None:
    assert parsed(b"data: one\n\ndata: two") == [("message", "one"), ("message", "two")]
    assert parsed(b": nothing") == []


def assembled(*events: Any) -> ReplyAssembly:
    assembly = ReplyAssembly(ReplyMender("0.3"))
    for event in events:
        assembly.add(event)
    return assembly


def texts(assembly: ReplyAssembly) -> list[list[str]]:
    artifacts = (assembly.reply() or {}).get("artifacts", [])
    return [[part["text"] for part in artifact["parts"]] for artifact in artifacts]


def test_pieces_of_an_artifact_are_appended_and_others_replace_it() -> None:
    assembly = assembled(
        task_03(state="working"),
        artifact_03("draft"),
        artifact_03("12"),
        artifact_03(".5", append=True),
        artifact_03("°C", append=True),
        artifact_03("more", append=True, id="artifact-2"),
    )
    assert texts(assembly) == [["12", ".5", "°C"], ["more"]]
    assert not assembly.finished
    assembly.add(status_03("completed", final=True))
    assert assembly.finished


def test_the_size_is_that_of_what_is_kept() -> None:
    """Agents exist that send the whole text so far with every token."""
    assembly = assembled()
    for _ in range(3):
        assembly.add(artifact_03("whole"), 100)
    assert assembly.size == 100
    for _ in range(3):
        assembly.add(artifact_03("more", append=True), 10)
    assembly.add(artifact_03("other", id="artifact-2"), 7)
    assembly.add(status_03("working", "on it"), 3)
    assert assembly.size == 140
    assembly.add(artifact_03("anew"), 20)
    assert assembly.size == 30
    assembly.add(task_03("all"), 50)
    assert assembly.size == 50


def test_a_status_leaves_its_message_in_the_history_when_the_next_one_comes() -> None:
    assembly = assembled(status_03("working", "one"), status_03("working", "two"), status_03("completed", "done"))
    reply = assembly.reply() or {}
    assert [message["parts"][0]["text"] for message in reply["history"]] == ["one", "two"]
    assert reply["status"]["message"]["parts"][0]["text"] == "done"
    assert (reply["kind"], reply["id"], reply["contextId"], assembly.task_id) == (
        "task",
        "task-1",
        "context-1",
        "task-1",
    )


def test_a_status_that_goes_on_takes_the_place_of_the_one_before() -> None:
    """LangGraph sends the text so far with every token."""
    assembly = assembled()
    beginning = "It is quite warm in Berlin"
    for text in ("1", "10", beginning, f"{beginning},", f"{beginning}, 21 degrees."):
        assembly.add(status_03("working", text), 100)
    assembly.add(status_03("completed"), 5)
    told = [message["parts"][0]["text"] for message in (assembly.reply() or {})["history"]]
    assert told == ["1", "10", f"{beginning}, 21 degrees."]
    assert assembly.size == 305


def test_a_task_is_a_snapshot_of_all_that_came_before() -> None:
    assembly = assembled(artifact_03("lost"), task_03("whole"), artifact_03(" and more", append=True))
    assert texts(assembly) == [["whole", " and more"]]


@pytest.mark.parametrize(
    ("last", "finished"),
    [
        (message_03("hi"), True),
        (task_03("hi"), True),
        (status_03("input-required", "which?"), True),
        (status_03("TASK_STATE_FAILED"), True),
        (status_03("working", final=True), True),
        (status_03("working"), False),
        (status_03("weird"), False),
        (artifact_03("hi"), False),
    ],
)
def test_when_nothing_more_will_come(last: dict[str, Any], finished: bool) -> None:
    assert assembled(last).finished == finished


def test_what_is_no_event_says_nothing() -> None:
    assembly = assembled(None, 3, [], {}, {"kind": "artifact-update", "artifact": None}, {"x": {"kind": "task"}})
    assert (assembly.reply(), assembly.task_id) == (None, None) or texts(assembly) == [[]]


def test_a_message_within_a_task_is_part_of_its_history() -> None:
    reply = assembled(task_03("answer"), message_03("aside")).reply() or {}
    assert (reply["kind"], reply["history"][-1]["parts"][0]["text"]) == ("task", "aside")


def test_a_task_that_may_have_lost_events_has_not_ended() -> None:
    assembly = assembled(task_03("answer"))
    assembly.whole = False
    assert (assembly.reply() or {})["status"] == {"state": "working"}


@pytest.mark.parametrize(
    ("event", "found"),
    [
        (artifact_03("one"), ("one", True)),
        (message_03("one"), ("one", True)),
        (status_03("working", "one"), ("one", False)),
        (task_03("one", status_text="two"), ("one", True)),
        (task_03(status_text="two"), ("two", False)),
        (task_03(), ("", False)),
        (artifact_03("  "), ("", False)),
        (json.loads("3"), ("", False)),
    ],
)
def test_the_first_text_of_an_event(event: Any, found: tuple[str, bool]) -> None:
    assert text_of(event) == found
