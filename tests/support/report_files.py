"""Reports for tests: from an experiment to the page, without a process and without a file between."""

from __future__ import annotations

from pathlib import Path

from testbench.gating.decision import reach_verdict
from testbench.report.render import render_report
from testbench.report.report_rows import TraceLinks
from testbench.report.view import Labels
from testbench.results.comparison import Baseline
from testbench.results.verdict import Policy
from testbench.schema.models import EvaluatedExperiment

TRACES = TraceLinks("https://traces.example/{trace_id}?span={span_id}")


def report(
    experiment: EvaluatedExperiment,
    *,
    workflow: str = "travel-desk-nightly",
    baseline: Baseline | None = None,
    policy: Policy | None = None,
) -> bytes:
    """The page as `visualize.py` writes it."""
    verdict = reach_verdict(experiment, policy or Policy())
    labels = Labels(workflow, f"exec-{workflow}", 42)
    return render_report(experiment, verdict, labels, baseline=baseline, links=TRACES)


def report_file(folder: Path, experiment: EvaluatedExperiment, **more: object) -> Path:
    """The same as a file."""
    path = folder / "report.html"
    path.write_bytes(report(experiment, **more))  # type: ignore[arg-type]  # handed through as given
    return path
