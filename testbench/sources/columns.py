"""One row, one step: which column becomes which part of it.

| column | becomes |
|---|---|
| `user_input`, or `input` where there is none | the step's input |
| `reference` | reference.response |
| `reference_contexts`, `reference_topics` | reference.reference_contexts, reference.topics: lists of text |
| `reference_tool_calls` | reference.tool_calls: list of {name, args}; an empty list expects no call |
| `metrics` | the step's own metrics |
| the scenario column | not the step's: rows of one value are one conversation |
| `retrieved_contexts` | custom_values.retrieved_contexts, as a list of text: where metrics look for it |
| any other | custom_values, under its own name |

An empty cell is missing: it leaves no trace. Pure; called by `testbench.sources.dataset`.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from testbench import defaults
from testbench.errors import InputError
from testbench.schema.files import describe
from testbench.schema.models import Metric, Reference, Step, ToolCall
from testbench.sources.formats.dataset_format import INPUT_COLUMNS, CellError, Row, Table, row_fault
from testbench.sources.list_text import looks_like_object, read_literal
from testbench.sources.metric_choice import to_metrics
from testbench.sources.values import to_data, to_items, to_plain_data, to_text, to_texts

CONTEXTS: Final = "retrieved_contexts"
METRICS: Final = "metrics"

_OTHER_NAMES_OF_THE_INPUT: Final = ("question", "query", "prompt", "user_query", "message", "text")
"""What others call the user's input; only ever used for a hint."""
_SIMILARITY: Final = 0.84


@dataclass(frozen=True)
class PlacedStep:
    """A step, and the conversation that it belongs to if its row named one."""

    step: Step
    scenario: str | None = None


def place_steps(
    table: Table, scenario_column: str = defaults.SCENARIO_COLUMN, metrics: tuple[Metric, ...] = ()
) -> Iterator[PlacedStep]:
    """Yield every row of the table as a step, as it is read; `metrics` are for rows that name none.

    Raises:
        InputError: a row cannot be one; with file, row and column.
    """
    if table.columns is not None:
        _check_columns(table.origin, table.columns, scenario_column)
    for row in table.rows:
        yield _place_step(table, row, scenario_column, metrics)


def find_misspelt_columns(columns: Iterable[str], scenario_column: str) -> Iterator[tuple[str, str]]:
    """Yield the columns that are not part of the contract but nearly named like one that is, with that name."""
    known = (*INPUT_COLUMNS, *_REFERENCE, CONTEXTS, METRICS, scenario_column)
    for column in columns:
        if column not in known:
            yield from ((column, near) for near in difflib.get_close_matches(column.lower(), known, 1, _SIMILARITY))


def to_tool_calls(value: Any) -> tuple[ToolCall, ...]:
    """Return a list of tool calls, given one or the text of one; a single object is a list of one.

    Raises:
        CellError: an item is not an object of name and args.
    """
    if isinstance(value, str) and looks_like_object(value):
        value = [to_plain_data(read_literal(value))]
    return tuple(_to_tool_call(item) for item in to_items(value))


def _to_tool_call(item: Any) -> ToolCall:
    hint = 'Write e.g. [{"name": "get_weather", "args": {"city": "Paris"}}].'
    if not isinstance(item, dict):
        raise CellError("a tool call is an object with 'name' and 'args'", hint=hint)
    if further := sorted(set(item) - {"name", "args", "arguments"}):
        raise CellError(f"a tool call has no key {further[0]!r}", hint=hint)
    name, arguments = item.get("name"), item.get("args", item.get("arguments"))
    if not isinstance(name, str) or not name.strip():
        raise CellError("a tool call needs a name", hint=hint)
    if isinstance(arguments, str):
        arguments = _parse_arguments(arguments, hint)
    try:
        return ToolCall.model_validate({"name": name, "args": arguments})
    except ValidationError as error:
        raise CellError(f"not a tool call: {describe(error)}", hint=hint) from error


def _parse_arguments(text: str, hint: str) -> Any:
    try:
        return json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError) as error:
        raise CellError("the arguments of a tool call are not a JSON object", hint=hint) from error


def _to_list(value: Any) -> list[str]:
    return list(to_texts(value))


def _keep(value: Any) -> Any:
    return value


Convert = Callable[[Any], Any]

_REFERENCE: Mapping[str, tuple[str, Convert]] = {
    "reference": ("response", to_text),
    "reference_contexts": ("reference_contexts", to_texts),
    "reference_tool_calls": ("tool_calls", to_tool_calls),
    "reference_topics": ("topics", to_texts),
}


@dataclass
class _Parts:
    """What one row has filled in so far."""

    step: dict[str, Any] = field(default_factory=dict)
    reference: dict[str, Any] = field(default_factory=dict)
    custom_values: dict[str, Any] = field(default_factory=dict)
    scenario: dict[str, str] = field(default_factory=dict)

    def find_place(self, column: str, input_column: str, scenario_column: str) -> tuple[dict[str, Any], str, Convert]:
        """Return the part that a column belongs to, its name there, and how its value gets in."""
        if column == input_column:
            return self.step, "input", to_text
        if column == scenario_column:
            return self.scenario, "name", to_text
        if column == METRICS:
            return self.step, "metrics", to_metrics
        if column == CONTEXTS:
            return self.custom_values, column, _to_list
        if column in _REFERENCE:
            return self.reference, *_REFERENCE[column]
        return self.custom_values, column, _keep


def _place_step(table: Table, row: Row, scenario_column: str, metrics: tuple[Metric, ...]) -> PlacedStep:
    input_column = next((name for name in INPUT_COLUMNS if name in row.values), None)
    if input_column is None:
        raise _no_input_error(f"{table.origin}: row {row.number}", row.values)
    parts = _Parts()
    for column, cell in row.values.items():
        part, name, convert = parts.find_place(column, input_column, scenario_column)
        if convert is _keep and table.cells_are_text:
            convert = to_data
        try:
            value = to_plain_data(cell)
            if value is not None:
                part[name] = convert(value)
        except CellError as error:
            raise row_fault(table.origin, row, error, column) from error
    if "input" not in parts.step:
        empty = CellError("is empty", hint="Every row needs the user's input; remove the row or fill the cell.")
        raise row_fault(table.origin, row, empty, input_column)
    reference = Reference(**parts.reference) if parts.reference else None
    judged_by = parts.step.pop(METRICS, ()) or metrics
    step = Step(**parts.step, reference=reference, custom_values=parts.custom_values, metrics=judged_by)
    return PlacedStep(step, parts.scenario.get("name"))


def _check_columns(origin: str, columns: tuple[str, ...], scenario_column: str) -> None:
    if not any(name in columns for name in INPUT_COLUMNS):
        raise _no_input_error(origin, columns)
    if repeated := {name for name in columns if columns.count(name) > 1}:
        raise InputError(
            f"{origin}: the column {min(repeated)!r} is there twice", hint="Give each column its own name."
        )


def _no_input_error(place: str, columns: Iterable[str]) -> InputError:
    there = list(columns)
    lowered = {name.strip().lower(): name for name in there}
    near = difflib.get_close_matches("user_input", lowered, 1, 0.6) or [
        name for name in _OTHER_NAMES_OF_THE_INPUT if name in lowered
    ]
    hint = (
        f"Is it {lowered[near[0]]!r}? Then rename it to 'user_input'." if near else "Name the column of questions so."
    )
    return InputError(
        f"{place}: no column 'user_input' (or 'input'); there is: {', '.join(there) or 'none'}", hint=hint
    )
