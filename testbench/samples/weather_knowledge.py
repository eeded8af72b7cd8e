"""What the sample weather agent knows, and the two tools that look it up: a weather table and time zones.

Pure and the same on every machine. `weather_dialogue` calls the tools; nothing else does.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from testbench.errors import InputError

DEFAULT_NOW: Final = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
"""The agent's "now" where nobody sets another: a fixed instant, so that a dataset can hold the right answers."""

ToolResult = dict[str, str | int]
"""What a tool returns: `status` is `success` or `error`, the other keys depend on it."""


@dataclass(frozen=True)
class City:
    """A city the agent knows. `utc_offset` holds at `DEFAULT_NOW`; at other instants `zone` decides."""

    name: str
    condition: str
    temperature_c: int
    zone: str
    utc_offset: timedelta


CITIES: Final = (
    City("New York", "sunny", 25, "America/New_York", timedelta(hours=-5)),
    City("London", "rainy", 14, "Europe/London", timedelta(hours=0)),
    City("Berlin", "cloudy", 11, "Europe/Berlin", timedelta(hours=1)),
    City("Tokyo", "clear", 17, "Asia/Tokyo", timedelta(hours=9)),
    City("Sydney", "windy", 22, "Australia/Sydney", timedelta(hours=11)),
    City("San Francisco", "foggy", 13, "America/Los_Angeles", timedelta(hours=-8)),
)
_BY_NAME: Final = {city.name: city for city in CITIES}


def get_weather(city: str) -> ToolResult:
    """Tool: the weather in `city`; a city that is not in the table is an `error` result, not an exception."""
    known = _BY_NAME.get(city)
    if known is None:
        return {"status": "error", "error_message": f"Weather data for {city} is not available."}
    return {"status": "success", "city": city, "condition": known.condition, "temperature_c": known.temperature_c}


def get_current_time(city: str, now: datetime) -> ToolResult:
    """Tool: the wall-clock time in `city` at the instant `now`; an unknown city is an `error` result.

    Raises:
        InputError: `now` is not `DEFAULT_NOW` and the machine has no time-zone data.
    """
    known = _BY_NAME.get(city)
    if known is None:
        return {"status": "error", "error_message": f"The time zone of {city} is not available."}
    local = now.astimezone(_time_zone(known, now))
    local_time = local.isoformat(timespec="minutes")
    return {"status": "success", "city": city, "time_zone": known.zone, "local_time": local_time}


def check_time_zones(now: datetime) -> None:
    """Find out before the first question whether `get_current_time` can answer at `now` for every city.

    Raises:
        InputError: `now` is not `DEFAULT_NOW` and the machine has no time-zone data.
    """
    for city in CITIES:
        get_current_time(city.name, now)


def _time_zone(city: City, now: datetime) -> tzinfo:
    # Slim images come without time-zone data: the default instant must not need any.
    if now == DEFAULT_NOW:
        return timezone(city.utc_offset)
    try:
        return ZoneInfo(city.zone)
    except ZoneInfoNotFoundError as error:
        raise InputError(
            f"this machine has no time-zone data for {city.zone}",
            hint="Install the package tzdata, or leave out --now: the default instant needs none.",
        ) from error
