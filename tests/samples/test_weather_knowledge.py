"""The pure part of the sample agent: its tools, and how it understands a conversation."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, reset_tzpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbench.errors import InputError
from testbench.samples import weather_dialogue as dialogue
from testbench.samples.weather_dialogue import DialogueMemory, DialogueReply, answer
from testbench.samples.weather_knowledge import (
    CITIES,
    DEFAULT_NOW,
    City,
    check_time_zones,
    get_current_time,
    get_weather,
)

SUMMER = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)


def talk(*messages: str) -> DialogueReply:
    """The reply to the last message of a conversation."""
    reply, memory = DialogueReply(""), DialogueMemory()
    for message in messages:
        reply, memory = answer(message, memory, DEFAULT_NOW)
    return reply


def tools(reply: DialogueReply) -> list[tuple[str, str]]:
    return [(use.name, use.args["city"]) for use in reply.tool_uses]


def test_tools_know_the_table() -> None:
    assert get_weather("London") == {
        "status": "success",
        "city": "London",
        "condition": "rainy",
        "temperature_c": 14,
    }
    assert get_current_time("New York", DEFAULT_NOW) == {
        "status": "success",
        "city": "New York",
        "time_zone": "America/New_York",
        "local_time": "2026-03-02T07:00-05:00",
    }


def test_tools_say_that_an_unknown_city_is_not_available() -> None:
    assert get_weather("Atlantis")["status"] == "error"
    assert "not available" in str(get_weather("Atlantis")["error_message"])
    assert "not available" in str(get_current_time("Atlantis", DEFAULT_NOW)["error_message"])


@pytest.mark.parametrize("city", CITIES, ids=lambda city: city.name)
def test_offset_table_agrees_with_the_time_zone_rules(city: City) -> None:

    assert DEFAULT_NOW.astimezone(ZoneInfo(city.zone)).utcoffset() == city.utc_offset


def test_daylight_saving_time_follows_the_instant() -> None:
    assert get_current_time("London", SUMMER)["local_time"] == "2026-07-01T13:00+01:00"
    assert get_current_time("Sydney", SUMMER)["local_time"] == "2026-07-01T22:00+10:00"


def test_machine_without_time_zone_data_answers_at_the_default_instant_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in {"tzdata", *(name for name in sys.modules if name.startswith("tzdata."))}:
        monkeypatch.setitem(sys.modules, name, None)
    reset_tzpath(to=[])
    ZoneInfo.clear_cache()
    try:
        check_time_zones(DEFAULT_NOW)
        with pytest.raises(InputError, match="America/New_York") as caught:
            check_time_zones(DEFAULT_NOW + timedelta(hours=1))
    finally:
        reset_tzpath()
    assert "tzdata" in caught.value.hint


@pytest.mark.parametrize(
    ("message", "text", "used"),
    [
        (
            "What is the weather like in New York right now?",
            "It is sunny in New York, 25 degrees Celsius.",
            [("get_weather", "New York")],
        ),
        ("weather in LONDON", "It is rainy in London, 14 degrees Celsius.", [("get_weather", "London")]),
        (
            "What time is it in San Francisco?",
            "It is 04:00 in San Francisco (UTC-08:00).",
            [("get_current_time", "San Francisco")],
        ),
        (
            "What is the weather and the local time in Tokyo?",
            "It is clear in Tokyo, 17 degrees Celsius. It is 21:00 in Tokyo (UTC+09:00).",
            [("get_weather", "Tokyo"), ("get_current_time", "Tokyo")],
        ),
        (
            "Is it warm in Sydney and London, and in Sydney?",
            "It is windy in Sydney, 22 degrees Celsius. It is rainy in London, 14 degrees Celsius.",
            [("get_weather", "Sydney"), ("get_weather", "London")],
        ),
        (
            "What is the weather like in Atlantis?",
            "I have no weather data for Atlantis.",
            [("get_weather", "Atlantis")],
        ),
        (
            "What time is it in El Dorado?",
            "I do not know the time zone of El Dorado.",
            [("get_current_time", "El Dorado")],
        ),
    ],
)
def test_question_that_says_everything(message: str, text: str, used: list[tuple[str, str]]) -> None:
    reply = talk(message)
    assert (reply.text, tools(reply), reply.needs_input) == (text, used, False)


@pytest.mark.parametrize(
    ("messages", "used"),
    [
        (["Is it cold in Berlin?", "And in London?"], [("get_weather", "London")]),
        (["What time is it in Berlin?", "What about Tokyo?"], [("get_current_time", "Tokyo")]),
        (["Is it cold in Berlin?", "London"], [("get_weather", "London")]),
        (["Is it cold in Berlin?", "How about Atlantis?"], [("get_weather", "Atlantis")]),
        (["Is it cold in Berlin?", "And in London?", "What time is it there?"], [("get_current_time", "London")]),
        (["Is it cold in Atlantis?", "What time is it there?"], [("get_current_time", "Atlantis")]),
        (["Is it cold in Berlin?", "Thank you!", "And the time?"], [("get_current_time", "Berlin")]),
        (
            ["What is the weather and the time in Tokyo?", "And in Berlin?"],
            [("get_weather", "Berlin"), ("get_current_time", "Berlin")],
        ),
    ],
)
def test_follow_up_takes_the_rest_from_the_conversation(messages: list[str], used: list[tuple[str, str]]) -> None:
    assert tools(talk(*messages)) == used


@pytest.mark.parametrize("message", ["What time is it there?", "What is the weather like?"])
def test_question_without_a_city_is_asked_back(message: str) -> None:
    reply = talk(message)
    assert (reply.text, reply.tool_uses, reply.needs_input) == ("For which city?", (), True)


@pytest.mark.parametrize(
    ("messages", "used"),
    [
        (["What time is it there?", "London"], [("get_current_time", "London")]),
        (["What time is it there?", "in London, please"], [("get_current_time", "London")]),
        (["What is the weather like?", "springfield"], [("get_weather", "springfield")]),
        (["And in London?", "The weather."], [("get_weather", "London")]),
    ],
)
def test_answer_to_a_question_of_the_agent_goes_on_with_the_first_message(
    messages: list[str], used: list[tuple[str, str]]
) -> None:
    reply = talk(*messages)
    assert (tools(reply), reply.needs_input) == (used, False)


def test_city_without_a_wish_is_asked_back() -> None:
    reply = talk("And in London?")
    assert (reply.text, reply.tool_uses, reply.needs_input) == (
        "Do you want the weather or the local time in London?",
        (),
        True,
    )


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        (["Can you write a poem about the sea?"], dialogue.OFF_TOPIC),
        (["Write a poem in French"], dialogue.OFF_TOPIC),
        (["Is it cold in Berlin?", "Who is the mayor of London?"], dialogue.OFF_TOPIC),
        (["What is the weather like?", "Never mind, tell me a joke."], dialogue.OFF_TOPIC),
        ([""], dialogue.OFF_TOPIC),
        (["Hello!"], dialogue.WELCOME),
        (["Thank you!"], dialogue.YOU_ARE_WELCOME),
    ],
)
def test_small_talk_has_a_fixed_answer_and_no_tool(messages: list[str], text: str) -> None:
    reply = talk(*messages)
    assert (reply.text, reply.tool_uses, reply.needs_input) == (text, (), False)


def test_token_counts_are_the_words_and_marks_of_what_went_in_and_came_out() -> None:
    small_talk, with_tool = talk("Thank you!"), talk("Is it cold in Berlin?")
    assert (small_talk.prompt_tokens, small_talk.candidates_tokens) == (3, 4)
    assert with_tool.prompt_tokens > len(["Is", "it", "cold", "in", "Berlin", "?"])
    assert with_tool.candidates_tokens > len(with_tool.text.split())


@given(st.lists(st.text() | st.sampled_from(["And in London?", "weather", "What time is it there?", "in Atlantis"])))
def test_any_conversation_gets_the_same_words_every_time(messages: list[str]) -> None:
    reply = talk(*messages)
    assert reply == talk(*messages)
    assert not (reply.needs_input and reply.tool_uses)
    assert len(reply.text) < 1000


def test_megabytes_of_text_are_read_up_to_a_bound() -> None:
    assert talk("x " * dialogue.MAX_TEXT + "weather in London").text == dialogue.OFF_TOPIC
