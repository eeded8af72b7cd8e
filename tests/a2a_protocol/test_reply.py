"""What an agent said, read from the many places in which agents say it."""

from __future__ import annotations

from typing import Any, TypeAlias

import pytest
from a2a.types import Message, Task
from google.protobuf.json_format import ParseDict

from testbench.a2a_protocol.parts import join_chunks, join_texts
from testbench.a2a_protocol.reply import Said, read_message, read_task
from testbench.schema.models import Turn, Usage

Shape: TypeAlias = tuple[str, str, list[tuple[str, Any]]]

CALL = {"id": "c1", "name": "get_weather", "args": {"city": "Berlin", "days": 2.0}}
RESULT = {"id": "c1", "name": "get_weather", "response": {"temp_c": 21.0, "ok": True}}
CALL_TURN: Shape = ("agent", "", [("get_weather", {"city": "Berlin", "days": 2})])
RESULT_TURN: Shape = ("tool", '{"ok": true, "temp_c": 21}', [])


def text(content: str, **metadata: Any) -> dict[str, Any]:
    return {"text": content, "metadata": metadata}


def data(content: Any, **metadata: Any) -> dict[str, Any]:
    return {"data": content, "metadata": metadata}


def adk(kind: str, content: Any) -> dict[str, Any]:
    return data(content, adk_type=kind)


def said(*parts: dict[str, Any], id: str = "m1", role: str = "ROLE_AGENT", **metadata: Any) -> dict[str, Any]:
    return {"messageId": id, "role": role, "parts": list(parts), "metadata": metadata}


OURS = said(text("hi"), id="ours", role="ROLE_USER")


def task(
    *history: dict[str, Any],
    artifacts: tuple[list[dict[str, Any]], ...] = (),
    status: dict[str, Any] | None = None,
    state: str = "COMPLETED",
    **metadata: Any,
) -> Task:
    document: dict[str, Any] = {
        "id": "t1",
        "contextId": "ctx",
        "status": {"state": f"TASK_STATE_{state}"} | ({"message": status} if status else {}),
        "history": [OURS, *history],
        "artifacts": [{"artifactId": f"a{number}", "parts": parts} for number, parts in enumerate(artifacts)],
        "metadata": metadata,
    }
    return ParseDict(document, Task())


def read(task: Task, *, seen: set[str] | None = None, continued: bool = False) -> Said:
    return read_task(task, "ours", set() if seen is None else seen, continued=continued)


def shape(turn: Turn) -> Shape:
    return turn.type, turn.content, [(call.name, call.args) for call in turn.tool_calls or ()]


def shapes(reply: Said) -> list[Shape]:
    return [shape(turn) for turn in reply.turns]


def beside(reply: Said, name: str) -> Any:
    return (reply.turns[-1].model_extra or {}).get(name)


def test_adk_history_with_the_answer_again_as_artifact() -> None:
    reply = read(
        task(
            said(adk("function_call", CALL), id="m1"),
            said(adk("function_response", RESULT), id="m2"),
            said(text("let me think", adk_thought=True), text("It is 21."), id="m3"),
            artifacts=([text("It is 21.")],),
            adk_usage_metadata={"promptTokenCount": 120, "candidatesTokenCount": 30, "totalTokenCount": 150},
        )
    )
    assert shapes(reply) == [CALL_TURN, RESULT_TURN, ("agent", "It is 21.", [])]
    assert beside(reply, "thoughts") == ["let me think"]
    assert reply.usage == Usage(input_tokens=120, output_tokens=30)


def test_adk_events_as_artifacts_of_their_own() -> None:
    events = [text("one moment")], [adk("function_call", CALL)], [adk("function_response", RESULT)], [text("It is 21.")]
    assert shapes(read(task(artifacts=events))) == [
        ("agent", "one moment", []),
        CALL_TURN,
        RESULT_TURN,
        ("agent", "It is 21.", []),
    ]


def test_tools_in_the_history_and_again_in_the_artifact_are_told_once() -> None:
    reply = read(
        task(
            said(adk("function_call", CALL)),
            artifacts=([adk("function_call", CALL), adk("function_response", RESULT), text("21")],),
        )
    )
    assert shapes(reply) == [CALL_TURN, RESULT_TURN, ("agent", "21", [])]


def test_a_tool_called_twice_with_the_same_arguments_is_two_calls() -> None:
    again = CALL | {"id": "c2"}
    without_id = {key: value for key, value in CALL.items() if key != "id"}
    for first, second in ((CALL, again), (without_id, without_id)):
        reply = read(task(said(adk("function_call", first), adk("function_call", second)), artifacts=([text("x")],)))
        assert shapes(reply)[0][2] == CALL_TURN[2] * 2


