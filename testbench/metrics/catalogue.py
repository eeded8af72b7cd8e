"""All metrics there are, described from their specs: as text and JSON for `--list-metrics`, as tables for the docs.

Called by `testbench evaluate --list-metrics`, and by `testbench.cli.reference` for `docs/metrics.md`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from testbench.metrics.protocol import MetricSpec, Parameter

HEADINGS: Final = ("metric", "what it says", "needs", "of the sample", "parameters")


def format_specs(specs: Iterable[MetricSpec]) -> str:
    """Return every metric as text: what it needs, its parameters, and whether it can be used here."""
    return "\n".join(line for spec in specs for line in _describe(spec))


def spec_data(spec: MetricSpec) -> dict[str, Any]:
    """Return a spec as `--json` prints it."""
    return {
        "name": spec.full_name,
        "description": spec.description,
        "required": list(spec.required),
        "parameters": [vars(parameter) for parameter in spec.parameters],
        "needs_llm": spec.needs_llm,
        "needs_embeddings": spec.needs_embeddings,
        "multi_turn": spec.multi_turn,
        "value_range": list(spec.value_range),
        "higher_is_better": spec.higher_is_better,
        "package": spec.package,
        "unavailable": spec.unavailable,
    }


def markdown_table(specs: Iterable[MetricSpec]) -> str:
    """Return a Markdown table with a line for each metric."""
    lines = [HEADINGS, ("---",) * len(HEADINGS), *map(_row, specs)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _needs(spec: MetricSpec) -> list[str]:
    return [word for word, needed in (("LLM", spec.needs_llm), ("embeddings", spec.needs_embeddings)) if needed]


def _describe(spec: MetricSpec) -> list[str]:
    needs = _needs(spec)
    low, high = spec.value_range
    direction = "higher is better" if spec.higher_is_better else "lower is better: its score is turned round"
    notes = [
        f"needs {' and '.join(needs)}" if needs else "no judge",
        f"fields: {', '.join(spec.required) or 'none'}",
        *(["over several turns"] if spec.multi_turn else []),
        f"value {low:g} to {high:g}, {direction}",
        *([f"package {spec.package}"] if spec.package else []),
        *([f"NOT AVAILABLE: {spec.unavailable}"] if spec.unavailable else []),
    ]
    lines = [f"{spec.full_name}: {spec.description}", f"    {'; '.join(notes)}"]
    for parameter in spec.parameters:
        default = "required" if parameter.required else f"default {parameter.default!r}"
        about = f". {parameter.description}" if parameter.description else ""
        lines.append(f"    {parameter.name}: {parameter.type} ({default}){about}")
    return lines


def _row(spec: MetricSpec) -> tuple[str, ...]:
    low, high = spec.value_range
    notes = [
        spec.description,
        *([] if (low, high) == (0, 1) else [f"Its own scale is {low:g} to {high:g}."]),
        *([] if spec.higher_is_better else ["Lower is better; the score is turned round."]),
        *([f"**Not available:** {spec.unavailable}."] if spec.unavailable else []),
    ]
    needs = _needs(spec)
    fields = ", ".join(f"`{field}`" for field in spec.required)
    parameters = "<br>".join(map(_parameter, spec.parameters))
    return (f"`{spec.full_name}`", _cell(" ".join(notes)), ", ".join(needs) or "-", fields or "-", parameters or "-")


def _parameter(parameter: Parameter) -> str:
    default = "required" if parameter.required else f"default `{_short(parameter.default)}`"
    about = f": {parameter.description}" if parameter.description else ""
    return f"`{parameter.name}` ({_cell(_short(parameter.type))}, {_cell(default)}){_cell(about)}"


def _short(value: object, limit: int = 60) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
