"""A field that nobody needs never costs the answer, and what is well-formed stays as it is."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from a2a.compat.v0_3 import conversions
from a2a.compat.v0_3 import types as types_03
from a2a.types import Message, SendMessageResponse, Task
from google.protobuf.json_format import ParseDict
from hypothesis import given, settings
from hypothesis import strategies as st

from testbench.a2a_protocol.parts import plain
from testbench.a2a_protocol.tolerance import STATE_AS_SENT, Generation, ReplyMender, unwrap

NEW, OLD = ReplyMender("1.0"), ReplyMender("0.3")
TEXT = {"1.0": {"text": "one"}, "0.3": {"kind": "text", "text": "one"}}


def read(value: Any, generation: Generation) -> Task | Message:
    """The reply as the SDK of this generation reads it, strictly."""
    mended = ReplyMender(generation).reply(value)
    if generation == "1.0":
        response = ParseDict(mended, SendMessageResponse(), ignore_unknown_fields=True)
        return response.task if response.HasField("task") else response.message
    if mended["kind"] == "message":
        return conversions.to_core_message(types_03.Message.model_validate(mended))
    return conversions.to_core_task(types_03.Task.model_validate(mended))


def texts(reply: Task | Message) -> list[str]:
    holders = reply.artifacts if isinstance(reply, Task) else [reply]
    return [part.text for holder in holders for part in holder.parts if part.WhichOneof("content") == "text"]


def task(generation: Generation, **fields: Any) -> dict[str, Any]:
    parts = [{"kind": "text", "text": "one"}] if generation == "0.3" else [{"text": "one"}]
    state = "completed" if generation == "0.3" else "TASK_STATE_COMPLETED"
    known = {
        "id": "t",
        "contextId": "c",
        "status": {"state": state},
        "artifacts": [{"artifactId": "a", "parts": parts}],
    }
    whole = known | fields
    return {"kind": "task"} | whole if generation == "0.3" else {"task": whole}


GENERATIONS = pytest.mark.parametrize("generation", ["1.0", "0.3"])


@GENERATIONS
@pytest.mark.parametrize(
    "stamp",
    [
        "2025-05-15T16:44:31.104805",
        "2025-05-15 16:44:31Z",
        "2025-05-15T16:44Z",
        "2025-05-15t16:44:31z",
        "2025-05-15T16:44:31.1234567891Z",
        "2025-13-45T99:99:99Z",
        "0000-01-01T00:00:00Z",
        "٢٠٢٥-05-15T16:44:31Z",
        "yesterday",
        "",
        1747327471,
        1747327471.5,
        {"seconds": 1},
        ["now"],
        True,
        None,
    ],
    ids=str,
)
def test_a_time_stamp_never_costs_the_answer(generation: Generation, stamp: Any) -> None:
    name = "completed" if generation == "0.3" else "TASK_STATE_COMPLETED"
    reply = read(task(generation, status={"state": name, "timestamp": stamp}), generation)
    assert texts(reply) == ["one"]


@GENERATIONS
@pytest.mark.parametrize(
    "state", ["completed", "COMPLETED", "Completed", "TASK_STATE_COMPLETED", "task_state_completed", 3]
)
def test_a_state_is_understood_however_it_is_written(generation: Generation, state: Any) -> None:
    reply = read(task(generation, status={"state": state}), generation)
    assert isinstance(reply, Task)
    assert reply.status.state == 3


@GENERATIONS
@pytest.mark.parametrize(
    ("written", "number"),
    [("input_required", 6), ("INPUT-REQUIRED", 6), ("auth required", 8), ("cancelled", 5), ("TASK_STATE_CANCELED", 5)],
)
def test_states_of_two_words_and_two_spellings(generation: Generation, written: str, number: int) -> None:
    reply = read(task(generation, status={"state": written}), generation)
    assert isinstance(reply, Task)
    assert reply.status.state == number


@GENERATIONS
@pytest.mark.parametrize(("state", "kept"), [("weird", "weird"), (99, "99"), (True, "True"), (None, ""), ([], "[]")])
def test_a_state_that_is_not_known_is_kept_as_it_was_sent(generation: Generation, state: Any, kept: str) -> None:
    reply = read(task(generation, status={"state": state}, metadata={"mine": 1}), generation)
    assert isinstance(reply, Task)
    assert (reply.status.state, reply.metadata[STATE_AS_SENT], reply.metadata["mine"]) == (0, kept, 1)


@GENERATIONS
@pytest.mark.parametrize(
    "fields",
    [
        {"history": None, "metadata": None},
        {"history": "none", "metadata": "none"},
        {"history": [None, 3, {"role": "agent"}, {"role": "system", "parts": [None, {"text": None}]}]},
        {"history": [{"messageId": 5, "role": None, "parts": None, "extensions": 3, "referenceTaskIds": [1, "x"]}]},
        {"id": 7, "contextId": 8},
        {"status": "completed"},
        {"status": {"state": "completed", "message": None}},
        {"status": {"state": "completed", "message": 5}},
        {"artifacts": [None, {"name": 3, "description": [], "metadata": 1, "extensions": None, "parts": ["one"]}]},
        {"artifacts": [{"parts": {"text": "one"}}]},
        {"artifacts": [{"artifact_id": "a", "parts": [{"root": {"kind": "text", "text": "one"}}, {}, None, 4]}]},
        {"artifacts": [{"artifactId": "a", "parts": [{"type": "text", "text": "one", "metadata": []}]}]},
        {"artifacts": [{"artifactId": "a", "parts": [{"text": "one", "data": None, "raw": None}]}]},
        {"artifacts": [{"artifactId": "a", "parts": [{"text": "one", "data": {"x": 1}}]}]},
        {"artifacts": [{"artifactId": "a", "parts": [TEXT["1.0"], {"kind": "file", "file": {"bytes": "?"}}]}]},
        {"newField": {"a": [None]}, "kind": "task"},
    ],
    ids=str,
)
def test_what_nobody_needs_never_costs_the_answer(generation: Generation, fields: dict[str, Any]) -> None:
    assert texts(read(task(generation, **fields), generation)) == ["one"]


@GENERATIONS
@pytest.mark.parametrize(
    "reply",
    [
        {"messageId": "m", "role": "agent", "parts": [{"kind": "text", "text": "one"}]},
        {"messageId": "m", "role": "ROLE_AGENT", "parts": [{"text": "one"}]},
        {"message": {"message_id": "m", "role": 2, "parts": [{"text": "one"}]}},
        {"msg": {"messageId": "m", "role": "ROLE_AGENT", "content": [{"text": "one"}]}},
        {"kind": "message", "parts": "one"},
        {"id": "t", "status": {"state": "completed"}, "artifacts": [{"parts": [{"type": "text", "text": "one"}]}]},
        {"task": {"id": "t", "context_id": "c", "artifacts": [{"parts": [{"text": "one"}]}]}},
        {"kind": "TASK", "id": "t", "contextId": "c", "artifacts": [{"parts": [{"text": "one"}]}]},
    ],
    ids=str,
)
def test_a_reply_in_the_envelope_of_the_other_generation_or_in_none(generation: Generation, reply: Any) -> None:
    assert texts(read(reply, generation)) == ["one"]


@GENERATIONS
def test_files_of_either_generation(generation: Generation) -> None:
    files = [
        {"kind": "file", "file": {"bytes": "aGVsbG8=", "mimeType": "text/plain", "name": "a.txt"}},
        {"raw": "aGVsbG8", "mediaType": "text/plain", "filename": "a.txt"},
        {"file": {"uri": "http://127.0.0.1/x", "mimeType": "text/plain", "name": "a.txt"}},
        {"url": "http://127.0.0.1/x", "media_type": "text/plain", "filename": "a.txt"},
    ]
    reply = read(task(generation, artifacts=[{"artifactId": "a", "parts": files}]), generation)
    assert isinstance(reply, Task)
    parts = reply.artifacts[0].parts
    assert [(part.raw, part.url) for part in parts] == [(b"hello", "")] * 2 + [(b"", "http://127.0.0.1/x")] * 2
    assert {(part.media_type, part.filename) for part in parts} == {("text/plain", "a.txt")}


@GENERATIONS
@pytest.mark.parametrize(
    "part", [{"kind": "thinking", "text": "hm"}, {"kind": "reasoning", "reasoning": "hm"}, {"thinking": "hm"}], ids=str
)
def test_thoughts_in_a_kind_of_their_own(generation: Generation, part: dict[str, Any]) -> None:
    reply = read(task(generation, artifacts=[{"artifactId": "a", "parts": [part]}]), generation)
    assert isinstance(reply, Task)
    (thought,) = reply.artifacts[0].parts
    assert (thought.text, thought.metadata["type"]) == ("hm", "thinking")


@GENERATIONS
def test_a_part_of_an_unknown_kind_is_kept_as_data(generation: Generation) -> None:
    part = {"kind": "chart", "series": [1, 2]}
    reply = read(task(generation, artifacts=[{"artifactId": "a", "parts": [part]}]), generation)
    assert isinstance(reply, Task)
    assert plain(reply.artifacts[0].parts[0].data) == {"series": [1, 2]}


@GENERATIONS
@pytest.mark.parametrize("number", [2**53 + 1, -(2**63), 1344900117571260918, 10**40])
def test_all_digits_of_an_integer_survive(generation: Generation, number: int) -> None:
    data = {"id": number, "ids": [number, {"x": number}], "small": 5, "text": "7"}
    part = {"kind": "data", "data": data, "metadata": {"id": number}}
    reply = read(task(generation, artifacts=[{"artifactId": "a", "parts": [part]}]), generation)
    assert isinstance(reply, Task)
    (found,) = reply.artifacts[0].parts
    assert plain(found.data) == data
    assert plain(found.metadata) == {"id": number}


@pytest.mark.parametrize("mender", [NEW, OLD])
@pytest.mark.parametrize(
    "value", [None, 3, "x", [], {}, {"detail": "x"}, {"parts": 3, "status": 4, "kind": 5}], ids=str
)
def test_what_is_not_understood_is_left_for_the_sdk_to_refuse(mender: ReplyMender, value: Any) -> None:
    if unwrap(value) is None:
        assert mender.reply(value) == mender.task(value) == value
    broken = {"kind": "message", "messageId": "m", "parts": 3}
    mended = mender.reply(broken)
    assert mended.get("message", mended)["parts"] == 3


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
SMALL = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
METADATA = st.dictionaries(NAMES, SMALL, min_size=1, max_size=2)
STAMPS = st.datetimes().map(lambda time: time.isoformat() + "Z")
PARTS_10 = st.one_of(
    st.fixed_dictionaries({"text": st.text()}, optional={"metadata": METADATA}),
    st.fixed_dictionaries({"data": SMALL}, optional={"metadata": METADATA}),
    st.fixed_dictionaries({"raw": st.just("aGVsbG8=")}, optional={"mediaType": NAMES, "filename": NAMES}),
    st.fixed_dictionaries({"url": NAMES}, optional={"mediaType": NAMES}),
)
PARTS_03 = st.one_of(
    st.fixed_dictionaries({"kind": st.just("text"), "text": st.text()}, optional={"metadata": METADATA}),
    st.fixed_dictionaries(
        {"kind": st.just("data"), "data": st.dictionaries(NAMES, SMALL)}, optional={"metadata": METADATA}
    ),
    st.fixed_dictionaries(
        {"kind": st.just("file"), "file": st.just({"uri": "http://x", "mimeType": "a/b", "name": "n"})}
    ),
)


def well_formed(generation: Generation) -> st.SearchStrategy[dict[str, Any]]:
    """Replies as the SDKs' own servers write them."""
    old = generation == "0.3"
    parts = st.lists(PARTS_03 if old else PARTS_10, max_size=3)
    kind: dict[str, Any] = {"kind": st.just("message")} if old else {}
    roles = st.sampled_from(["user", "agent"] if old else ["ROLE_USER", "ROLE_AGENT"])
    states = ["completed", "input-required", "working", "unknown"]
    if not old:
        states = ["TASK_STATE_COMPLETED", "TASK_STATE_INPUT_REQUIRED", "TASK_STATE_WORKING"]
    messages = st.fixed_dictionaries(
        kind | {"messageId": NAMES, "role": roles, "parts": parts},
        optional={"contextId": NAMES, "taskId": NAMES, "metadata": METADATA, "extensions": st.lists(NAMES)},
    )
    status = st.fixed_dictionaries(
        {"state": st.sampled_from(states)}, optional={"timestamp": STAMPS, "message": messages}
    )
    artifacts = st.fixed_dictionaries(
        {"artifactId": NAMES, "parts": parts}, optional={"name": NAMES, "description": NAMES, "metadata": METADATA}
    )
    tasks = st.fixed_dictionaries(
        ({"kind": st.just("task")} if old else {}) | {"id": NAMES, "contextId": NAMES, "status": status},
        optional={
            "history": st.lists(messages, max_size=3),
            "artifacts": st.lists(artifacts, max_size=3),
            "metadata": METADATA,
        },
    )
    if old:
        return st.one_of(messages, tasks)
    return st.one_of(messages.map(lambda one: {"message": one}), tasks.map(lambda one: {"task": one}))


@pytest.mark.parametrize("generation", ["1.0", "0.3"])
def test_a_well_formed_reply_is_left_as_it_is_but_for_its_time_stamps(generation: Generation) -> None:
    @settings(deadline=None)
    @given(well_formed(generation))
    def left(reply: dict[str, Any]) -> None:
        before = copy.deepcopy(reply)
        mended = ReplyMender(generation).reply(reply)
        assert reply == before
        before.get("task", before).get("status", {}).pop("timestamp", None)
        assert mended == before
        read(reply, generation)

    left()


@given(
    JSON
    | st.fixed_dictionaries({"task": JSON, "kind": JSON})
    | st.fixed_dictionaries({"id": JSON, "status": JSON, "artifacts": JSON})
)
@settings(deadline=None)
def test_nothing_that_an_agent_sends_stops_the_mender(value: Any) -> None:
    for mender in (NEW, OLD):
        mender.reply(value)
        mender.task(value)
