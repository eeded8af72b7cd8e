"""The setup phase as tests call it: a dataset in a file, an experiment out of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import settings

from testbench.schema.models import Experiment, Step
from testbench.sources.dataset import SetupOptions, load_experiment
from testbench.sources.location import parse_location

law = settings(deadline=None, max_examples=60)
"""For a property test: no verdict by the clock, and enough examples for one run among many."""


def loaded(path: Path, **choices: Any) -> Experiment:
    """The experiment that setup makes of a file."""
    return load_experiment(parse_location(str(path)), SetupOptions(**choices), {})


def file_of(folder: Path, name: str, content: str | bytes) -> Path:
    """A file with this content."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def json_of(folder: Path, document: Any, name: str = "rows.json") -> Path:
    """A JSON file."""
    return file_of(folder, name, json.dumps(document))


def parquet_of(folder: Path, rows: Sequence[dict[str, Any]], schema: pa.Schema | None = None) -> Path:
    """A Parquet file."""
    pq.write_table(pa.Table.from_pylist(list(rows), schema), folder / "rows.parquet")
    return folder / "rows.parquet"


def steps_of(experiment: Experiment) -> list[Step]:
    """Every step, in order."""
    return [step for scenario in experiment.scenarios for step in scenario.steps]