@pytest.mark.parametrize(
    "part",
    [
        adk("function_call", CALL),
        data(CALL, type="function_call"),
        data(CALL),
        data({"type": "tool_call", **CALL}),
        data({"name": "get_weather", "arguments": '{"city": "Berlin", "days": 2}'}),
        data({"type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Berlin", "days": 2}'}}),
        data({"tool_calls": [CALL]}),
        data({"type": "tool_use", "name": "get_weather", "input": {"city": "Berlin", "days": 2}}),
    ],
    ids=str,
)
def test_tool_calls_in_the_shapes_that_agents_use(part: dict[str, Any]) -> None:
    assert shapes(read(task(said(part), artifacts=([text("21")],))))[0] == CALL_TURN


@pytest.mark.parametrize(
    "part",
    [
        adk("function_response", RESULT),
        data(RESULT),
        data({"type": "tool_result", "content": {"temp_c": 21, "ok": True}}),
        data({"name": "get_weather", "output": {"temp_c": 21, "ok": True}}, type="tool_response"),
    ],
    ids=str,
)
def test_tool_results_in_the_shapes_that_agents_use(part: dict[str, Any]) -> None:
    assert shapes(read(task(said(part), artifacts=([text("21")],))))[0] == RESULT_TURN


def test_tool_calls_named_only_in_a_messages_metadata() -> None:
    metadata: dict[str, Any] = {
        "tool_calls": [{"name": "get_weather", "args": {"city": "Berlin", "days": 2}}, {"no": "name"}, 3]
    }
    reply = read(task(said(text("looking"), **metadata), artifacts=([text("21")],)))
    assert shapes(reply) == [CALL_TURN, ("agent", "looking", []), ("agent", "21", [])]
    both = read(task(said(adk("function_call", CALL), **metadata), artifacts=([text("21")],)))
    assert shapes(both)[0] == CALL_TURN


def test_the_artifact_is_the_answer_and_not_a_last_status_line() -> None:
    reply = read(task(artifacts=([text("It is 21.")],), status=said(text("done"), id="s")))
    assert shapes(reply) == [("agent", "It is 21.", [])]
    assert beside(reply, "progress") == ["done"]


@pytest.mark.parametrize("state", ["INPUT_REQUIRED", "AUTH_REQUIRED"])
def test_a_task_that_waits_says_in_its_status_what_for(state: str) -> None:
    reply = read(task(artifacts=([text("draft")],), status=said(text("Which city?"), id="s"), state=state))
    assert shapes(reply) == [("agent", "draft", []), ("agent", "Which city?", [])]


def test_text_only_in_the_status_or_only_in_the_history_is_the_answer() -> None:
    assert shapes(read(task(status=said(text("in the status"))))) == [("agent", "in the status", [])]
    reply = read(task(said(text("thinking"), id="m1"), said(text("in the history"), id="m2")))
    assert shapes(reply) == [("agent", "thinking", []), ("agent", "in the history", [])]


def test_all_parts_of_all_artifacts_are_the_answer_in_order() -> None:
    reply = read(task(artifacts=([text("The first one."), text("And a second.")], [text("third")])))
    assert shapes(reply) == [("agent", "The first one.\nAnd a second.\nthird", [])]


@pytest.mark.parametrize(
    ("parts", "joined"),
    [
        ((), ""),
        (("one",), "one"),
        (("a paragraph", "another"), "a paragraph\nanother"),
        (("It", " is", " sun", "ny."), "It is sunny."),
        (("It ", "is"), "It is"),
        (("first\n", "second"), "first\nsecond"),
    ],
)
def test_chunks_of_a_stream_follow_each_other_and_paragraphs_get_a_line(parts: tuple[str, ...], joined: str) -> None:
    assert join_texts(parts) == joined


@pytest.mark.parametrize(
    ("parts", "joined"),
    [
        (("12", ".", "5", "°C"), "12.5°C"),
        (("un", "believ", "able"), "unbelievable"),
        (("柏林", "的天", "气晴", "朗", "。"), "柏林的天气晴朗。"),
        (("Hel", "lo", " wor", "ld", ".", "\nSec", "ond"), "Hello world.\nSecond"),
        (("It is sun", "ny to", "day."), "It is sunny today."),
        (("It is 12.", "5 °C in Kiel."), "It is 12.5 °C in Kiel."),
        (("The harbour is open.", "Berth 4 is free."), "The harbour is open.\nBerth 4 is free."),
        (("The harbour is open.\n", "Berth 4 is free."), "The harbour is open.\nBerth 4 is free."),
        (("The harbour is open.", " Berth 4 is free."), "The harbour is open. Berth 4 is free."),
        (("Free berths:", "* berth 4"), "Free berths:\n* berth 4"),
    ],
)
def test_parts_of_one_artifact_follow_each_other_as_they_were_sent_and_paragraphs_stay_apart(
    parts: tuple[str, ...], joined: str
) -> None:
    assert join_chunks(parts) == joined
    reply = read(task(artifacts=([text(part) for part in parts], [text("More.")])))
    assert shapes(reply) == [("agent", f"{joined}\nMore.", [])]


@pytest.mark.parametrize("metadata", [{"type": "thinking"}, {"adk_thought": True}, {"kind": "reasoning"}], ids=str)
def test_what_an_agent_thought_is_kept_and_is_neither_answer_nor_turn(metadata: dict[str, Any]) -> None:
    thought = text("secret", **metadata)
    for reply in (
        read(task(artifacts=([thought, text("said")],))),
        read(task(said(thought), artifacts=([text("said")],))),
        read(task(status=said(thought, text("said"), id="s"))),
        read_message(ParseDict(said(thought, text("said")), Message())),
    ):
        assert shapes(reply) == [("agent", "said", [])]
        assert beside(reply, "thoughts") == ["secret"]
    assert not read(task(artifacts=([thought],))).answered


def test_a_text_about_reasoning_is_no_thought() -> None:
    assert shapes(read(task(artifacts=([text("said", reasoning="because", type="answer")],)))) == [
        ("agent", "said", [])
    ]


def test_status_updates_that_add_up_to_the_answer_are_not_told_again() -> None:
    words = [said(text(word), id=f"m{place}") for place, word in enumerate(["It", " is", " 21", "."])]
    reply = read(task(*words, artifacts=([text("It is 21.\n")],)))
    assert shapes(reply) == [("agent", "It is 21.\n", [])]
    assert beside(reply, "progress") is None


def test_an_answer_that_came_only_word_by_word_is_put_together() -> None:
    words = [said(text(word), id=f"m{place}") for place, word in enumerate(["It", " is", " 21", "."])]
    assert shapes(read(task(*words))) == [("agent", "It is 21.", [])]


def test_what_the_agent_says_before_it_acts_is_a_turn_and_what_it_says_of_its_progress_is_not() -> None:
    reply = read(
        task(
            said(text("I look it up."), id="m1"),
            said(adk("function_call", CALL), id="m2"),
            said(adk("function_response", RESULT), id="m3"),
            said(text("Nearly there."), id="m4"),
            artifacts=([text("21")],),
        )
    )
    assert shapes(reply) == [("agent", "I look it up.", []), CALL_TURN, RESULT_TURN, ("agent", "21", [])]
    assert beside(reply, "progress") == ["Nearly there."]


@pytest.mark.parametrize(
    ("value", "question"),
    [("Which city?", "Which city?"), ({"question": "Which city?"}, "Which city?"), ({"a": 1.0}, '{"a": 1}')],
)
def test_an_interrupt_shows_its_question(value: Any, question: str) -> None:
    interrupt = data({"id": "5d2c8f", "value": value})
    for waiting in (
        task(status=said(interrupt, id="s"), state="INPUT_REQUIRED"),
        task(artifacts=([interrupt],), state="INPUT_REQUIRED"),
    ):
        assert shapes(read(waiting)) == [("agent", question, [])]
    finished = read(task(status=said(interrupt, id="s")))
    assert '"id": "5d2c8f"' in finished.turns[-1].content


def test_data_without_text_is_an_answer_and_data_beside_text_is_kept() -> None:
    alone = read(task(artifacts=([data({"b": 42.0, "a": True})],)))
    assert alone.answered
    assert alone.turns[0].content == '{"a": true, "b": 42}'
    beside = read(task(artifacts=([text("see"), data({"b": 1.5})],)))
    assert beside.turns[-1].content == "see"
    assert (beside.turns[-1].model_extra or {})["data"] == [{"b": 1.5}]


def test_files_are_recorded_without_their_bytes() -> None:
    picture = {"raw": "aGVsbG8=", "mediaType": "image/png", "filename": "map.png"}
    link = {"url": "http://127.0.0.1/x.pdf", "mediaType": "application/pdf"}
    turn = read(task(artifacts=([text("see"), picture, link],))).turns[-1]
    digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert (turn.model_extra or {})["files"] == [
        {"name": "map.png", "media_type": "image/png", "bytes": 5, "sha256": digest},
        {"media_type": "application/pdf", "url": "http://127.0.0.1/x.pdf"},
    ]


@pytest.mark.parametrize("artifacts", [(), ([text("")],), ([text("  \n")],)])
def test_nothing_said_is_no_answer(artifacts: tuple[list[dict[str, Any]], ...]) -> None:
    assert not read(task(artifacts=artifacts)).answered


@pytest.mark.parametrize(
    "arguments",
    ['{"q": "\\ud800"}', '{"q": NaN}', '{"q": 1e999}', '{"q":' * 100 + "1" + "}" * 100, "[" * 100_000, "{"],
    ids=lambda text: str(text)[:12],
)
def test_arguments_that_no_file_could_hold_stay_the_text_that_they_are(arguments: str) -> None:
    reply = read(task(said(data({"name": "t", "arguments": arguments})), artifacts=([text("21")],)))
    assert shapes(reply)[0] == ("agent", "", [("t", {"value": arguments})])
    for turn in reply.turns:
        assert Turn.model_validate_json(turn.model_dump_json()) == turn


def test_a_file_alone_is_an_answer_without_a_text() -> None:
    picture = {"raw": "AAAA", "mediaType": "image/png", "filename": "map.png"}
    reply = read(task(artifacts=([picture, {"url": "http://127.0.0.1/x"}],)))
    assert reply.answered
    assert shapes(reply) == [("agent", "", [])]
    raw, link = (reply.turns[0].model_extra or {})["files"]
    assert (raw["name"], raw["media_type"], raw["bytes"]) == ("map.png", "image/png", 3)
    assert link == {"url": "http://127.0.0.1/x"}


def test_a_tool_call_alone_is_an_answer() -> None:
    assert read(task(said(adk("function_call", CALL)))).answered


def test_what_the_user_said_is_never_the_agents_answer() -> None:
    reply = read(task(said(text("hi"), id="ours", role="ROLE_USER"), said(text("hello"), id="m2")))
    assert shapes(reply) == [("agent", "hello", [])]
    assert not read(task()).answered


def test_a_continued_task_tells_only_what_is_new() -> None:
    seen: set[str] = set()
    first = task(artifacts=([text("draft")],), status=said(text("Which city?"), id="q"), state="INPUT_REQUIRED")
    read(first, seen=seen)
    second = task(artifacts=([text("draft"), text("and Berlin")],))
    del second.history[:]
    for message in (OURS | {"messageId": "before"}, said(text("Which city?"), id="q"), OURS, said(text("ok"), id="n")):
        ParseDict(message, second.history.add())
    reply = read(second, seen=seen, continued=True)
    assert shapes(reply) == [("agent", "and Berlin", [])]
    assert beside(reply, "progress") == ["ok"]


def test_ids_of_another_task_hide_nothing() -> None:
    """Agents exist that number the artifacts and messages of every task alike."""
    seen: set[str] = set()
    for _ in range(2):
        reply = read(task(said(text("on it"), id="m1"), artifacts=([text("same answer")],)), seen=seen)
        assert shapes(reply) == [("agent", "same answer", [])]
        assert beside(reply, "progress") == ["on it"]


def test_usage_from_artifacts_is_summed_and_odd_usage_is_left_out() -> None:
    counted = task(artifacts=([text("a")], [text("b")]))
    for artifact in counted.artifacts:
        artifact.metadata.update({"adk_usage_metadata": {"promptTokenCount": 10, "candidatesTokenCount": 2}})
    assert read(counted).usage == Usage(input_tokens=20, output_tokens=4)
    odd = {"promptTokenCount": -1, "candidatesTokenCount": "many", "input_tokens": 1.5}
    assert read(task(artifacts=([text("a")],), adk_usage_metadata=odd)).usage == Usage()
    assert read(task(artifacts=([text("a")],), usage={"prompt_tokens": 7})).usage == Usage(input_tokens=7)
    assert read(task(artifacts=([text("a")],), usage="free")).usage is None


def test_a_bare_message_is_read_in_its_order() -> None:
    message = ParseDict(said(text("one moment"), data(CALL), data(RESULT), text("21")), Message())
    assert shapes(read_message(message)) == [
        ("agent", "one moment", []),
        CALL_TURN,
        RESULT_TURN,
        ("agent", "21", []),
    ]
