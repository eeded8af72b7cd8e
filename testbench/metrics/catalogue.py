"""The tables of `docs/metrics.md`, from the metrics' own specs; a test holds the page in step.

Run as `python -m testbench.metrics.catalogue docs/metrics.md`. The table of an optional framework that is not installed
stays as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from testbench.metrics.protocol import MetricSpec, Parameter
from testbench.metrics.registry import GenericMetricsRegistry
from testbench.schema.files import write_bytes

HEADINGS = ("metric", "what it says", "needs", "of the sample", "parameters")


def updated(page: str, specs: Iterable[MetricSpec]) -> str:
    """The page with the table of each framework that has specs, between its two marks."""
    tables: dict[str, list[MetricSpec]] = {}
    for spec in specs:
        tables.setdefault(spec.framework, []).append(spec)
    for framework, found in tables.items():
        begin, end = f"<!-- begin {framework} -->\n", f"<!-- end {framework} -->"
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(end)
        page = f"{before}{begin}{table(found)}{end}{after}"
    return page


def table(specs: Iterable[MetricSpec]) -> str:
    """A Markdown table with a line for each metric."""
    lines = [HEADINGS, ("---",) * len(HEADINGS), *map(_row, specs)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _row(spec: MetricSpec) -> tuple[str, ...]:
    low, high = spec.value_range
    notes = [
        spec.description,
        *([] if (low, high) == (0, 1) else [f"Its own scale is {low:g} to {high:g}."]),
        *([] if spec.higher_is_better else ["Lower is better; the score is turned round."]),
        *([f"**Not available:** {spec.unavailable}."] if spec.unavailable else []),
    ]
    needs = [word for word, needed in (("LLM", spec.needs_llm), ("embeddings", spec.needs_embeddings)) if needed]
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


def main(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    write_bytes(path, updated(page, GenericMetricsRegistry().specs()).encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
