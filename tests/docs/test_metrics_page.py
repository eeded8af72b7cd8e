"""`docs/metrics.md` says what the metrics say of themselves."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

from testbench.cli.reference import updated
from testbench.metrics.catalogue import markdown_table
from testbench.metrics.protocol import MetricSpec, Parameter
from testbench.metrics.registry import GenericMetricsRegistry
from tests.support.metric_samples import metric, sample

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGE = DOCS / "metrics.md"


def test_the_page_is_in_step_with_the_metrics() -> None:
    page = PAGE.read_text()
    assert page == updated(page, ROOT), "run make schema"


def test_a_table_cannot_be_broken_by_a_spec() -> None:
    spec = MetricSpec("f", "M", "a | b <script>", parameters=(Parameter("p", "int | str", default="x|y"),))
    row = markdown_table([spec]).splitlines()[2]
    assert row.replace("\\|", "").count("|") == 6
    assert "<script" not in row


async def test_the_pages_own_framework_works() -> None:
    _, _, code = PAGE.read_text().partition("    from testbench.metrics.adapter import")
    block = re.split(r"\n\n(?=\S)", f"    from testbench.metrics.adapter import{code}")[0]
    await check_calm(textwrap.dedent(block))


async def test_the_guides_own_metric_works() -> None:
    guide = (DOCS / "how-to" / "own-metric.md").read_text()
    code = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)[0]
    spec = await check_calm(code)
    assert spec.parameters == (Parameter("limit", "int", default=3, description="Question marks that are allowed."),)
    assert (spec.description, spec.required) == ("The answer asks little.", ("response",))


async def check_calm(code: str) -> MetricSpec:
    """Use the framework that a page shows."""
    found: dict[str, Any] = {"__name__": "shown"}
    exec(code, found)
    registry = GenericMetricsRegistry({"mine": found["MyAdapter"]})
    ready = registry.prepare(metric("mine.Calm", limit=0), None)
    assert (await ready.call(sample("Is it?"))).score == 0.0
    assert (await ready.call(sample("It is."))).score == 1.0
    return ready.spec
