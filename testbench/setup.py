"""Phase 1: a dataset becomes an experiment. Reads from the web, an object store or a path; writes experiment.json."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from testbench import defaults
from testbench.cli.options import option
from testbench.cli.phase import Outcome, main, phase

if TYPE_CHECKING:
    from testbench.schema.models import Experiment

log = logging.getLogger("testbench.setup")


@phase("setup", produces=lambda options: Path(options["output"]))
@click.argument("dataset")
@option(
    "--metric", multiple=True, metavar="NAME[=THRESHOLD]", help="Metric for every step that names none. Repeatable."
)
@option("--metrics", type=click.Path(path_type=Path), help="YAML or JSON file with a list of such metrics.")
@option("--model", help="Judge model; overrides an experiment's.")
@option(
    "--default-threshold",
    type=click.FloatRange(0, 1),
    help=f"Threshold of metrics without one; overrides an experiment's.  [default of rows: {defaults.THRESHOLD}]",
)
@option(
    "--scenario-column",
    default=defaults.SCENARIO_COLUMN,
    help="Rows with the same value in this column are the steps of one scenario.",
)
@option("--limit", type=click.IntRange(min=1), help="Take the first N rows, or scenarios of an experiment.")
@option("--output", type=click.Path(path_type=Path), default=defaults.EXPERIMENT_FILE, help="File to write.")
def command(**options: Any) -> Outcome:
    """Turn DATASET into the experiment that the next phases run.

    DATASET is a path, file://, http(s):// or s3://bucket/key, in CSV, Excel, JSON, JSON Lines or Parquet, or an
    experiment in JSON or YAML. Its one necessary column is user_input (or input).

    The store behind s3:// and its credentials come from AWS_* or MINIO_* variables.
    """
    from testbench.metrics.registry import GenericMetricsRegistry, place_metrics
    from testbench.schema.files import write_model
    from testbench.sources.dataset import SetupOptions, load_experiment
    from testbench.sources.location import parse_location
    from testbench.sources.metric_choice import read_chosen_metrics

    location = parse_location(options["dataset"])
    setup_options = SetupOptions(
        metrics=read_chosen_metrics(options["metric"], options["metrics"]),
        model=options["model"],
        default_threshold=options["default_threshold"],
        scenario_column=options["scenario_column"],
        limit=options["limit"],
    )
    experiment = load_experiment(location, setup_options, os.environ)
    GenericMetricsRegistry().check_names(place_metrics(experiment))
    _warn_of_unjudged_steps(experiment)
    write_model(options["output"], experiment)
    return _outcome(experiment, options["output"])


def _warn_of_unjudged_steps(experiment: Experiment) -> None:
    steps = [step for scenario in experiment.scenarios for step in scenario.steps]
    unjudged = sum(not step.metrics for step in steps)
    if unjudged == len(steps) and not any(scenario.metrics for scenario in experiment.scenarios):
        log.warning("no step and no scenario names a metric, so evaluate will have nothing to do: give --metric NAME")
    elif unjudged:
        log.warning("%d of %d steps name no metric and will not be judged by themselves", unjudged, len(steps))


def _outcome(experiment: Experiment, output: Path) -> Outcome:
    steps = [step for scenario in experiment.scenarios for step in scenario.steps]
    counts = sorted({len(step.metrics) for step in steps})
    each = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    names = {metric.metric_name for step in steps for metric in step.metrics}
    names |= {metric.metric_name for scenario in experiment.scenarios for metric in scenario.metrics}
    sentence = (
        f"{_counted(len(experiment.scenarios), 'scenario')} with {_counted(len(steps), 'step')} "
        f"and {each} {'metric' if each == '1' else 'metrics'} each -> {output}"
    )
    return Outcome(
        sentence,
        {
            "scenarios": len(experiment.scenarios),
            "steps": len(steps),
            "metrics": sorted(names),
            "output": str(output),
        },
    )


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


if __name__ == "__main__":
    sys.exit(main(command))
