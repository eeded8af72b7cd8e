"""How the sample weather agent talks: from a message and what it remembers to a reply and what it remembers next.

    answer: (text, DialogueMemory, now) -> (DialogueReply, DialogueMemory)

Pure; patterns instead of a language model, so that the same conversation gives the same words, tool calls and token
counts every time. `weather_server` carries the replies over A2A.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal

from a2a.server.context import ServerCallContext
from a2a.server.tasks import InMemoryTaskStore
from a2a.types import Task, TaskState

from testbench.samples.weather_knowledge import CITIES, ToolResult, get_current_time, get_weather


class Intent(StrEnum):
    """What a user can want."""

    WEATHER = "weather"
    TIME = "time"


@dataclass(frozen=True)
class DialogueMemory:
    """What the agent remembers of a conversation: what the user wants, where, and whether it just asked where."""

    intents: tuple[Intent, ...] = ()
    city: str | None = None
    asked_for_city: bool = False


@dataclass(frozen=True)
class ToolUse:
    """A tool that was called, with what, and what came back."""

    name: Literal["get_weather", "get_current_time"]
    args: dict[str, str]
    response: ToolResult


@dataclass(frozen=True)
class DialogueReply:
    """What the agent says. With `needs_input` the text is a question and the user has the next word.

    The counts are words and punctuation marks: no model's tokens, but steady numbers to show and to add up.
    """

    text: str
    tool_uses: tuple[ToolUse, ...] = ()
    needs_input: bool = False
    prompt_tokens: int = 0
    candidates_tokens: int = 0


OFF_TOPIC: Final = "I can tell you the weather and the local time in a city. Please ask me about one of them."
WELCOME: Final = "Hello! Ask me about the weather or the local time in a city."
YOU_ARE_WELCOME: Final = "You are welcome."
WHICH_CITY: Final = "For which city?"

MAX_TEXT: Final = 4000
"""Characters of a message that the agent reads; the rest is dropped."""

_WEATHER: Final = re.compile(r"\b(weather|forecast|temperature|rain(y|ing)?|sunny|cold|warm|hot)\b", re.IGNORECASE)
_TIME: Final = re.compile(r"\b(time|timezone|clock)\b", re.IGNORECASE)
_GREETING: Final = re.compile(r"\W*(hello|hi|hey|good (morning|afternoon|evening))\b", re.IGNORECASE)
_THANKS: Final = re.compile(r"\W*(thanks|thank you)\b", re.IGNORECASE)
_FOLLOW_UP: Final = re.compile(r"\W*(and|what about|how about)\b", re.IGNORECASE)
_KNOWN_CITY: Final = re.compile(r"\b(" + "|".join(re.escape(city.name) for city in CITIES) + r")\b", re.IGNORECASE)
_CANONICAL: Final = {city.name.lower(): city.name for city in CITIES}
_CAPITALISED: Final = r"[A-ZÀ-Þ][\w'-]{0,30}"
_UNKNOWN_CITY: Final = re.compile(
    rf"(?i:\b(?:in|at|for)|^\W*(?:and|what about|how about)) (?P<city>{_CAPITALISED}(?: {_CAPITALISED}){{0,3}})"
)
_BARE_CITY: Final = re.compile(r"(?i:(?:in|at|for) )?(?P<city>[^\W\d_][\w'-]{0,30}(?: [\w'-]{1,30}){0,2})[.!]?")
_TOKEN: Final = re.compile(r"\w+|[^\w\s]")


def answer(text: str, memory: DialogueMemory, now: datetime) -> tuple[DialogueReply, DialogueMemory]:
    """The agent's reply to `text`, and what it remembers afterwards.

    Raises:
        InputError: see `weather_knowledge.get_current_time`.
    """
    heard = " ".join(text[:MAX_TEXT].split())
    reply, remembered = _reply(heard, memory, now)
    return _with_token_counts(heard, reply), remembered


def _reply(heard: str, memory: DialogueMemory, now: datetime) -> tuple[DialogueReply, DialogueMemory]:
    intents = _intents(heard)
    cities = _cities(heard, memory)
    if not intents and not _continues(heard, cities, memory):
        return DialogueReply(_small_talk(heard)), replace(memory, asked_for_city=False)
    if not cities and memory.city is not None:
        cities = (memory.city,)
    intents = intents or memory.intents
    if not cities:
        return DialogueReply(WHICH_CITY, needs_input=True), DialogueMemory(intents=intents, asked_for_city=True)
    if not intents:
        question = f"Do you want the weather or the local time in {cities[-1]}?"
        return DialogueReply(question, needs_input=True), DialogueMemory(city=cities[-1])
    uses = tuple(_use_tool(intent, city, now) for city in cities for intent in intents)
    text = " ".join(_sentence(use) for use in uses)
    return DialogueReply(text, uses), DialogueMemory(intents=intents, city=cities[-1])


def _intents(heard: str) -> tuple[Intent, ...]:
    found = ((Intent.WEATHER, _WEATHER), (Intent.TIME, _TIME))
    return tuple(intent for intent, pattern in found if pattern.search(heard))


def _cities(heard: str, memory: DialogueMemory) -> tuple[str, ...]:
    """The known cities in `heard`, each once, else one unknown city where the words around it say that it is one."""
    known = tuple(dict.fromkeys(_CANONICAL[match.group().lower()] for match in _KNOWN_CITY.finditer(heard)))
    if known:
        return known
    named = _UNKNOWN_CITY.search(heard)
    if named is None and memory.asked_for_city and not _intents(heard):
        named = _BARE_CITY.fullmatch(heard)
    return (named["city"],) if named else ()


def _continues(heard: str, cities: tuple[str, ...], memory: DialogueMemory) -> bool:
    """Whether a message that does not say what it wants takes up the conversation: "And in London?", "London"."""
    if not cities:
        return False
    bare = _BARE_CITY.fullmatch(heard.rstrip("?"))
    only_a_city = bare is not None and bare["city"].lower() == cities[0].lower()
    return memory.asked_for_city or only_a_city or _FOLLOW_UP.match(heard) is not None


def _small_talk(heard: str) -> str:
    if _GREETING.match(heard):
        return WELCOME
    return YOU_ARE_WELCOME if _THANKS.match(heard) else OFF_TOPIC


def _use_tool(intent: Intent, city: str, now: datetime) -> ToolUse:
    if intent is Intent.WEATHER:
        return ToolUse("get_weather", {"city": city}, get_weather(city))
    return ToolUse("get_current_time", {"city": city}, get_current_time(city, now))


def _sentence(use: ToolUse) -> str:
    city, found = use.args["city"], use.response
    if use.name == "get_weather":
        if found["status"] == "error":
            return f"I have no weather data for {city}."
        return f"It is {found['condition']} in {city}, {found['temperature_c']} degrees Celsius."
    if found["status"] == "error":
        return f"I do not know the time zone of {city}."
    local = datetime.fromisoformat(str(found["local_time"]))
    return f"It is {local:%H:%M} in {city} (UTC{local.isoformat()[-6:]})."


def _with_token_counts(heard: str, reply: DialogueReply) -> DialogueReply:
    results = "".join(json.dumps(use.response, sort_keys=True) for use in reply.tool_uses)
    calls = "".join(use.name + json.dumps(use.args, sort_keys=True) for use in reply.tool_uses)
    return replace(reply, prompt_tokens=_tokens(heard + results), candidates_tokens=_tokens(calls + reply.text))


def _tokens(text: str) -> int:
    return sum(1 for _ in _TOKEN.finditer(text))


MAX_CONVERSATIONS: Final = 10_000
MAX_TASKS: Final = 4_000

_RUNNING: Final = (TaskState.TASK_STATE_SUBMITTED, TaskState.TASK_STATE_WORKING)


class RecentConversations:
    """What was said, by context id."""

    def __init__(self, limit: int = MAX_CONVERSATIONS) -> None:
        self._limit = limit
        self._memories: OrderedDict[str, DialogueMemory] = OrderedDict()

    def recall(self, context_id: str) -> DialogueMemory:
        """What is remembered of the conversation; nothing for one that is new or forgotten."""
        return self._memories.get(context_id, DialogueMemory())

    def remember(self, context_id: str, memory: DialogueMemory) -> None:
        self._memories[context_id] = memory
        self._memories.move_to_end(context_id)
        if len(self._memories) > self._limit:
            self._memories.popitem(last=False)


class RecentTasks(InMemoryTaskStore):
    """The SDK's task store, without the oldest tasks. A task that runs is never forgotten.

    All callers are one user: the agent asks nobody who they are.
    """

    def __init__(self, limit: int = MAX_TASKS) -> None:
        super().__init__()
        self._limit = limit
        self._settled: OrderedDict[str, None] = OrderedDict()

    async def save(self, task: Task, context: ServerCallContext) -> None:
        await super().save(task, context)
        self._settled.pop(task.id, None)
        if task.status.state in _RUNNING:
            return
        self._settled[task.id] = None
        while len(self._settled) > self._limit:
            oldest, _ = self._settled.popitem(last=False)
            await self.delete(oldest, context)
