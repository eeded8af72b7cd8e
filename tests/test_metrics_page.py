"""`docs/metrics.md` says what the metrics say of themselves."""

from __future__ import annotations

from pathlib import Path

from testbench.metrics.catalogue import table, updated
from testbench.metrics.protocol import MetricSpec, Parameter
from testbench.metrics.registry import GenericMetricsRegistry

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"


def test_the_page_is_in_step_with_the_metrics() -> None:
    page = PAGE.read_text()
    assert page == updated(page, GenericMetricsRegistry().specs()), "run python -m testbench.metrics.catalogue"


def test_a_table_cannot_be_broken_by_a_spec() -> None:
    spec = MetricSpec("f", "M", "a | b <script>", parameters=(Parameter("p", "int | str", default="x|y"),))
    row = table([spec]).splitlines()[2]
    assert row.replace("\\|", "").count("|") == 6
    assert "<script" not in row
